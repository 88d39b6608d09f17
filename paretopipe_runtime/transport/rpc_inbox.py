"""What RPC calls on a host: where the messages of a cell arrive, in whatever order its threads bring them.

Every hop of a cell has a token that only holders of the cell's secret can compute. The driver ends a cell by
hanging up while batches are still on their way; with a group of connections that outlives the cell, those arrive
afterwards, and are dropped because nobody knows their token any more.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import PREFIX_BYTES, FrameError, Header, Kind, decode_prefix, decode_rest
from paretopipe_runtime.transport.handshake import secret_bytes

MAX_WAITING = 1024
"""Messages that an inbox holds. Credits keep far below it; what would exceed it does not come from a driver of ours."""


def hop_token(secret: str, before: int, after: int) -> str:
    """The name of the hop between two stages of the cell that `secret` belongs to."""
    hop = f"rpc-hop {before}->{after}".encode()
    return hmac.new(secret_bytes(secret), hop, hashlib.sha256).hexdigest()[:32]


class Arrival(NamedTuple):
    """One message, checked; `payload` is one-dimensional and of the header's dtype."""

    header: Header
    payload: torch.Tensor
    arrived_s: float


class Inbox:
    """The messages of one hop, given out in the order of their sequence numbers.

    RPC's threads put, one receiver takes. `limit_bytes` is the largest payload that is accepted. `peak` is the most
    messages that were ever held at once.
    """

    def __init__(self, limit_bytes: int, capacity: int = MAX_WAITING) -> None:
        self._limit_bytes = limit_bytes
        self._capacity = capacity
        self._waiting: dict[int, Arrival] = {}
        self._next = 0
        self._changed = threading.Condition()
        self._error: TransportError | None = None
        self.peak = 0
        self.ended = False
        """Whether the end of the stream has come in: nothing is missing if the peer leaves now."""

    def put(self, sequence: int, raw_header: bytes, payload: torch.Tensor) -> str | None:
        """Take a message; returns why it is refused, which also fails the receiver, or None."""
        arrived_s = time.monotonic()
        try:
            arrival = Arrival(_checked(raw_header, payload, self._limit_bytes), payload, arrived_s)
        except FrameError as error:
            return self._refuse(f"a message was rejected: {error}")
        with self._changed:
            if self._error is not None:
                return None
            if len(self._waiting) < self._capacity and sequence >= self._next and sequence not in self._waiting:
                self._waiting[sequence] = arrival
                self.peak = max(self.peak, len(self._waiting))
                self.ended = self.ended or arrival.header.kind is Kind.END
                self._changed.notify()
                return None
        return self._refuse(f"message {sequence} came twice, or {self._capacity} are waiting already")

    def _refuse(self, reason: str) -> str:
        self.fail(TransportError("bad-frame", reason, "rerun the cell"))
        return reason

    def take(self) -> Arrival:
        """The next message in order. Raises TransportError once the hop has failed or is closed."""
        with self._changed:
            while self._next not in self._waiting and self._error is None:
                self._changed.wait()
            self.check()
            arrival = self._waiting.pop(self._next)
            self._next += 1
            return arrival

    def check(self) -> None:
        """Raise TransportError if the hop has failed or is closed."""
        if self._error is not None:
            raise self._error

    def fail(self, error: TransportError) -> None:
        """Make `take` raise `error`, unless something else came first; what is inside is dropped."""
        with self._changed:
            self._error = self._error or error
            self._waiting.clear()
            self._changed.notify_all()


def _checked(raw_header: bytes, payload: torch.Tensor, limit_bytes: int) -> Header:
    if not isinstance(raw_header, bytes) or len(raw_header) < PREFIX_BYTES:
        raise FrameError("its header is too short")
    prefix = decode_prefix(raw_header[:PREFIX_BYTES], limit_bytes)
    if len(raw_header) != PREFIX_BYTES + prefix.rest_bytes:
        raise FrameError(f"its header has {len(raw_header)} B, {PREFIX_BYTES + prefix.rest_bytes} B expected")
    header = decode_rest(prefix, raw_header[PREFIX_BYTES:])
    if header.kind not in (Kind.TENSOR, Kind.END):
        raise FrameError(f"a {header.kind.name} message came where a tensor was expected")
    fits = isinstance(payload, torch.Tensor) and payload.dim() == 1 and payload.nbytes == header.payload_bytes
    if not fits or (header.payload_bytes and payload.dtype is not getattr(torch, header.dtype)):
        raise FrameError("its tensor is not what its header says")
    return header


class Relay:
    """A hop that goes through this host without ending here: messages are passed on as they come.

    `pass_on(token, sequence, header, payload)` calls the destination and returns at once.
    """

    def __init__(self, pass_on: Callable[[str, int, bytes, torch.Tensor], None]) -> None:
        self._pass_on = pass_on
        self._lock = threading.Lock()
        self.passed_bytes = 0

    def put(self, token: str, sequence: int, raw_header: bytes, payload: torch.Tensor) -> None:
        """Pass one message on; its order is restored where it ends."""
        with self._lock:
            self.passed_bytes += payload.nbytes
        self._pass_on(token, sequence, raw_header, payload)


# RPC finds these functions, and they find the cell, by name: a process has one RPC agent and runs one cell.
_lock = threading.Lock()
_inboxes: dict[str, Inbox] = {}
_relays: dict[str, Relay] = {}


def register(token: str, end: Inbox | Relay) -> None:
    """Accept messages of a hop from now on."""
    with _lock:
        if isinstance(end, Inbox):
            _inboxes[token] = end
        else:
            _relays[token] = end


def unregister(token: str) -> None:
    """Drop messages of a hop from now on."""
    with _lock:
        _inboxes.pop(token, None)
        _relays.pop(token, None)


def deliver(token: str, sequence: int, raw_header: bytes, payload: torch.Tensor) -> str | None:
    """Called by the sending stage; returns why the message is refused, or None. Never waits."""
    inbox = _inboxes.get(token)
    return None if inbox is None else inbox.put(sequence, raw_header, payload)


def relay(token: str, sequence: int, raw_header: bytes, payload: torch.Tensor) -> None:
    """Called by the sending stage at the hub. Never waits."""
    end = _relays.get(token)
    if end is not None:
        end.put(token, sequence, raw_header, payload)
