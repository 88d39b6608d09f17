"""Tensors over a real socket pair: bits, strides, buffers, and what a damaged stream does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import torch

from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import Header, Kind, StageTimes, encode

TIMES = StageTimes(*range(len(StageTimes._fields)))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    yield one, two
    one.close()
    two.close()


def send(sender: SocketSender, tensor: torch.Tensor, batch_id: int = 0) -> threading.Thread:
    thread = threading.Thread(target=lambda: sender.send(batch_id, sender.serialize(tensor), (TIMES,), lambda: None))
    thread.start()
    return thread


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, 4, 5),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(2, 6, 7).transpose(1, 2),
        torch.randn(5, 1).expand(5, 4),
        torch.randn(8, 8)[2:5, 1:7:2],
        torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8),
        torch.randn(3, 3).to(torch.bfloat16),
        torch.tensor(3.5),
        torch.empty(0, 4),
    ],
    ids=["contiguous", "channels_last", "transposed", "expanded", "sliced", "uint8", "bfloat16", "scalar", "empty"],
)
def test_bits_and_strides_survive(pair: tuple[socket.socket, socket.socket], tensor: torch.Tensor) -> None:
    thread = send(SocketSender(pair[0]), tensor, 7)
    batch = SocketReceiver(pair[1], 1 << 20).recv()
    thread.join()
    assert batch is not None
    assert torch.equal(batch.tensor, tensor)
    assert batch.tensor.stride() == tensor.stride()
    assert batch.tensor.dtype == tensor.dtype
    assert (batch.batch_id, batch.stages) == (7, (TIMES,))


def test_buffers_are_reused_and_bound_what_is_held(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = SocketSender(pair[0]), SocketReceiver(pair[1], 4096, buffers=2)
    threads = [send(sender, torch.full((16,), float(k)), k) for k in range(1)]
    first = receiver.recv()
    threads.append(send(sender, torch.zeros(16)))
    second = receiver.recv()
    assert first is not None
    assert second is not None
    addresses = {first.tensor.data_ptr(), second.tensor.data_ptr()}
    assert len(addresses) == 2
    first.release()
    threads.append(send(sender, torch.ones(16)))
    third = receiver.recv()
    assert third is not None
    assert third.tensor.data_ptr() in addresses
    for thread in threads:
        thread.join()


def test_end_of_stream(pair: tuple[socket.socket, socket.socket]) -> None:
    SocketSender(pair[0]).end()
    assert SocketReceiver(pair[1], 16).recv() is None


def test_oversized_payload_is_refused_before_it_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(encode(Header(Kind.BULK, payload_bytes=2**60)))
    with pytest.raises(TransportError, match=str(2**60)) as caught:
        SocketReceiver(pair[1], 1024).recv()
    assert caught.value.kind == "bad-frame"


def test_garbage_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(b"GET /index.html HTTP/1.0\r\n\r\n" * 4)
    with pytest.raises(TransportError, match="not a ParetoPipe frame") as caught:
        SocketReceiver(pair[1], 1024).recv()
    assert caught.value.kind == "bad-frame"


def test_a_peer_that_leaves_in_the_middle_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    whole = encode(Header(Kind.TENSOR, 0, "uint8", (100,), (1,), 100))
    pair[0].sendall(whole + b"x" * 40)
    pair[0].close()
    with pytest.raises(TransportError) as caught:
        SocketReceiver(pair[1], 1024).recv()
    assert caught.value.kind == "peer-lost"


def test_a_stream_whose_tensors_change(pair: tuple[socket.socket, socket.socket]) -> None:
    """Alike headers are read ahead of their check: sizes, shapes and frames between must not confuse it."""
    tensors = [torch.randn(*shape) for shape in ((4, 6), (4, 6), (6, 4), (4, 6), (2, 2), (2, 2), (4, 6), (1, 2, 3))]
    sender, receiver = SocketSender(pair[0]), SocketReceiver(pair[1], 4096, buffers=2)
    for index, tensor in enumerate(tensors):
        sender.send(index, sender.serialize(tensor), (TIMES,) * (index % 3), lambda: None)
    sender.end()
    for index, tensor in enumerate(tensors):
        batch = receiver.recv()
        assert batch is not None
        assert (batch.batch_id, len(batch.stages)) == (index, index % 3)
        assert torch.equal(batch.tensor, tensor)
        batch.release()
    assert receiver.recv() is None


@pytest.mark.parametrize("position", range(20, 28 + 32 + 8))
def test_a_damaged_header_that_begins_like_the_last_one_is_refused(
    pair: tuple[socket.socket, socket.socket], position: int
) -> None:
    tensor = torch.randn(4, 6)
    sender, receiver = SocketSender(pair[0]), SocketReceiver(pair[1], 4096)
    sender.send(1, sender.serialize(tensor), (TIMES,), lambda: None)
    first = receiver.recv()
    assert first is not None
    first.release()
    header = bytearray(encode(Header(Kind.TENSOR, 2, "float32", (4, 6), (6, 1), 96, (TIMES,))))
    header[position] ^= 0x10
    pair[0].sendall(bytes(header) + bytes(96))
    with pytest.raises(TransportError) as caught:
        receiver.recv()
    assert caught.value.kind == "bad-frame"
