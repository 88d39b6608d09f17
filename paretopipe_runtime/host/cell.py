"""One cell on one host: its stage, its channels, and running it until the driver has what it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from paretopipe_runtime.pipeline.counters import Counters
from paretopipe_runtime.pipeline.driver import Driver, LocalSink, MeasurePlan, OutputCheck
from paretopipe_runtime.pipeline.inputs import Input
from paretopipe_runtime.pipeline.stage_loop import Compute, StageLoop
from paretopipe_runtime.transport.channel import Receiver, Sender
from paretopipe_runtime.transport.connector import Connector, Peer
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.link_model import LinkSpec

JsonObject = dict[str, Any]


class PreparedCell:
    """A stage that is built and listening. `drive` (the first) or `serve` (the others) runs it once.

    `connector` is None where the cell has one stage only, and nothing crosses a link.
    """

    def __init__(self, compute: Compute, connector: Connector | None, counters: Counters) -> None:
        self._compute = compute
        self._connector = connector
        self._counters = counters
        self._lock = threading.Lock()
        self._aborted = False
        self._loop: StageLoop | None = None

    @property
    def port(self) -> int | None:
        """The port that the stage before this one (for the driver: the last one) connects to."""
        return self._connector.port if self._connector else None

    def serve(self, peer: Peer, rendezvous: Peer | None = None) -> None:
        """Be a stage behind the driver until the stream ends. Raises TransportError or ComputeError."""
        assert self._connector is not None
        try:
            self._run(*self._connector.open(peer, rendezvous))
        finally:
            self.close()

    def drive(
        self,
        peer: Peer | None,
        rendezvous: Peer | None,
        source: Input,
        plan: MeasurePlan,
        reference: torch.Tensor,
        on_window: Callable[[JsonObject, OutputCheck], None],
    ) -> None:
        """Be the driver and the first stage: measure, then hang up. Raises TransportError or ComputeError.

        Hanging up instead of draining saves up to D batches per cell; the stages behind see the connection end.
        """
        driver = Driver(source, plan, reference, on_window, on_done=self._finish)
        try:
            if peer is None or self._connector is None:
                self._run(driver, LocalSink(driver), held_inputs=0)
            else:
                returned, sender = self._connector.open(peer, rendezvous)
                collector = threading.Thread(target=self._collect, args=(driver, returned), daemon=True)
                collector.start()
                try:
                    self._run(driver, sender, held_inputs=0)
                finally:
                    returned.close()
                    collector.join()
        except TransportError:
            if not driver.finished:
                raise
        finally:
            self.close()

    def _collect(self, driver: Driver, returned: Receiver) -> None:
        try:
            driver.collect(returned)
            if not driver.finished:
                self._fail(TransportError("peer-lost", "the last stage ended the stream before the measurement did"))
        except TransportError as error:
            self._fail(error)

    def _run(self, receiver: Receiver, sender: Sender, held_inputs: int = 1) -> None:
        with self._lock:
            if self._aborted:
                raise TransportError("aborted", "stopped before the stream began")
            self._loop = StageLoop(receiver, self._compute, sender, held_inputs, self._counters)
        self._loop.run()

    def _finish(self) -> None:
        self._fail(TransportError("finished", "the measurement is complete"))

    def _fail(self, error: TransportError) -> None:
        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.fail(error)

    def abort(self) -> None:
        """End it from another thread; `drive` or `serve` raises TransportError (`aborted`)."""
        with self._lock:
            self._aborted = True
        self._fail(TransportError("aborted", "stopped by the controller"))
        self.close()

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        if self._connector is not None:
            self._connector.close()


def link_spec(value: JsonObject | None) -> LinkSpec | None:
    """A LinkSpec from a control message."""
    if value is None:
        return None
    rate = value.get("rate_bit_s")
    return LinkSpec(
        delay_s=float(value.get("delay_s", 0.0)),
        jitter_s=float(value.get("jitter_s", 0.0)),
        rate_bit_s=None if rate is None else float(rate),
        seed=int(value.get("seed", 0)),
    )


def stage_bounds(cut_indexes: Sequence[int], n_cuts: int, stage: int) -> tuple[int, int]:
    """First and last cut index of a stage, given the cuts between the stages (cut 0 and cut N are the ends)."""
    bounds = [0, *cut_indexes, n_cuts]
    return bounds[stage], bounds[stage + 1]
