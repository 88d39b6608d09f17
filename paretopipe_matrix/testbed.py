"""What the scheduler needs from a set of hosts, and the values that pass between the two.

`paretopipe_matrix.hosts.session.Session` is the real one; `paretopipe_matrix.simulated.SimulatedTestbed`
has declared stage times, so that the whole command line can be tested without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class CutInfo:
    """A place to cut, as a worker describes it (see `paretopipe_runtime.Cut`); sizes are for one whole batch."""

    index: int
    name: str
    paper_name: str | None
    nbytes: int
    """Bytes that cross a link per batch; for cut 0 the encoded or uint8 image batch."""


@dataclass(frozen=True)
class ModelRequest:
    """Everything that fixes the computation, apart from where it is cut."""

    model: str
    weights: str
    seed: int
    batch_size: int
    granularity: str
    input: str
    input_encoding: str
    engine: str


@dataclass(frozen=True)
class ModelDescription:
    """Answer to a `ModelRequest`: the cuts in execution order, cut 0 and cut N included."""

    request: ModelRequest
    cuts: tuple[CutInfo, ...]
    n_blocks: int
    parameters: int
    graph_hash: str
    weight_hash: str
    segment_exec_s: Mapping[str, tuple[float, ...]]
    """Host -> seconds between cut i and cut i+1 from one quick pass (len(cuts) - 1 values): for the ETA only."""
    engines: Mapping[str, JsonObject] = field(default_factory=dict)
    """Host -> which engine computes there and why: `asked, picked, exec_s, profiling_s`."""


@dataclass(frozen=True)
class Link:
    """What a profile imposes on one direction of one hop. Zero or None: nothing imposed."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss_pct: float = 0.0
    rate_bit_s: float | None = None


@dataclass(frozen=True)
class Profile:
    """A named network condition. `links` maps a direction to what is imposed there.

    Directions: `first-egress` (from the first stage's host to its peers), `first-ingress` (towards the first
    stage's host). An empty mapping imposes nothing.
    """

    name: str
    links: Mapping[str, Link] = field(default_factory=dict)
    description: str = ""
    rtt_tolerance_pct: float = 5.0
    rate_tolerance_pct: float = 10.0

    @property
    def added_rtt_s(self) -> float:
        """Seconds that the profile adds to a round trip."""
        return sum(link.delay_s for link in self.links.values())


@dataclass(frozen=True)
class Window:
    """When a measurement window ends: after `batches`, or after `seconds` but not before `min_batches`."""

    batches: int | None
    seconds: float | None
    min_batches: int


@dataclass(frozen=True)
class CellRun:
    """One cell of one round, ready to be measured."""

    cell_id: str
    request: ModelRequest
    cuts: tuple[CutInfo, ...]
    n_cuts: int
    backend: str
    pipeline: str
    profile: Profile
    depths: tuple[int, ...]
    window: Window
    warmup_batches: int
    round: int
    timeout_s: float
    streams: Literal["auto"] | int = "auto"
    """TCP connections per hop of the socket backend; `auto`: the testbed's rule (`paretopipe_matrix.streams`)."""


@dataclass(frozen=True)
class ProbeResult:
    """Round trip and receiver-side bandwidth of the data path, measured."""

    rtt_s: float
    rtt_samples_s: tuple[float, ...]
    bandwidth_bit_s: float
    bandwidth_bytes: int
    ingress_bandwidth_bit_s: float | None = None
    """Bandwidth towards the first host, measured where the profile limits it."""
    vitals: Mapping[str, JsonObject] = field(default_factory=dict)
    """Host -> frequency, temperature, throttling and load at that moment."""
    network: Mapping[str, JsonObject] = field(default_factory=dict)
    """Host -> what is shaped there, with the shaper's own counters (`pp-net status`)."""


@dataclass(frozen=True)
class DepthResult:
    """What one window gave: the measured part of a record, and a row per batch for the samples file."""

    depth: int
    measured: JsonObject
    samples: list[JsonObject]


class CellError(Exception):
    """A cell failed. Carries what the record keeps, and the depths that were finished before."""

    def __init__(
        self,
        kind: str,
        message: str,
        host: str | None = None,
        remedy: str | None = None,
        log_tail: list[str] | None = None,
        finished: list[DepthResult] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.host = host
        self.remedy = remedy
        self.log_tail = log_tail or []
        self.finished = finished or []

    def as_json(self) -> JsonObject:
        """The `error` object of a record."""
        return {
            "kind": self.kind,
            "message": self.message,
            "host": self.host,
            "remedy": self.remedy,
            "log_tail": self.log_tail,
        }


class Testbed(Protocol):
    """Hosts with agents on them. Every method may raise `CellError`; `measure` is interrupted by `abort`."""

    def facts(self) -> dict[str, JsonObject]:
        """Host name -> facts for run.json (versions, CPU, threads, governor, NIC ...)."""

    def lanes(self) -> list[tuple[str, ...]]:
        """Pipelines that must take turns, together; different lanes may be measured at the same time."""

    def ansible_calls(self) -> list[JsonObject]:
        """Every playbook that was run so far, for run.json: they are per profile group, never per cell."""

    def describe(
        self, request: ModelRequest, pipeline: str, *, timed: bool, picks: Mapping[str, str] | None = None
    ) -> ModelDescription:
        """Trace the model on the pipeline's hosts and list its cuts; `timed` adds a quick block-wise pass.

        `picks` maps hosts to what engine `best` was there before: rounds of one run must not differ in it.
        """

    def profile_blocks(self, request: ModelRequest, pipeline: str, repeats: int) -> dict[str, list[JsonObject]]:
        """Host -> one row per block: `name, exec_s (median), exec_samples_s, out_bytes, parameters`."""

    def apply(self, pipeline: str, profile: Profile) -> str:
        """Impose a profile (or refuse with `CellError` kind `network`); returns the shaper's name."""

    def probe(self, pipeline: str, profile: Profile) -> ProbeResult:
        """Measure the data path between the pipeline's first two hosts as it is now."""

    def measure(self, run: CellRun, on_progress: Callable[[JsonObject], None]) -> list[DepthResult]:
        """Run one cell of one round: one result per depth, in the order of `run.depths`."""

    def abort(self) -> None:
        """End the measurement in progress; safe to call from a signal handler's thread."""

    def close(self) -> None:
        """Restore the network, stop workers and agents."""
