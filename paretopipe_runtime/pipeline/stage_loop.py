"""One stage at work: a receiver thread, the computation in the calling thread, a sender thread.

Computing overlaps receiving and sending; bounded queues between them keep at most two inputs and two finished
outputs in memory. Each part stamps what it did, so that every batch carries its own breakdown.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from paretopipe_runtime.pipeline.counters import Counters
from paretopipe_runtime.transport.channel import Batch, Receiver, Sender
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import StageTimes

Compute = Callable[[torch.Tensor], torch.Tensor]


class ComputeError(Exception):
    """The model's own code failed on a batch; carries the first line of what it said."""


@dataclass
class _Finished:
    batch: Batch
    queue_s: float
    exec_s: float
    kernel_s: float
    done_s: float


class _Stop(Exception):  # noqa: N818 - a signal between threads, not an error
    """Another part of the stage has failed."""


T = TypeVar("T")


class _Slots(Generic[T]):
    """A bounded queue that can be closed under a waiting reader or writer (queue.Queue cannot before Python 3.13).

    `capacity` 0 means no bound. None is the end of the stream.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T | None] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T | None) -> None:
        """Append as soon as there is room. Raises _Stop once closed."""
        with self._changed:
            while self._capacity and len(self._items) >= self._capacity and not self._closed:
                self._changed.wait()
            if self._closed:
                raise _Stop
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T | None:
        """Take the first item as soon as there is one. Raises _Stop once closed."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            if self._closed:
                raise _Stop
            self._changed.notify_all()
            return self._items.popleft()

    def close(self) -> None:
        """Wake everybody up; what is still inside is dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


class StageLoop:
    """Moves batches from `receiver` through `compute` to `sender` until the stream ends.

    `held_inputs` bounds the queue before the computation; 0 means that the receiver itself bounds it (the driver,
    by its credits). `counters` are read for every batch. A `compute` with an attribute `kernel_s` says by it how long
    an accelerator computed in its last call.
    """

    def __init__(
        self,
        receiver: Receiver,
        compute: Compute,
        sender: Sender,
        held_inputs: int = 1,
        counters: Counters | None = None,
    ) -> None:
        self._receiver = receiver
        self._compute = compute
        self._sender = sender
        self._counters = counters or Counters()
        self._inputs: _Slots[Batch] = _Slots(held_inputs)
        self._outputs: _Slots[_Finished] = _Slots(1)
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._stopping = False

    def run(self) -> None:
        """Run until the end of the stream. Raises what the first failing part raised, when all parts have ended."""
        threads = [
            threading.Thread(target=self._guarded, args=(self._receive,), name="stage-receiver", daemon=True),
            threading.Thread(target=self._guarded, args=(self._send,), name="stage-sender", daemon=True),
        ]
        for thread in threads:
            thread.start()
        self._guarded(self._work)
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def fail(self, error: Exception) -> None:
        """End the stage from outside; `run` raises `error` unless a part failed before."""
        with self._lock:
            first = not self._stopping
            self._stopping = True
            if self._error is None:
                self._error = error
        if first:
            self._inputs.close()
            self._outputs.close()
            self._receiver.close()
            self._sender.close()

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except _Stop:
            return
        except (TransportError, ComputeError) as error:
            self.fail(error)

    def _receive(self) -> None:
        while True:
            batch = self._receiver.recv()
            self._inputs.put(batch)
            if batch is None:
                return

    @torch.inference_mode()
    def _work(self) -> None:
        while True:
            batch = self._inputs.get()
            if batch is None:
                self._outputs.put(None)
                return
            start_s = time.monotonic()
            try:
                result = self._compute(batch.tensor)
            except (RuntimeError, ValueError, TypeError, IndexError, MemoryError) as error:
                raise ComputeError(str(error).strip().splitlines()[0] if str(error) else repr(error)) from error
            done_s = time.monotonic()
            release = batch.release
            if result.untyped_storage().data_ptr() != batch.tensor.untyped_storage().data_ptr():
                release()
                release = _nothing
            self._outputs.put(
                _Finished(
                    Batch(batch.batch_id, result, batch.stages, batch.recv_s, release=release),
                    start_s - batch.ready_s,
                    done_s - start_s,
                    getattr(self._compute, "kernel_s", math.nan),
                    done_s,
                ),
            )
            del batch, result

    def _send(self) -> None:
        while True:
            finished = self._outputs.get()
            if finished is None:
                self._sender.end()
                return
            self._forward(finished)
            del finished

    def _forward(self, finished: _Finished) -> None:
        batch = finished.batch
        start_s = time.monotonic()
        payload = self._sender.serialize(batch.tensor)
        now_s = time.monotonic()
        own = StageTimes(
            recv_s=batch.recv_s,
            queue_s=finished.queue_s,
            exec_s=finished.exec_s,
            out_queue_s=start_s - finished.done_s,
            serialize_s=now_s - start_s,
            clock_s=now_s,
            sent_bytes=len(payload.data),
            kernel_s=finished.kernel_s,
            **self._counters.read(),
        )
        self._sender.send(batch.batch_id, payload, (*batch.stages, own), batch.release)


def _nothing() -> None:
    return
