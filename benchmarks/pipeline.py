"""Pipelines on two pinned workers: efficiency, link efficiency, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Ratio
from benchmarks.settings import effort
from paretopipe_matrix.hosts.inventory import load_inventory
from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.profiles import load_profiles
from paretopipe_matrix.testbed import CellRun, CutInfo, JsonObject, ModelDescription, ModelRequest, Profile, Window
from paretopipe_runtime.model.resident import ResidentModel

INVENTORY = Path("inventory/local.yml")
BATCH_SIZE = 8
DURESS = "duress-200ms-5mbit"
HELD_INPUTS = 2
"""The receive buffers of a stage (transport/channel.py)."""
HELD_OUTPUTS = 2
"""Finished and waiting, and being sent (pipeline/stage_loop.py)."""


@contextmanager
def session(profile: Profile) -> Iterator[Session]:
    """Agents on the local inventory, under a profile."""
    opened = Session(load_inventory(INVENTORY), ["local"], None)
    try:
        opened.apply("local", profile)
        yield opened
    finally:
        opened.close()


def profile_named(name: str) -> Profile:
    """A profile of inventory/profiles.yml."""
    return load_profiles(INVENTORY.parent / "profiles.yml").get(name)


def describe(
    opened: Session, model: str, batch_size: int = BATCH_SIZE, pixels: str = "synthetic", engine: str = "eager"
) -> ModelDescription:
    """The model as the workers hold it."""
    request = ModelRequest(model, "random", 0, batch_size, "block", pixels, "raw", engine)
    return opened.describe(request, "local", timed=False)


def cell(
    described: ModelDescription,
    cut: CutInfo,
    profile: Profile,
    depths: int | tuple[int, ...],
    window: Window,
    warmup_batches: int = 3,
    backend: str = "socket",
) -> CellRun:
    """One cell at one depth or more."""
    return CellRun(
        cell_id=f"bench-{described.request.model}-{cut.index}-{backend}-{described.request.engine}",
        request=described.request,
        cuts=(cut,),
        n_cuts=described.cuts[-1].index,
        backend=backend,
        pipeline="local",
        profile=profile,
        depths=(depths,) if isinstance(depths, int) else depths,
        window=window,
        warmup_batches=warmup_batches,
        round=1,
        timeout_s=300.0,
    )


def measure_valid(opened: Session, run: CellRun, tries: int = 3) -> dict[int, JsonObject]:
    """Depth -> what a record of it would have, with `tries`: how often the cell was measured until all was valid.

    Raises CellError, and RuntimeError for a cell with a point that is not valid (docs/measurement.md) in any try.
    """
    for number in range(1, tries + 1):
        found = {result.depth: result.measured for result in opened.measure(run, lambda _event: None)}
        reasons = [f"depth {depth}: {p['invalid_reason']}" for depth, p in found.items() if not p["valid"]]
        if not reasons:
            return {depth: point | {"tries": number} for depth, point in found.items()}
    raise RuntimeError(f"{run.cell_id} is not valid {tries} times in turn; {'; '.join(reasons)}")


def at(described: ModelDescription, name: str) -> CutInfo:
    """The cut with a P-name, or with an index."""
    return next(cut for cut in described.cuts if name in (cut.paper_name, str(cut.index)))


def efficiency() -> tuple[list[Ratio], Any]:
    """Throughput / (batch / slowest stage's own time), both from the same window, three rounds each."""
    ratios: list[Ratio] = []
    raw: dict[str, list[JsonObject]] = {}
    lan = profile_named("lan")
    with session(lan) as opened:
        for model, name in (("mobilenet_v2", "P3"), ("mobilenet_v2", "P9"), ("resnet18", "P2"), ("alexnet", "P10")):
            described = describe(opened, model)
            found = []
            for _ in range(effort(3, 1)):
                (result,) = opened.measure(
                    cell(described, at(described, name), lan, 3, Window(None, 3.0, 20)), lambda _event: None
                )
                measured = result.measured
                slowest_s = max(stage["exec_s"] for stage in measured["stages"])
                found.append(measured["throughput_img_s"] / (BATCH_SIZE / slowest_s))
                raw.setdefault(f"{model} {name}", []).append(
                    {key: measured[key] for key in ("throughput_img_s", "latency_s", "window_batches", "stages")}
                )
            ratios.append(
                Ratio(
                    f"pipeline efficiency, {model} {name}, depth 3",
                    median(found),
                    0.97,
                    True,
                    detail=f"median of: {', '.join(f'{value:.3f}' for value in sorted(found))}",
                )
            )
    return ratios, raw


def link() -> tuple[list[Ratio], Any]:
    """Share of the link's rate that activations use where the link is the bottleneck."""
    ratios, raw = [], {}
    duress = profile_named(DURESS)
    rate_bit_s = duress.links["first-egress"].rate_bit_s
    assert rate_bit_s
    with session(duress) as opened:
        described = describe(opened, "mobilenet_v2")
        for name, batches in (("0", 3), ("P9", 6), ("P17", 10)):
            cut = at(described, name)
            (result,) = opened.measure(
                cell(described, cut, duress, 3, Window(batches, None, 1), warmup_batches=1), lambda _event: None
            )
            measured = result.measured
            share = measured["throughput_img_s"] / BATCH_SIZE * measured["bytes_per_batch"] * 8 / rate_bit_s
            raw[name] = {key: measured[key] for key in ("throughput_img_s", "latency_s", "bytes_per_batch")}
            label = "cut 0" if name == "0" else name
            ratios.append(
                Ratio(
                    f"share of 5 Mbit/s used, mobilenet_v2 {label}", share, 0.95, True, detail=f"{cut.nbytes} B a batch"
                )
            )
    return ratios, raw


def memory() -> tuple[list[Ratio], Any]:
    """Peak resident memory of both stages against the runtime's floor + their own parameters + 3 activations.

    Activation: the largest tensor that crosses a cut anywhere in the stage, its ends included. Floor: what the runtime
    holds around a computation, in two parts. Measured: the same worker after it ran the same cell and let go of it
    (libraries, oneDNN's kernels for these shapes, the decoded images). Reckoned: the payloads in the stage loop's
    queues (`HELD_INPUTS` preallocated receive buffers, `HELD_OUTPUTS`). What is measured is the cell's next run.
    """
    ratios, raw = [], {}
    cells = (("mobilenet_v2", "P3"), ("resnet18", "P2"), ("vgg16", "P14"))
    for engine in effort(("eager", "fused"), ("eager",)):
        for model, name in effort(cells, cells[:1]):
            for stage, sizes in enumerate(_memory_of(model, name, engine), start=1):
                label = f"{model} {name} stage {stage}, {engine}"
                raw[label] = sizes
                parameters, activation, queued, floor, error = (
                    sizes[f"{what}_bytes"] for what in ("parameter", "activation", "queued", "floor", "counter_error")
                )
                allowed = floor + parameters + 3 * activation + queued + error
                beyond = sizes["rss_bytes"] - floor
                detail = (
                    f"{floor / 1e6:.0f} + {beyond / 1e6:.1f} MB; parameters {parameters / 1e6:.1f}, "
                    f"activation {activation / 1e6:.1f}, queues {queued / 1e6:.1f} MB"
                )
                ratio = sizes["rss_bytes"] / allowed
                ratios.append(Ratio(f"memory / allowed, {label}", ratio, 1.0, False, detail=detail))
    return ratios, raw


def _memory_of(model: str, name: str, engine: str) -> list[dict[str, int]]:
    lan = profile_named("lan")
    with session(lan) as opened:
        described = describe(opened, model, engine=engine)
        run = cell(described, at(described, name), lan, 3, Window(6, None, 1))
        opened.measure(run, lambda _event: None)
        floors = _memory(opened)
        (result,) = opened.measure(run, lambda _event: None)
    resident = ResidentModel.load(model)
    found = []
    for index, stage in enumerate(result.measured["stages"]):
        lo, hi = (described.cuts[0], run.cuts[0]) if index == 0 else (run.cuts[0], described.cuts[-1])
        own_bytes, activation_bytes = _stage_sizes(resident, lo.index, hi.index)
        found.append(
            {
                "rss_bytes": stage["rss_bytes"],
                "floor_bytes": floors[stage["host"]],
                # The first stage's inputs are the driver's images, which it holds all the time.
                "queued_bytes": (HELD_INPUTS * lo.nbytes if index else 0) + HELD_OUTPUTS * hi.nbytes,
                "parameter_bytes": own_bytes,
                "activation_bytes": activation_bytes,
                "counter_error_bytes": _counter_error(),
            }
        )
    return found


def _counter_error() -> int:
    """By how many bytes VmHWM may be off: each CPU keeps up to a batch of pages to itself for files, anonymous and
    shared memory (proc(5): "This value is inaccurate"; the kernel's lib/percpu_counter.c: 32 pages, or 2 per CPU)."""
    cpus = os.cpu_count() or 1
    return 3 * cpus * max(32, 2 * cpus) * os.sysconf("SC_PAGE_SIZE")


def _memory(opened: Session) -> dict[str, int]:
    found = {}
    for host, agent in opened._fleet.agents.items():
        agent.call("release")
        found[host] = agent.call("memory")["rss_bytes"]
    return found


def _stage_sizes(resident: ResidentModel, lo: int, hi: int) -> tuple[int, int]:
    blocks = {cut.index: cut for cut in resident.cuts(BATCH_SIZE)}
    first, last = blocks[lo], blocks[hi]
    stage = resident.stage(first if lo else None, last if hi != max(blocks) else None)
    own_bytes = sum(tensor.nbytes for tensor in [*stage.parameters(), *stage.buffers()])
    inside = [cut for cut in resident.cuts(BATCH_SIZE, "node") if first.position <= cut.position <= last.position]
    return own_bytes, max(cut.nbytes for cut in inside)
