"""Every engine at its own best cut: two workers, one thread and one pinned core each."""

from __future__ import annotations

import itertools
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.intervals import Middle, ratio_interval
from benchmarks.pipeline import BATCH_SIZE, cell, describe, measure_valid, profile_named, session
from benchmarks.report import Ratio, Table, interval_text
from benchmarks.settings import effort
from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import JsonObject, ModelDescription, Window
from paretopipe_runtime.model.engines.registry import CANDIDATES, ENGINES

BASE = "eager"
DEPTH = 3  # two stages computing, one batch on its way
_CACHE = "PARETOPIPE_CACHE"
ASKED = {"mobilenet_v2": {"fused": 1.5, "best": 2.0}, "resnet18": {"best": 1.2}, "resnet50": {"best": 1.2}}


@dataclass(frozen=True)
class Tried:
    """One cut in the search."""

    img_s: float
    stage_s: tuple[float, ...]
    setup_s: float


def available() -> list[str]:
    """What `best` picks from on this machine, the base first; `compiled`, which compiles for minutes, is not in it."""
    cpu = torch.device("cpu")
    return [name for name in CANDIDATES if ENGINES[name].why_not(cpu) is None]


def best_cut(start: int, last: int, measure: Callable[[int], Tried]) -> tuple[int, dict[int, Tried]]:
    """The position from 1 to `last` with the highest throughput, found by walking, and all that was tried.

    A later cut makes the first stage longer and the second shorter, so throughput has one peak, on the side of the
    lighter stage. Two steps in turn without a gain end the walk: one may be noise.
    """
    tried = {start: measure(start)}
    step = -1 if tried[start].stage_s[0] > tried[start].stage_s[-1] else 1
    best, idle = start, 0
    for position in itertools.takewhile(lambda k: 1 <= k <= last, itertools.count(start + step, step)):
        tried[position] = measure(position)
        if tried[position].img_s > tried[best].img_s:
            best, idle = position, 0
        else:
            idle += 1
            if idle == 2:
                break
    return best, tried


def balanced(segment_s: tuple[float, ...]) -> int:
    """How many segments come before the cut that leaves the longer side shortest."""
    return min(range(1, len(segment_s)), key=lambda k: max(sum(segment_s[:k]), sum(segment_s[k:])))


def run() -> tuple[list[Ratio], Any, list[Table]]:
    """For every model: search the cuts, then rounds of all engines in random order, paired by round."""
    claims, rows, raw = [], [], {}
    for model in effort(list(ASKED), ["mobilenet_v2"]):
        with _empty_cache(), session(profile_named("lan")) as opened:
            start = balanced(next(iter(_timed(opened, model).segment_exec_s.values())))
            found, searched = _model(opened, model, start)
        claims += claims_of(model, found)
        rows += [_row(model, engine, found, searched) for engine in found]
        raw[model] = {
            engine: {"rounds": [_kept(point) for point in points], "search": _as_json(searched[engine])}
            for engine, points in found.items()
        }
    columns = ["model", "engine", "cut", "img/s", f"/ {BASE}", "set-up s", "output error"]
    return claims, raw, [Table(f"Engines at their best cuts, batch {BATCH_SIZE}, depth {DEPTH}", columns, rows)]


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Set-up is measured as on a new host: what engines keep on disk is not there yet."""
    with tempfile.TemporaryDirectory(prefix="paretopipe-bench-") as directory:
        before = os.environ.get(_CACHE)
        os.environ[_CACHE] = directory
        try:
            yield
        finally:
            if before is None:
                del os.environ[_CACHE]
            else:
                os.environ[_CACHE] = before


def _timed(opened: Session, model: str) -> ModelDescription:
    return opened.describe(describe(opened, model).request, "local", timed=True)


Points = dict[str, list[JsonObject]]
Search = tuple[str, dict[int, Tried]]


def _model(opened: Session, model: str, start: int) -> tuple[Points, dict[str, Search]]:
    lan = profile_named("lan")
    described = {engine: describe(opened, model, engine=engine) for engine in available()}

    def measure(engine: str, position: int, window: Window) -> JsonObject:
        cut = described[engine].cuts[position]
        return measure_valid(opened, cell(described[engine], cut, lan, DEPTH, window))[DEPTH]

    def search(engine: str) -> tuple[int, dict[int, Tried]]:
        def one(position: int) -> Tried:
            point = measure(engine, position, Window(effort(6, 4), None, 1))
            stages = point["stages"]
            setup_s = max(stage["setup_s"] for stage in stages)
            return Tried(point["throughput_img_s"], tuple(stage["exec_s"] for stage in stages), setup_s)

        return best_cut(start, len(described[engine].cuts) - 2, one)

    cuts, searched = {}, {}
    for engine in described:
        cuts[engine], tried = search(engine)
        cut = described[engine].cuts[cuts[engine]]
        searched[engine] = (cut.paper_name or str(cut.index), tried)
    found: Points = {engine: [] for engine in described}
    for number in range(effort(5, 2)):
        order = list(described)
        random.Random(number).shuffle(order)
        for engine in order:
            found[engine].append(measure(engine, cuts[engine], Window(None, effort(1.5, 0.5), 6)))
    return found, searched


def over_base(found: Points, engine: str) -> Middle:
    """Throughput over the base engine's, paired by round."""
    rounds = zip(found[engine], found[BASE], strict=True)
    return ratio_interval([point["throughput_img_s"] / base["throughput_img_s"] for point, base in rounds])


def claims_of(model: str, found: Points) -> list[Ratio]:
    """What is asked of a model's engines; one that is not here keeps no bound."""
    others = [engine for engine in found if engine != BASE]
    best = max(others, key=lambda engine: over_base(found, engine).value, default=None)
    claims = []
    for asked, bound in ASKED[model].items():
        engine = best if asked == "best" else asked
        name = f"{asked} / {BASE} throughput, {model}"
        if engine not in found:
            claims.append(Ratio(name, float("nan"), bound, True, detail=f"{engine or 'no other engine'} is not here"))
            continue
        ratio = over_base(found, engine)
        detail = f"{engine}; [{ratio.low:.2f}, {ratio.high:.2f}], {ratio.n} rounds"
        claims.append(Ratio(name, ratio.value, bound, True, detail=detail))
    return claims


def _row(model: str, engine: str, found: Points, searched: dict[str, Search]) -> list[str]:
    cut, tried = searched[engine]
    img_s = ratio_interval([point["throughput_img_s"] for point in found[engine]])
    error = max(point["output_max_rel_err"] for point in found[engine])
    # The first visit builds, later ones may find it built.
    setup_s = max(one.setup_s for one in tried.values())
    return [
        *(model, engine, cut, interval_text(img_s), interval_text(over_base(found, engine))),
        *(f"{setup_s:.2f}", f"{error:.1g}"),
    ]


def _kept(point: JsonObject) -> JsonObject:
    kept = ("throughput_img_s", "latency_s", "window_batches", "output_max_rel_err", "tries")
    return {key: point[key] for key in kept} | {
        "stages": [{key: stage[key] for key in ("exec_s", "setup_s", "cpu_pct")} for stage in point["stages"]]
    }


def _as_json(search: Search) -> JsonObject:
    cut, tried = search
    return {"cut": cut, "tried": {position: [one.img_s, one.stage_s, one.setup_s] for position, one in tried.items()}}
