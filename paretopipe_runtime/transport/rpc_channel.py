"""Sender and receiver over RPC, behind the same interface as the socket ones.

A message is a call of `deliver` at the next stage with the same checked header that sockets send and the tensor's
memory as it lies. Calls do not wait for their answers: on a path of 200 ms they are as many under way as credits
allow, like segments of TCP.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import torch

from paretopipe_runtime.transport.channel import Batch, Payload, payload_header, serialize, span
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import Header, Kind, StageTimes, encode
from paretopipe_runtime.transport.rpc_group import reason
from paretopipe_runtime.transport.rpc_inbox import Inbox

END_S = 60.0
_NOTHING = torch.empty(0, dtype=torch.uint8)

Done = Callable[[Any, Exception | None], None]


Call = Callable[[int, bytes, torch.Tensor, Done], None]
"""Calls the next stage, or the hub on the way to it, with a message: sequence number, header, payload. The last
argument is called from another thread when it is there. Raises TransportError if the call cannot begin."""


class RpcReceiver:
    """Takes batches from an inbox. RPC hands whole tensors over: when they began to arrive is not known (NaN)."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def recv(self) -> Batch | None:
        """The next batch, or None at the end of the stream."""
        header, flat, arrived_s = self._inbox.take()
        if header.kind is Kind.END:
            return None
        tensor = torch.as_strided(flat, header.shape, header.stride)
        return Batch(header.batch_id, tensor, header.stages, math.nan, arrived_s)

    def close(self) -> None:
        """Unblock a reader; what has arrived is dropped."""
        self._inbox.fail(TransportError("aborted", "stopped while waiting for a batch"))


class RpcSender:
    """Sends batches by RPC. `on_error` hears of calls that failed after `send` had returned."""

    def __init__(self, call: Call, peer: str, on_error: Callable[[TransportError], None]) -> None:
        self._call = call
        self._peer = peer
        self._on_error = on_error
        self._sequence = 0
        self._lock = threading.Lock()
        self._error: TransportError | None = None
        self.ended = False
        """Whether the end of the stream is on its way: the peer may leave as soon as it has it."""

    def serialize(self, tensor: torch.Tensor) -> Payload:
        """A view of the tensor's memory; RPC would send all of a storage that the tensor is only a part of."""
        payload = serialize(tensor)
        if tensor.untyped_storage().nbytes() == len(payload.data):
            return payload
        return serialize(torch.as_strided(span(tensor).clone(), tensor.shape, tensor.stride()))

    def send(
        self, batch_id: int, payload: Payload, stages: tuple[StageTimes, ...], release: Callable[[], None]
    ) -> None:
        """Begin to send one batch."""

        def done(refusal: str | None, error: Exception | None) -> None:
            release()
            self._settle(refusal, error)

        self._send(encode(payload_header(batch_id, payload, stages)), span(payload.tensor), done)

    def _send(self, raw_header: bytes, flat: torch.Tensor, done: Done) -> None:
        with self._lock:
            if self._error is not None:
                raise self._error
            sequence = self._sequence
            self._sequence += 1
        self._call(sequence, raw_header, flat, done)

    def _settle(self, refusal: str | None, error: Exception | None) -> None:
        if error is not None:
            self._fail(TransportError("peer-lost", f"sending to {self._peer} by RPC failed: {reason(error)}"))
        elif refusal is not None:
            self._fail(TransportError("bad-frame", f"{self._peer} refused: {refusal}", "rerun the cell"))

    def _fail(self, error: TransportError) -> None:
        with self._lock:
            first = self._error is None
            self._error = self._error or error
        if first:
            self._on_error(error)

    def end(self) -> None:
        """Tell the peer that no more batches follow; returns when it knows. Raises TransportError."""
        known = threading.Event()
        self.ended = True

        def done(refusal: str | None, error: Exception | None) -> None:
            self._settle(refusal, error)
            known.set()

        self._send(encode(Header(Kind.END)), _NOTHING, done)
        if not known.wait(END_S):
            raise TransportError("peer-lost", f"{self._peer} did not take the end of the stream within {END_S:.0f} s")
        with self._lock:
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Send nothing more; calls under way end by themselves, unheard."""
        with self._lock:
            self._error = self._error or TransportError("aborted", "stopped while sending")
