"""A link with a rate and a delay, modelled inside the sending channel: shaping without root.

Bytes leave one after the other at the declared rate (the sender waits, as behind a full queue) and are handed to
the real socket only when their delay has passed, so the receiver needs to know nothing and no two clocks are
compared. What it is not: the rate counts the bytes of the stream, not Ethernet, IP and TCP headers; there is no
loss and no congestion control. Only for hosts of one machine, and verified by measurement like any shaper.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass

from paretopipe_runtime.transport.endpoint import send_all
from paretopipe_runtime.transport.errors import TransportError

_MSS_BYTES = 1448
_CHUNK_S = 0.002
# The sender runs this far ahead of the link, as into a device queue: a link that waited for a sleeping sender after
# every chunk would be idle for as long as sleeps overshoot, 3 % of the time at 5 Mbit/s.
_QUEUE_S = 0.010
_UNPACED_CHUNK_BYTES = 256 * 1024
# What a real sender could have unsent in its own socket buffer before send() blocks.
_BACKLOG_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class LinkSpec:
    """One direction of a link. Jitter is uniform in +-`jitter_s` and never reorders."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    rate_bit_s: float | None = None
    seed: int = 0


class ModelledLink:
    """Sends through a modelled link into a connected socket. One sender thread at a time may call `send`."""

    def __init__(self, sock: socket.socket, spec: LinkSpec) -> None:
        self._sock = sock
        self._spec = spec
        self._random = random.Random(spec.seed)  # noqa: S311 - jitter, not cryptography
        self._free_at_s = 0.0
        self._last_delivery_s = 0.0
        self._backlog: deque[tuple[float, bytes]] = deque()
        self._backlog_bytes = 0
        self._changed = threading.Condition()
        self._dropped = threading.Event()
        self._error: TransportError | None = None
        self._thread = threading.Thread(target=self._deliver, name="link-model", daemon=True)
        self._thread.start()

    def send(self, *parts: bytes | memoryview) -> None:
        """Queue the parts for delivery; returns when their last byte is about to leave (10 ms).

        Raises TransportError if an earlier delivery failed.
        """
        rate_bit_s = self._spec.rate_bit_s
        chunk_bytes = _UNPACED_CHUNK_BYTES if rate_bit_s is None else max(_MSS_BYTES, int(rate_bit_s / 8 * _CHUNK_S))
        # The header and the payload's first bytes share a chunk, as they would share a packet.
        head = b"".join(bytes(part) for part in parts[:-1])
        body = memoryview(parts[-1])
        room = max(0, chunk_bytes - len(head))
        self._leave(head + bytes(body[:room]))
        for start in range(room, len(body), chunk_bytes):
            self._leave(bytes(body[start : start + chunk_bytes]))

    def _leave(self, chunk: bytes) -> None:
        spec = self._spec
        now_s = time.monotonic()
        duration_s = 0.0 if spec.rate_bit_s is None else len(chunk) * 8 / spec.rate_bit_s
        self._free_at_s = max(now_s, self._free_at_s) + duration_s
        jitter_s = self._random.uniform(-spec.jitter_s, spec.jitter_s) if spec.jitter_s else 0.0
        arrival_s = max(self._free_at_s + max(0.0, spec.delay_s + jitter_s), self._last_delivery_s)
        self._last_delivery_s = arrival_s
        allowed = _BACKLOG_BYTES + int((spec.rate_bit_s or 0.0) / 8 * spec.delay_s)
        with self._changed:
            while self._backlog_bytes > allowed and not self._dropped.is_set():
                self._changed.wait()
            if self._dropped.is_set():
                raise self._error or TransportError("aborted", "the link is closed")
            self._backlog.append((arrival_s, chunk))
            self._backlog_bytes += len(chunk)
            self._changed.notify_all()
        wait_s = self._free_at_s - _QUEUE_S - time.monotonic()
        if wait_s > 0:
            self._dropped.wait(wait_s)

    def _deliver(self) -> None:
        while True:
            with self._changed:
                while not self._backlog and not self._dropped.is_set():
                    self._changed.wait()
                if self._dropped.is_set():
                    return
                arrival_s, chunk = self._backlog[0]
            wait_s = arrival_s - time.monotonic()
            if wait_s > 0 and self._dropped.wait(wait_s):
                return
            try:
                send_all(self._sock, chunk)
            except TransportError as error:
                self._drop(error)
                return
            with self._changed:
                self._backlog.popleft()
                self._backlog_bytes -= len(chunk)
                self._changed.notify_all()

    def _drop(self, error: TransportError | None) -> None:
        with self._changed:
            self._error = self._error or error
            self._dropped.set()
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything has been delivered. Raises TransportError if it could not be."""
        with self._changed:
            while self._backlog and not self._dropped.is_set():
                self._changed.wait()
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Stop at once; what is still on the way is lost, as when a cable is pulled."""
        self._drop(None)
        self._thread.join()
