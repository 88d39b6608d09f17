"""A hop over several TCP connections: payloads that one of them would need a second round trip for.

After an idle time a TCP connection starts again with its initial window of ten segments (RFC 5681, 4.1; RFC 6928):
what does not fit waits for an acknowledgement, a round trip later. A connection that paces (bbr) sends only its first
segments at once and the rest of the window over a fraction of the round trip. A payload that fits the initial windows
of all connections of a hop is therefore sliced over as many of them as it has segments for, no slice larger than one
window, and leaves at once: a hop's tensor and a pipeline's result alike (200 ms, bbr: a result of 4 kB takes 7 ms less
over two connections than over one, one of 32 kB takes 86 ms less over eight). A larger one goes over the first
connection alone: its window is still large from the batch before, while bursts of many would overrun the link's queue
and lose more than they gain (at 200 ms and 5 Mbit/s, cubic, batches 0.6 s apart: 64 kB take 409 ms over one connection
and 310 ms over five; 250 kB take 621 ms over one and 907 ms over the 16 of TensorPipe's mpt_uv).

Headers always take the first connection. Both ends know the slices from the size that the header announces.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from itertools import pairwise

from paretopipe_runtime.transport.channel import Payload, SocketReceiver, SocketSender, payload_header, shut_down
from paretopipe_runtime.transport.endpoint import recv_exactly
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import StageTimes, encode

SLICE_BYTES = 13_000
"""Nine segments of a path with Ethernet's MTU; the tenth is the header's."""
SEGMENT_BYTES = 1_300
"""What a slice has at least: a segment of such a path, also with tunnels and options in it."""
MAX_STREAMS = 64


def slices(nbytes: int, streams: int) -> list[slice]:
    """The parts of a payload of `nbytes`, one per connection that it takes."""
    if nbytes > streams * SLICE_BYTES:
        return [slice(0, nbytes)]
    count = max(1, min(streams, nbytes // SEGMENT_BYTES))
    ends = [nbytes * k // count for k in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


class StripedReceiver(SocketReceiver):
    """Reads headers and first slices from the first connection, the other slices from the others.

    One after the other: a slice is small enough for its connection's receive buffer, so none waits for another.
    """

    def __init__(
        self, socks: Sequence[socket.socket], limit_bytes: int, buffers: int = 2, *, page_locked: bool = False
    ) -> None:
        super().__init__(socks[0], limit_bytes, buffers, page_locked=page_locked)
        self._others = socks[1:]

    def _receive(self, view: memoryview) -> None:
        first, *rest = slices(len(view), 1 + len(self._others))
        super()._receive(view[first])
        for sock, part in zip(self._others, rest, strict=False):
            recv_exactly(sock, view[part])

    def close(self) -> None:
        """Unblock a reader and close all connections."""
        super().close()
        for sock in self._others:
            shut_down(sock)


class StripedSender(SocketSender):
    """Writes to several connections at once; one that is slow does not hold the others up."""

    def __init__(self, socks: Sequence[socket.socket]) -> None:
        super().__init__(socks[0])
        self._socks = list(socks)

    def send(
        self, batch_id: int, payload: Payload, stages: tuple[StageTimes, ...], release: Callable[[], None]
    ) -> None:
        """Send one frame."""
        parts = slices(len(payload.data), len(self._socks))
        header = encode(payload_header(batch_id, payload, stages))
        if len(parts) == 1:
            self._send(header, payload.data)
        else:
            first = header + bytes(payload.data[parts[0]])
            views = [memoryview(first), *(payload.data[part] for part in parts[1:])]
            _send_together(list(zip(self._socks, views, strict=False)))
        release()

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for sock in self._socks[1:]:
            shut_down(sock)


def _send_together(pending: list[tuple[socket.socket, memoryview]]) -> None:
    """Send every view on its own blocking socket. Raises TransportError (`peer-lost`) if a peer is gone."""
    try:
        while True:
            pending = [(sock, rest) for sock, view in pending if (rest := view[_sent(sock, view) :])]
            if not pending:
                return
            poll = select.poll()
            for sock, _ in pending:
                poll.register(sock, select.POLLOUT)
            poll.poll()
    except (OSError, ValueError) as error:  # ValueError: closed by another thread
        raise TransportError("peer-lost", f"the connection broke: {error}") from error


def _sent(sock: socket.socket, view: memoryview) -> int:
    try:
        return sock.send(view, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0
