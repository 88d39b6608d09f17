"""The modelled link delays and paces. Wide bounds: the machine is shared."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.link_model import LinkSpec, ModelledLink


def transfer(spec: LinkSpec, nbytes: int) -> tuple[float, float, bytes, bytes]:
    """First and last arrival after the start, what was sent, what arrived."""
    one, two = socket.socketpair()
    link = ModelledLink(one, spec)
    sent = bytes(k % 251 for k in range(nbytes))
    start_s = time.monotonic()
    thread = threading.Thread(target=link.send, args=(b"head", memoryview(sent)))
    thread.start()
    arrived, first_s = b"", 0.0
    while len(arrived) < nbytes + 4:
        arrived += two.recv(1 << 16)
        first_s = first_s or time.monotonic() - start_s
    last_s = time.monotonic() - start_s
    thread.join()
    link.close()
    one.close()
    two.close()
    return first_s, last_s, b"head" + sent, arrived


def test_rate_and_delay() -> None:
    first_s, last_s, sent, arrived = transfer(LinkSpec(delay_s=0.1, rate_bit_s=5e6), 125_000)
    assert arrived == sent
    assert 0.1 <= first_s < 0.15
    assert 0.3 <= last_s < 0.4  # 0.1 + 125,000 B * 8 / 5 Mbit/s


def test_delay_without_rate() -> None:
    first_s, last_s, sent, arrived = transfer(LinkSpec(delay_s=0.1), 600_000)
    assert arrived == sent
    assert 0.1 <= first_s < 0.15
    assert last_s < 0.2


def test_jitter_never_reorders_and_stays_within_its_bounds() -> None:
    first_s, last_s, sent, arrived = transfer(LinkSpec(delay_s=0.05, jitter_s=0.04, rate_bit_s=20e6, seed=3), 50_000)
    assert arrived == sent
    assert first_s >= 0.01
    assert last_s < 0.05 + 0.04 + 0.02 + 0.05


def test_closing_wakes_a_sender_and_drops_the_rest() -> None:
    one, two = socket.socketpair()
    link = ModelledLink(one, LinkSpec(delay_s=5.0, rate_bit_s=1e6))
    threading.Timer(0.1, link.close).start()
    start_s = time.monotonic()
    with pytest.raises(TransportError):
        link.send(b"", memoryview(bytes(1_000_000)))
    assert time.monotonic() - start_s < 2
    one.close()
    two.close()


def test_a_lost_peer_surfaces_in_the_sender() -> None:
    one, two = socket.socketpair()
    link = ModelledLink(one, LinkSpec(rate_bit_s=50e6))
    two.close()

    def send_on() -> None:
        for _ in range(200):
            link.send(b"", memoryview(bytes(20_000)))

    with pytest.raises(TransportError) as caught:
        send_on()
    assert caught.value.kind == "peer-lost"
    link.close()
    one.close()
