"""A hop over several connections: where a payload goes, and that it comes back together."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import torch

from paretopipe_runtime.transport import connector
from paretopipe_runtime.transport.channel import Receiver, Sender
from paretopipe_runtime.transport.connector import Peer, Place, SocketConnector
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import StageTimes
from paretopipe_runtime.transport.link_model import LinkSpec
from paretopipe_runtime.transport.streams import SEGMENT_BYTES, SLICE_BYTES, StripedReceiver, StripedSender, slices

TIMES = StageTimes(*range(len(StageTimes._fields)))


@pytest.mark.parametrize(
    ("nbytes", "count"),
    [
        *[(0, 1), (1, 1), (SEGMENT_BYTES, 1), (2 * SEGMENT_BYTES - 1, 1), (2 * SEGMENT_BYTES, 2)],
        *[(4_000, 3), (4 * SEGMENT_BYTES, 4), (SLICE_BYTES, 4)],
        *[(4 * SLICE_BYTES, 4), (4 * SLICE_BYTES + 1, 1), (10**7, 1)],
    ],
)
def test_slices_cover_a_payload_and_leave_at_once_or_there_is_one(nbytes: int, count: int) -> None:
    parts = slices(nbytes, 4)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == nbytes
    assert len(parts) == count
    if count > 1:
        assert all(SEGMENT_BYTES <= part.stop - part.start <= SLICE_BYTES for part in parts)


@pytest.fixture
def pairs() -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    ends = [socket.socketpair() for _ in range(4)]
    yield [one for one, _ in ends], [two for _, two in ends]
    for pair in ends:
        for sock in pair:
            sock.close()


def test_tensors_of_all_sizes_and_layouts_arrive_whole_and_in_order(
    pairs: tuple[list[socket.socket], list[socket.socket]],
) -> None:
    sender, receiver = StripedSender(pairs[0]), StripedReceiver(pairs[1], 1 << 20)
    tensors = [torch.randn(size) for size in (3, 5000, 5000, 13_000, 13_001, 200_000, 9999, 9999, 1)]
    tensors.append(torch.randn(2, 16, 20, 20).to(memory_format=torch.channels_last))
    tensors.append(torch.empty(0, 4))

    def send_all() -> None:
        for index, tensor in enumerate(tensors):
            sender.send(index, sender.serialize(tensor), (TIMES,) * (index % 3), lambda: None)
        sender.end()

    thread = threading.Thread(target=send_all)
    thread.start()
    for index, tensor in enumerate(tensors):
        batch = receiver.recv()
        assert batch is not None
        assert (batch.batch_id, len(batch.stages)) == (index, index % 3)
        assert torch.equal(batch.tensor, tensor)
        assert batch.tensor.stride() == tensor.stride()
        batch.release()
    assert receiver.recv() is None
    thread.join()


def test_a_full_connection_does_not_hold_the_others_up(
    pairs: tuple[list[socket.socket], list[socket.socket]],
) -> None:
    """The second connection takes nothing more; the slices of the third and fourth arrive nevertheless."""
    sender = StripedSender(pairs[0])
    tensor = torch.arange(12_000, dtype=torch.int32)
    parts = slices(tensor.nbytes, 4)
    assert len(parts) == 4
    with contextlib.suppress(BlockingIOError):
        while True:
            pairs[0][1].send(bytes(1 << 16), socket.MSG_DONTWAIT)
    errors: list[TransportError] = []

    def send() -> None:
        try:
            sender.send(0, sender.serialize(tensor), (), lambda: None)
        except TransportError as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    raw = tensor.numpy().tobytes()
    for index in (3, 2):
        pairs[1][index].settimeout(5)
        part = parts[index]
        assert pairs[1][index].recv(part.stop - part.start, socket.MSG_WAITALL) == raw[part]
    assert thread.is_alive()
    sender.close()  # and a blocked sender is woken
    thread.join(5)
    assert [error.kind for error in errors] == ["peer-lost"]


def test_a_peer_that_leaves_is_noticed_on_any_connection(
    pairs: tuple[list[socket.socket], list[socket.socket]],
) -> None:
    sender, receiver = StripedSender(pairs[0]), StripedReceiver(pairs[1], 1 << 20)
    for sock in pairs[1][2:]:
        sock.close()
    with pytest.raises(TransportError) as caught:
        sender.send(0, sender.serialize(torch.zeros(12_000)), (), lambda: None)
    assert caught.value.kind == "peer-lost"
    pairs[0][1].shutdown(socket.SHUT_RDWR)
    with pytest.raises(TransportError) as caught:
        receiver.recv()
    assert caught.value.kind == "peer-lost"


def place(index: int, streams: int = 4, secret: str = "ab" * 32, egress: LinkSpec | None = None) -> Place:
    return Place(f"host{index}", index, 2, secret, {}, "127.0.0.1", 0, 1 << 20, egress, streams)


def opened(near: SocketConnector, far: SocketConnector) -> list[tuple[Receiver, Sender] | TransportError]:
    """Both ends at once; what they got or what stopped them."""
    results: list[tuple[Receiver, Sender] | TransportError] = []

    def open_one(one: SocketConnector, other: SocketConnector) -> None:
        try:
            results.append(one.open(Peer("127.0.0.1", other.port)))
        except TransportError as error:
            results.append(error)
            one.close()

    thread = threading.Thread(target=open_one, args=(near, far))
    thread.start()
    open_one(far, near)
    thread.join()
    near.close()
    far.close()
    return results


def test_every_connection_of_a_hop_is_proven_and_counted() -> None:
    ends = opened(SocketConnector(place(0)), SocketConnector(place(1)))
    for end in ends:
        assert not isinstance(end, TransportError)
        receiver, sender = end
        assert isinstance(receiver, StripedReceiver)
        assert isinstance(sender, StripedSender)
        assert len(sender._socks) == 1 + len(receiver._others) == 4
    assert SocketConnector(place(0)).describe() == {"streams": 4}


def test_hosts_that_were_told_different_numbers_of_streams_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "HANDSHAKE_S", 2.0)
    errors = opened(SocketConnector(place(0, streams=1)), SocketConnector(place(1, streams=2)))
    assert all(isinstance(error, TransportError) for error in errors)
    assert any("streams differs" in str(error) for error in errors)


def test_the_link_model_has_one_stream() -> None:
    with pytest.raises(TransportError, match="models one connection"):
        SocketConnector(place(0, egress=LinkSpec(delay_s=0.1)))
