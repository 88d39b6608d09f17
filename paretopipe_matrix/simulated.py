"""A testbed with declared stage times: the whole command line without torch, hosts or a network.

For tests, reached by `--simulate FILE` only. Its run.json says `"testbed": "simulated"`; nothing in it was measured.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paretopipe_matrix.errors import UserError
from paretopipe_matrix.estimate import pipeline_times, window_batches
from paretopipe_matrix.hosts.inventory import Inventory
from paretopipe_matrix.lanes import lanes
from paretopipe_matrix.testbed import (
    CellError,
    CellRun,
    CutInfo,
    DepthResult,
    JsonObject,
    ModelDescription,
    ModelRequest,
    ProbeResult,
    Profile,
)
from paretopipe_runtime.transport.backends import BACKENDS

Times = Annotated[float, Field(ge=0)]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Block(_Declared):
    """One block: seconds per image on a host of speed 1, and bytes per image that leave it."""

    name: str
    exec_s: Times
    out_bytes: int
    paper_name: str | None = None


class SimulatedModel(_Declared):
    """A model as its blocks; `graph_hash` can be changed to act as another torchvision."""

    input_bytes: int
    blocks: list[Block]
    graph_hash: str = "simulated-graph"


class Fault(_Declared):
    """What goes wrong in cells whose id contains `cell`; no rounds or depths given: in all of them."""

    cell: str
    rounds: list[int] | None = None
    depths: list[int] | None = None
    kind: str = "worker"
    message: str = "declared by the simulation"
    host: str | None = None
    log_tail: list[str] = []


class SimulatedPath(_Declared):
    """What a probe reports."""

    rtt_s: float
    bandwidth_bit_s: float


class Simulation(_Declared):
    """The file. `sleep_s` is real time per cell, so that a test can hit a run in the middle.

    `backend_s` maps a backend to what it adds to every hop, `engine_speed` an engine to how much faster it computes.
    `probes` maps a profile to what its probes report in turn (the last one repeats); undeclared: the profile kept.
    """

    models: dict[str, SimulatedModel]
    speed: dict[str, float] = {}
    backend_s: dict[str, Times] = {}
    engine_speed: dict[str, Annotated[float, Field(gt=0)]] = {}
    sleep_s: Times = 0.0
    noise_pct: Times = 1.0
    failures: list[Fault] = []
    invalid: list[Fault] = []
    refused_profiles: dict[str, str] = {}
    probes: dict[str, list[SimulatedPath]] = {}
    versions: dict[str, str] = {"torch": "simulated"}


def load_simulation(path: Path) -> Simulation:
    """Read a simulation file (JSON); raises UserError if it is none."""
    try:
        return Simulation.model_validate_json(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot read the simulation: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: not a simulation: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class SimulatedTestbed:
    """A `Testbed` in virtual time, the same numbers for the same cell, round and depth."""

    def __init__(self, simulation: Simulation, inventory: Inventory) -> None:
        self._simulation = simulation
        self._inventory = inventory
        self._aborted = threading.Event()
        self._probed: dict[str, int] = {}

    def facts(self) -> dict[str, JsonObject]:
        """Every host says that it is simulated."""
        return {host: {"simulated": True, **self._simulation.versions} for host in self._inventory.hosts}

    def lanes(self) -> list[tuple[str, ...]]:
        """Pipelines take turns where they share a host."""
        return lanes({name: set(members) for name, members in self._inventory.pipelines.items()})

    def ansible_calls(self) -> list[JsonObject]:
        """None: there is nothing to set up."""
        return []

    def describe(
        self, request: ModelRequest, pipeline: str, *, timed: bool, picks: Mapping[str, str] | None = None
    ) -> ModelDescription:
        """The declared model; sizes and times for the whole batch."""
        model = self._model(request.model)
        batch = request.batch_size
        cuts = [CutInfo(0, "input", None, model.input_bytes * batch)]
        cuts += [
            CutInfo(index, block.name, block.paper_name, block.out_bytes * batch)
            for index, block in enumerate(model.blocks, start=1)
        ]
        times = {
            host: tuple(block.exec_s * batch / self._speed(host, request.engine) for block in model.blocks)
            for host in self._inventory.pipeline(pipeline)
        }
        weights = f"simulated-weights-{request.weights}-{request.seed}"
        return ModelDescription(request, tuple(cuts), len(model.blocks), 0, model.graph_hash, weights, times)

    def profile_blocks(self, request: ModelRequest, pipeline: str, repeats: int) -> dict[str, list[JsonObject]]:
        """The declared times, `repeats` times the same."""
        described = self.describe(request, pipeline, timed=True)
        return {
            host: [
                {
                    "name": cut.name,
                    "exec_s": exec_s,
                    "exec_samples_s": [exec_s] * repeats,
                    "out_bytes": cut.nbytes,
                    "parameters": 0,
                }
                for cut, exec_s in zip(described.cuts[1:], times, strict=True)
            ]
            for host, times in described.segment_exec_s.items()
        }

    def apply(self, pipeline: str, profile: Profile) -> str:
        """Nothing to impose; refuses what the simulation declares as refused."""
        if profile.name in self._simulation.refused_profiles:
            raise CellError("network", self._simulation.refused_profiles[profile.name])
        return "link-model" if profile.links else "none"

    def probe(self, pipeline: str, profile: Profile) -> ProbeResult:
        """The next declared probe, or one that keeps the profile."""
        egress = profile.links.get("first-egress")
        rate = (egress.rate_bit_s if egress else None) or 1e9
        declared = self._simulation.probes.get(profile.name) or [
            SimulatedPath(rtt_s=profile.added_rtt_s + 0.0002, bandwidth_bit_s=rate)
        ]
        count = self._probed.get(profile.name, 0)
        self._probed[profile.name] = count + 1
        path = declared[min(count, len(declared) - 1)]
        ingress = profile.links.get("first-ingress")
        back = ingress.rate_bit_s if ingress else None
        return ProbeResult(path.rtt_s, (path.rtt_s,) * 3, path.bandwidth_bit_s, 100_000, back)

    def measure(self, run: CellRun, on_progress: Callable[[JsonObject], None]) -> list[DepthResult]:
        """One result per depth from the declared times; declared faults raise CellError."""
        self._aborted.wait(self._simulation.sleep_s)
        results: list[DepthResult] = []
        for depth in run.depths:
            if self._aborted.is_set():
                raise CellError("aborted", "the measurement was aborted", finished=results)
            fault = _matching(self._simulation.failures, run, depth)
            if fault is not None:
                raise CellError(fault.kind, fault.message, fault.host, None, fault.log_tail, results)
            results.append(self._window(run, depth))
            on_progress({"depth": depth})
        return results

    def abort(self) -> None:
        """End the measurement in progress."""
        self._aborted.set()

    def close(self) -> None:
        """Nothing to restore."""

    def _model(self, name: str) -> SimulatedModel:
        if name not in self._simulation.models:
            known = ", ".join(self._simulation.models)
            raise CellError("model", f"unknown model {name!r}; known: {known}")
        return self._simulation.models[name]

    def _speed(self, host: str, engine: str) -> float:
        return self._simulation.speed.get(host, 1.0) * self._simulation.engine_speed.get(engine, 1.0)

    def _window(self, run: CellRun, depth: int) -> DepthResult:
        hosts = self._inventory.pipeline(run.pipeline)
        description = self.describe(run.request, run.pipeline, timed=True)
        times = pipeline_times(description, hosts, run.cuts, run.profile)
        # Everything local is one stage.
        stages = list(zip(hosts, times.stages_s, strict=True))[: 1 if run.cuts[0].index == run.n_cuts else None]
        if len(stages) > 1:
            hop_s = self._simulation.backend_s.get(run.backend, 0.0)
            times = replace(times, link_s=times.link_s + hop_s, latency_s=times.latency_s + hop_s * (len(stages) - 1))
        noise = random.Random(f"{run.cell_id}/{run.round}/{depth}")  # noqa: S311
        scale = 1 + noise.uniform(-1, 1) * self._simulation.noise_pct / 100
        period = times.period_s(depth) * scale
        batches = window_batches(run.window, period)
        latency = period * depth
        fault = _matching(self._simulation.invalid, run, depth)
        measured: JsonObject = {
            "latency_s": latency,
            "latency_p50_s": latency if batches >= 11 else None,
            "latency_p90_s": latency if batches >= 64 else None,
            "throughput_img_s": run.request.batch_size / period,
            "network_s": latency - sum(times.stages_s) * scale if depth == 1 else None,
            "bytes_per_batch": sum(cut.nbytes for cut in run.cuts if cut.index != run.n_cuts),
            "window_s": batches * period,
            "window_batches": batches,
            "warmup_batches": run.warmup_batches,
            "warmup_s": run.warmup_batches * period,
            "stages": [_stage(host, run.request.engine, exec_s * scale) for host, exec_s in stages],
            "transport": BACKENDS[run.backend].as_json() | {"simulated": True} if len(stages) > 1 else None,
            "output_bitwise": True,
            "output_max_rel_err": 0.0,
            "graph_hash": description.graph_hash,
            "weight_hash": description.weight_hash,
            "valid": fault is None,
            "invalid_reason": fault.message if fault else None,
        }
        samples = [
            {"depth": depth, "batch_id": batch, "counted": batch > 0, "done_s": batch * period, "latency_s": latency}
            | {f"stage{k}_exec_s": stage["exec_s"] for k, stage in enumerate(measured["stages"], start=1)}
            for batch in range(batches + 1)
        ]
        return DepthResult(depth, measured, samples)


def _matching(faults: list[Fault], run: CellRun, depth: int) -> Fault | None:
    for fault in faults:
        if (
            fault.cell in run.cell_id
            and (fault.rounds is None or run.round in fault.rounds)
            and (fault.depths is None or depth in fault.depths)
        ):
            return fault
    return None


def _stage(host: str, engine: str, exec_s: float) -> JsonObject:
    zero = dict.fromkeys(("setup_s", "serialize_s", "recv_s", "queue_s", "out_queue_s"), 0.0)
    unknown = ("cpu_pct", "mem_pct", "rss_bytes", "tx_bytes", "rx_bytes")
    no_gpu = ("kernel_s", "gpu_util_pct", "gpu_mem_pct", "gpu_mem_bytes", "gpu_power_w")
    return {"host": host, "engine": engine, "exec_s": exec_s, **zero, **dict.fromkeys(unknown + no_gpu)}
