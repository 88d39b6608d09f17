"""One cell on one host: its stage, its sockets, and running it until the driver has what it needs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from paretopipe_runtime.pipeline.driver import Driver, LocalSink, MeasurePlan, OutputCheck
from paretopipe_runtime.pipeline.inputs import Input
from paretopipe_runtime.pipeline.stage_loop import Compute, StageLoop
from paretopipe_runtime.transport.channel import Receiver, Sender, SocketReceiver, SocketSender, shut_down
from paretopipe_runtime.transport.endpoint import connect, listen
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.handshake import accept, connect_side
from paretopipe_runtime.transport.link_model import LinkSpec

JsonObject = dict[str, Any]
HANDSHAKE_S = 10.0


@dataclass(frozen=True)
class StageSpec:
    """What this host is in the cell: stage `index` of `count` (0 is the driver's), and what may cross its sockets."""

    host: str
    index: int
    count: int
    secret: str
    facts: dict[str, str]
    listen_address: str
    listen_port: int
    incoming_limit_bytes: int
    """Largest payload from the stage before; at the driver, from the last stage."""
    egress: LinkSpec | None

    @property
    def is_last(self) -> bool:
        """Whether results leave here for the driver."""
        return self.index == self.count - 1


@dataclass(frozen=True)
class Peer:
    """Where the next stage (after the last one: the driver) listens."""

    address: str
    port: int


class PreparedCell:
    """A stage that is built and listening. `drive` (stage 0) or `serve` (the others) runs it once."""

    def __init__(self, spec: StageSpec, compute: Compute) -> None:
        self.spec = spec
        self._compute = compute
        self._lock = threading.Lock()
        self._aborted = False
        self._closers: list[Callable[[], None]] = []
        self._loop: StageLoop | None = None
        self._listener: socket.socket | None = None
        if spec.count > 1:
            self._listener = listen(spec.listen_address, spec.listen_port)
            self._on_abort(partial(shut_down, self._listener))

    @property
    def port(self) -> int | None:
        """The port that the stage before this one (for the driver: the last one) connects to."""
        return self._listener.getsockname()[1] if self._listener else None

    def serve(self, peer: Peer) -> None:
        """Be a stage behind the driver until the stream ends. Raises TransportError or ComputeError."""
        try:
            receiver = self._accept()
            sender = self._connect(peer)
            self._run(receiver, sender)
        finally:
            self.close()

    def drive(
        self,
        peer: Peer | None,
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
            if peer is None:
                self._run(driver, LocalSink(driver), held_inputs=0)
            else:
                sender = self._connect(peer)
                returned = self._accept()
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
            self._loop = StageLoop(receiver, self._compute, sender, held_inputs)
        self._loop.run()

    def _finish(self) -> None:
        self._fail(TransportError("finished", "the measurement is complete"))

    def _fail(self, error: TransportError) -> None:
        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.fail(error)

    def _accept(self) -> SocketReceiver:
        if self._listener is None:
            raise TransportError("aborted", "the listening socket is closed")
        before = (self.spec.index - 1) % self.spec.count
        facts = self.spec.facts | {"hop": f"{before}->{self.spec.index}"}
        sock, _ = accept(self._listener, self.spec.secret, self.spec.host, facts, HANDSHAKE_S)
        receiver = SocketReceiver(sock, self.spec.incoming_limit_bytes)
        self._on_abort(receiver.close)
        return receiver

    def _connect(self, peer: Peer) -> SocketSender:
        sock = connect(peer.address, peer.port, HANDSHAKE_S)
        self._on_abort(partial(shut_down, sock))
        after = (self.spec.index + 1) % self.spec.count
        facts = self.spec.facts | {"hop": f"{self.spec.index}->{after}"}
        connect_side(sock, self.spec.secret, self.spec.host, facts, HANDSHAKE_S)
        sender = SocketSender(sock, self.spec.egress)
        self._on_abort(sender.close)
        return sender

    def _on_abort(self, closer: Callable[[], None]) -> None:
        with self._lock:
            self._closers.append(closer)

    def abort(self) -> None:
        """End it from another thread; `drive` or `serve` raises TransportError (`aborted`)."""
        with self._lock:
            self._aborted = True
        self._fail(TransportError("aborted", "stopped by the controller"))
        self.close()

    def close(self) -> None:
        """Close all sockets; safe to call twice."""
        with self._lock:
            closers, self._closers = self._closers, []
        for closer in reversed(closers):
            closer()


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
