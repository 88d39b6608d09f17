"""Bandwidth from arrivals, and the probe over a real socket pair."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.link_model import LinkSpec
from paretopipe_runtime.transport.probe import FRAME_BYTES, probe, serve, slope


def test_slope_leaves_out_the_slow_start() -> None:
    slow = [(0.1 * k, 1000 * k) for k in range(1, 6)]
    fast = [(0.5 + 0.01 * k, 5000 + 1000 * k) for k in range(1, 16)]
    received = slope(slow + fast)
    assert received.bandwidth_bit_s == pytest.approx(1000 * 8 / 0.01)
    assert received.nbytes == 15_000


def test_too_little_to_measure_is_an_error() -> None:
    with pytest.raises(TransportError):
        slope([(1.0, 10), (1.1, 20)])


def test_a_shaped_path_is_measured_as_declared() -> None:
    one, two = socket.socketpair()
    rate_bit_s = 8e6

    def prober() -> list[float]:
        sender = SocketSender(one, LinkSpec(delay_s=0.05, rate_bit_s=rate_bit_s))
        return probe(SocketReceiver(one, FRAME_BYTES, 1), sender, rate_bit_s)

    with ThreadPoolExecutor(2) as pool:
        served = pool.submit(serve, SocketReceiver(two, FRAME_BYTES, 1), SocketSender(two))
        round_trips_s = pool.submit(prober).result()
    assert len(round_trips_s) == 5
    assert min(round_trips_s) >= 0.05
    assert sorted(round_trips_s)[2] < 0.075
    assert served.result().bandwidth_bit_s == pytest.approx(rate_bit_s, rel=0.15)
    one.close()
    two.close()
