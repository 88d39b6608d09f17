"""One stage at work: a receiver thread, the computation in the calling thread, a sender thread.

Computing overlaps receiving and sending; bounded queues between them keep at most two inputs and two finished
outputs in memory. Each part stamps what it did, so that every batch carries its own breakdown.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from paretopipe_runtime.pipeline.process_stats import resident_bytes
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
    done_s: float


class _Stop(Exception):  # noqa: N818 - a signal between threads, not an error
    """Another part of the stage has failed."""


class StageLoop:
    """Moves batches from `receiver` through `compute` to `sender` until the stream ends.

    `held_inputs` bounds the queue before the computation; 0 means that the receiver itself bounds it (the driver,
    by its credits).
    """

    def __init__(self, receiver: Receiver, compute: Compute, sender: Sender, held_inputs: int = 1) -> None:
        self._receiver = receiver
        self._compute = compute
        self._sender = sender
        self._inputs: queue.Queue[Batch | None] = queue.Queue(held_inputs)
        self._outputs: queue.Queue[_Finished | None] = queue.Queue(1)
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
            self._receiver.close()
            self._sender.close()

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except _Stop:
            return
        except (TransportError, ComputeError) as error:
            self.fail(error)

    def _put(self, target: queue.Queue[Batch | None] | queue.Queue[_Finished | None], item: object) -> None:
        # Polling only matters once something has failed; in normal running put() wakes at once.
        while not self._stopping:
            try:
                target.put(item, timeout=0.2)  # type: ignore[arg-type]
            except queue.Full:
                continue
            return
        raise _Stop

    def _get(self, source: queue.Queue[Batch | None]) -> Batch | None:
        while not self._stopping:
            try:
                return source.get(timeout=0.2)
            except queue.Empty:
                continue
        raise _Stop

    def _receive(self) -> None:
        while True:
            batch = self._receiver.recv()
            self._put(self._inputs, batch)
            if batch is None:
                return

    @torch.inference_mode()
    def _work(self) -> None:
        while True:
            batch = self._get(self._inputs)
            if batch is None:
                self._put(self._outputs, None)
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
            self._put(
                self._outputs,
                _Finished(
                    Batch(batch.batch_id, result, batch.stages, batch.recv_s, release=release),
                    start_s - batch.ready_s,
                    done_s - start_s,
                    done_s,
                ),
            )
            del batch, result

    def _send(self) -> None:
        while True:
            finished = self._get(self._outputs)  # type: ignore[arg-type]
            if finished is None:
                self._sender.end()
                return
            self._forward(finished)  # type: ignore[arg-type]
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
            cpu_time_s=time.process_time(),
            clock_s=now_s,
            rss_bytes=resident_bytes(),
            sent_bytes=len(payload.data),
        )
        self._sender.send(batch.batch_id, payload, (*batch.stages, own))
        batch.release()


def _nothing() -> None:
    return
