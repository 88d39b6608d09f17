"""Source and sink of the batches, on the first stage's host, and the one clock.

Credits bound the batches in flight: a batch is handed to stage 1 when fewer than D are under way, which is when
its latency starts, and its result gives the credit back. Depths are measured in rising order without
draining in between: the D completions after a rise still belong to the filling of the pipeline and are not counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from paretopipe_runtime.pipeline.inputs import Input
from paretopipe_runtime.pipeline.window import Completion, Window, WindowPlan, sample_rows, summarise
from paretopipe_runtime.transport.channel import Batch, Payload, Receiver, serialize
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import StageTimes


@dataclass(frozen=True)
class MeasurePlan:
    """What to measure in one visit to a cell."""

    depths: tuple[int, ...]
    window: WindowPlan
    warmup_batches: int
    batch_size: int


@dataclass(frozen=True)
class OutputCheck:
    """The pipeline's first result against the unsplit model's."""

    bitwise: bool
    max_rel_err: float


def compare_outputs(result: torch.Tensor, reference: torch.Tensor) -> OutputCheck:
    """Largest absolute difference relative to the reference's largest absolute value."""
    if result.shape != reference.shape or result.dtype != reference.dtype:
        return OutputCheck(False, float("inf"))
    if torch.equal(result, reference):
        return OutputCheck(True, 0.0)
    scale = reference.abs().max().item() or 1.0
    error = ((result - reference).abs().max() / scale).item()
    return OutputCheck(False, error if error == error else float("inf"))


class Driver:
    """Feeds a pipeline by credits and takes the measurements.

    It is the stage loop's `Receiver` (handing out batches) and, directly or through `collect`, gets the results.
    `on_window` gets every window's depth, figures and samples, and the output check; `on_done` is called when
    nothing more is to be measured.
    """

    def __init__(
        self,
        source: Input,
        plan: MeasurePlan,
        reference: torch.Tensor,
        on_window: Callable[[dict[str, Any], OutputCheck], None],
        on_done: Callable[[], None],
    ) -> None:
        if list(plan.depths) != sorted(set(plan.depths)):
            raise ValueError("depths must rise")
        self._source = source
        self._plan = plan
        self._reference = reference
        self._on_window = on_window
        self._on_done = on_done
        self._credit = threading.Condition()
        self._limit = plan.depths[0]
        self._in_flight = 0
        self._next_id = 0
        self._handed_s: dict[int, float] = {}
        self._closed = False
        # How many completions to let pass before the next window, and when that count started.
        self._skip = max(plan.warmup_batches, plan.depths[0])
        self._skipped = 0
        self._phase_start_s = 0.0
        self._pending = list(plan.depths)
        self._window: Window | None = None
        self._output: OutputCheck | None = None

    @property
    def finished(self) -> bool:
        """Whether every depth has been measured."""
        return not self._pending

    # The stage loop's receiving side -------------------------------------------------------------------------

    def recv(self) -> Batch | None:
        """Hand out the next batch as soon as there is a credit for it; None when the measurement is over."""
        with self._credit:
            while self._in_flight >= self._limit and not self._closed:
                self._credit.wait()
            if self._closed:
                return None
            batch_id = self._next_id
            self._next_id += 1
            self._in_flight += 1
            now_s = time.monotonic()
            self._handed_s[batch_id] = now_s
            if batch_id == 0:
                self._phase_start_s = now_s
        return Batch(batch_id, self._source.batch(batch_id), ready_s=now_s)

    def close(self) -> None:
        """Hand out nothing more."""
        with self._credit:
            self._closed = True
            self._credit.notify_all()

    # The results' side ---------------------------------------------------------------------------------------

    def collect(self, returned: Receiver) -> None:
        """Take results from the last stage until the stream ends. Raises TransportError if it breaks."""
        while True:
            batch = returned.recv()
            if batch is None:
                return
            self.completed(batch.batch_id, batch.tensor, batch.stages, batch.ready_s)
            batch.release()
            if self._closed:
                return

    def completed(self, batch_id: int, result: torch.Tensor, stages: tuple[StageTimes, ...], now_s: float) -> None:
        """Account for one result: give its credit back, and move through warm-up and windows."""
        if self._closed:
            return
        with self._credit:
            handed_s = self._handed_s.pop(batch_id, None)
            if handed_s is None:
                raise TransportError("bad-frame", f"a result came back for batch {batch_id}, which is not under way")
            self._in_flight -= 1
            self._credit.notify()
        if batch_id == 0:
            self._output = compare_outputs(result, self._reference)
        self._count(Completion(batch_id, now_s, now_s - handed_s, stages))

    def _count(self, completion: Completion) -> None:
        window = self._window
        if window is None:
            self._skipped += 1
            if self._skipped >= self._skip:
                self._window = Window(
                    self._pending[0], completion, self._skipped, completion.done_s - self._phase_start_s
                )
            return
        window.completions.append(completion)
        if self._plan.window.is_over(len(window.completions), window.duration_s):
            self._window = None
            self._close_window(window)

    def _close_window(self, window: Window) -> None:
        self._pending.pop(0)
        if self._pending:
            with self._credit:
                self._limit = self._pending[0]
                self._skip, self._skipped = self._limit, 0
                self._phase_start_s = time.monotonic()
                self._credit.notify_all()
        else:
            self.close()
        measured = summarise(window, self._plan.batch_size)
        if self._output is None:
            raise TransportError("bad-frame", "results came back, but none for the first batch")
        result = {"depth": window.depth, "measured": measured, "samples": sample_rows(window)}
        self._on_window(result, self._output)
        if not self._pending:
            self._on_done()


class LocalSink:
    """The sending side of a pipeline of one stage: the result is already at the driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def serialize(self, tensor: torch.Tensor) -> Payload:
        """A view, as on the wire."""
        return serialize(tensor)

    def send(
        self, batch_id: int, payload: Payload, stages: tuple[StageTimes, ...], release: Callable[[], None]
    ) -> None:
        """Hand the result over."""
        self._driver.completed(batch_id, payload.tensor, stages, time.monotonic())
        release()

    def end(self) -> None:
        """Nothing is behind this stage."""

    def close(self) -> None:
        """Nothing to give back."""
