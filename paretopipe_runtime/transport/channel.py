"""What carries tensors between two neighbouring stages.

The stage loop knows only `Sender` and `Receiver`; sockets or RPC stand behind them. Tensors received by socket
lie in a small ring of buffers that is allocated once, for the largest payload agreed on, and is written by
recv_into: nothing is allocated or copied per batch.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from paretopipe_runtime.transport.endpoint import recv_at_least, send_all
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import (
    DTYPES,
    MAX_HEADER_BYTES,
    PREFIX_BEFORE_ID,
    PREFIX_BYTES,
    FrameError,
    Header,
    Kind,
    StageTimes,
    decode_prefix,
    decode_rest,
    encode,
    extent,
)
from paretopipe_runtime.transport.link_model import LinkSpec, ModelledLink


@dataclass(slots=True)
class Batch:
    """One batch on its way through the pipeline."""

    batch_id: int
    tensor: torch.Tensor
    stages: tuple[StageTimes, ...] = ()
    recv_s: float = 0.0
    ready_s: float = 0.0
    """Monotonic time at which the last byte was here."""
    release: Callable[[], None] = lambda: None
    """Gives the receive buffer back; the tensor must not be used afterwards."""


class Receiver(Protocol):
    """The incoming side of a stage."""

    def recv(self) -> Batch | None:
        """The next batch, or None when the stream has ended. Raises TransportError."""

    def close(self) -> None:
        """Unblock `recv` and give everything back."""


class Payload(NamedTuple):
    """A tensor made ready for sending: what the header needs, and its memory (kept alive by `tensor`)."""

    tensor: torch.Tensor
    dtype: str
    data: memoryview


class Sender(Protocol):
    """The outgoing side of a stage."""

    def serialize(self, tensor: torch.Tensor) -> Payload:
        """Make a tensor ready for sending; apart from `send`, so that its cost can be told from the network's."""

    def send(
        self, batch_id: int, payload: Payload, stages: tuple[StageTimes, ...], release: Callable[[], None]
    ) -> None:
        """Send a batch; `release` is called, perhaps later and by another thread, when its memory may be reused.

        Raises TransportError.
        """

    def end(self) -> None:
        """Tell the peer that the stream ends here."""

    def close(self) -> None:
        """Unblock `send` and give everything back."""


_DTYPE_NAMES = {getattr(torch, name): name for name in DTYPES}


def serialize(tensor: torch.Tensor) -> Payload:
    """The range of storage that a CPU tensor covers, without a copy. Raises TransportError for an unknown dtype."""
    name = _DTYPE_NAMES.get(tensor.dtype)
    if name is None:
        raise TransportError("bad-frame", f"tensors of {tensor.dtype} cannot be sent")
    if name != "bfloat16" and tensor.is_contiguous() and tensor.numel():
        return Payload(tensor, name, tensor.numpy().data.cast("B"))
    return Payload(tensor, name, span(tensor).view(torch.uint8).numpy().data)


def span(tensor: torch.Tensor) -> torch.Tensor:
    """The stretch of storage that a tensor covers, `[elements]`: what the wire carries, as a view."""
    covered = extent(tuple(tensor.shape), tensor.stride())
    return torch.as_strided(tensor, (covered,), (1,), tensor.storage_offset())


def payload_header(batch_id: int, payload: Payload, stages: tuple[StageTimes, ...]) -> Header:
    """The header of a tensor of any dense or strided layout."""
    shape, stride = tuple(payload.tensor.shape), payload.tensor.stride()
    return Header(Kind.TENSOR, batch_id, payload.dtype, shape, stride, len(payload.data), stages)


class _Buffer:
    """Memory for one payload; the tensor seen in it is made once per layout, because a stream has only one."""

    def __init__(self, nbytes: int, page_locked: bool) -> None:
        # Untouched memory costs nothing (unless it is page-locked): it becomes resident as far as payloads reach.
        self._memory = torch.empty(nbytes, dtype=torch.uint8, pin_memory=page_locked)
        self.data = self._memory.numpy().data
        self._layout: tuple[object, ...] = ()
        self._view = self._memory

    def view(self, header: Header) -> torch.Tensor:
        """The tensor that a header describes."""
        layout = header.dtype, header.shape, header.stride
        if layout != self._layout:
            flat = self._memory[: header.payload_bytes].view(getattr(torch, header.dtype))
            self._view, self._layout = torch.as_strided(flat, header.shape, header.stride), layout
        return self._view


def shut_down(sock: socket.socket) -> None:
    """End a connection both ways, waking threads that are blocked in it, and close it."""
    with contextlib.suppress(OSError):  # already gone, or never connected: closing is all that is left
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


class SocketReceiver:
    """Reads frames from a connected socket into a ring of preallocated buffers.

    `limit_bytes` is the largest payload that will be accepted; `buffers` bounds how many batches are held here.
    With `page_locked` they lie where a GPU fetches them without a copy in between.
    """

    def __init__(self, sock: socket.socket, limit_bytes: int, buffers: int = 2, *, page_locked: bool = False) -> None:
        self._sock = sock
        self._limit_bytes = limit_bytes
        # Frames of one stream have headers of one size: after the first, one system call reads the whole header.
        self._header = bytearray(MAX_HEADER_BYTES)
        self._header_view = memoryview(self._header)[:PREFIX_BYTES]
        self._ahead = b""
        # The start of the last tensor's header, all but its batch id: where the next one starts alike, its payload is
        # read at once and its header checked afterwards. Decoding in between costs several times its own time,
        # because the sender stalls while nobody reads.
        self._alike = b"none yet"
        self._alike_bytes = 0
        # The buffer given back last is taken first: it is the one that may still be in a cache.
        self._free = deque(_Buffer(limit_bytes, page_locked) for _ in range(buffers))
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        for _ in range(buffers):
            self._tokens.put(True)

    def recv_header(self) -> Header:
        """Read and check the next header. Raises TransportError (`bad-frame`, `peer-lost`)."""
        return self._rest_of_header(self._fill(self._header_view, PREFIX_BYTES))

    def _rest_of_header(self, have: int) -> Header:
        """Decode what begins in `self._header`, of which `have` bytes are there, and read what is missing of it."""
        try:
            prefix = decode_prefix(self._header[:PREFIX_BYTES], self._limit_bytes)
            size = PREFIX_BYTES + prefix.rest_bytes
            if have < size:
                self._fill(memoryview(self._header)[have:size], size - have)
            elif have > size:
                self._ahead = bytes(self._header[size:have])
            if len(self._header_view) != size:
                self._header_view = memoryview(self._header)[:size]
            return decode_rest(prefix, self._header[PREFIX_BYTES:size])
        except FrameError as error:
            raise TransportError("bad-frame", f"a frame was rejected: {error}", "rerun the cell") from error

    def _fill(self, view: memoryview, least: int) -> int:
        """Read at least `least` bytes, and no more than fit; returns how many."""
        if not self._ahead:
            return recv_at_least(self._sock, view, least)
        have = min(len(self._ahead), len(view))
        view[:have] = self._ahead[:have]
        self._ahead = self._ahead[have:]
        return have + recv_at_least(self._sock, view[have:], least - have) if have < least else have

    def recv_control(self) -> Header:
        """The next header; its payload, if any, is read into the first buffer and dropped."""
        header = self.recv_header()
        if header.payload_bytes:
            self._give_back(self._read_payload(header.payload_bytes))
        return header

    def _read_payload(self, nbytes: int) -> _Buffer:
        buffer = self._take_buffer()
        self._fill(buffer.data[:nbytes], nbytes)
        return buffer

    def _take_buffer(self) -> _Buffer:
        if not self._tokens.get():
            raise TransportError("aborted", "stopped while waiting for a free buffer")
        return self._free.pop()

    def _give_back(self, buffer: _Buffer) -> None:
        self._free.append(buffer)
        self._tokens.put(True)

    def recv(self) -> Batch | None:
        """The next batch, or None at the end of the stream."""
        buffer = self._take_buffer()
        view = buffer.data[: self._alike_bytes]
        have = self._fill(self._header_view, PREFIX_BYTES)
        start_s = time.monotonic()
        if have == len(self._header_view) and self._header.startswith(self._alike) and not self._ahead:
            self._receive(view)
            ready_s = time.monotonic()
            header = self._rest_of_header(have)
        else:
            header = self._rest_of_header(have)
            if header.kind is not Kind.TENSOR:
                self._give_back(buffer)
                if header.kind is Kind.END:
                    return None
                raise TransportError("bad-frame", f"a {header.kind.name} frame came where a tensor was expected")
            self._alike, self._alike_bytes = bytes(self._header[:PREFIX_BEFORE_ID]), header.payload_bytes
            self._receive(buffer.data[: header.payload_bytes])
            ready_s = time.monotonic()
        return Batch(
            header.batch_id,
            buffer.view(header),
            header.stages,
            ready_s - start_s,
            ready_s,
            lambda: self._give_back(buffer),
        )

    def _receive(self, view: memoryview) -> None:
        """Read a tensor's payload."""
        self._fill(view, len(view))

    def close(self) -> None:
        """Unblock a reader and close the connection."""
        self._tokens.put(False)
        shut_down(self._sock)


class SocketSender:
    """Writes frames to a connected socket, through a modelled link where one is given."""

    def __init__(self, sock: socket.socket, link: LinkSpec | None = None) -> None:
        self._sock = sock
        self._link = ModelledLink(sock, link) if link is not None else None

    def _send(self, *parts: bytes | memoryview) -> None:
        if self._link is None:
            send_all(self._sock, *parts)
        else:
            self._link.send(*parts)

    def serialize(self, tensor: torch.Tensor) -> Payload:
        """A view of the tensor's memory."""
        return serialize(tensor)

    def send(
        self, batch_id: int, payload: Payload, stages: tuple[StageTimes, ...], release: Callable[[], None]
    ) -> None:
        """Send one frame."""
        self._send(encode(payload_header(batch_id, payload, stages)), payload.data)
        release()

    def send_control(self, kind: Kind, batch_id: int = 0, payload: bytes | memoryview = b"") -> None:
        """Send a frame that carries no tensor (end, ping, bulk)."""
        header = encode(Header(kind, batch_id, payload_bytes=len(payload)))
        self._send(header, payload)

    def end(self) -> None:
        """Tell the peer that no more batches follow; returns when that is on its way for good."""
        self.send_control(Kind.END)
        if self._link is not None:
            self._link.flush()

    def close(self) -> None:
        """Close the connection; what a modelled link still holds is dropped."""
        shut_down(self._sock)
        if self._link is not None:
            self._link.close()
