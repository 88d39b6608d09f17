"""Figure 7: each backend at its highest throughput, as the paper has it, and all backends at those cuts. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.comparing.breakdown import PART_COLUMNS
from analysis.comparing.comparison import METRICS, ComparisonError, Metric, Pair, compare
from analysis.markup import Column
from analysis.numbers import MISSING, with_factor, with_uncertainty
from analysis.operating_points import HIGH, LOW
from analysis.paper.measured import AS_IT_IS, Measured, like_the_paper
from analysis.paper.reference import BACKEND, BATCH_SIZE, RPC
from analysis.paper.split_tables import interval_of
from analysis.statistics import Interval, Ratio, t_interval

if TYPE_CHECKING:
    import pandas as pd

_NO_RATIO = Ratio(math.nan, math.nan, math.nan, 0)
_RATIOS = tuple(metric for metric in METRICS if metric.name in ("throughput", "latency"))
BACKEND_COLUMNS = (
    *("model", "profile", "pipeline", "batch_size", "backend", "split", "depth", "best", "rounds"),
    *(name for metric in _RATIOS for name in (metric.column, metric.column + LOW, metric.column + HIGH)),
    *PART_COLUMNS,
    *("baseline", "paired_rounds"),
    *(name + end for metric in _RATIOS for name in (f"{metric.name}_ratio",) for end in ("", LOW, HIGH)),
    *("directory", "devices"),
)


@dataclass(frozen=True)
class BackendPoint:
    """One backend at a cut and a depth at which some backend has its highest throughput."""

    measured: Measured
    model: str
    profile: str
    backend: str
    split: str
    depth: int
    best: bool
    """Whether it is this backend's own highest throughput."""
    throughput_img_s: Interval
    latency_s: Interval
    parts_s: tuple[float, ...]
    """The latency by part, in the order of `analysis.comparing.breakdown.PARTS`; NaN where not known."""
    cpu_pct: tuple[float, ...]
    """Per stage."""
    gpu_pct: tuple[float, ...]
    baseline: str
    rounds: Mapping[int, tuple[float, float]]
    """Valid round -> images/s and latency in seconds."""
    ratios: Mapping[str, Ratio]
    """`throughput`, `latency` -> ratio to the baseline at the same cut and depth, over paired rounds; NaN without."""


def backend_points(measured: Measured, points: pd.DataFrame) -> list[BackendPoint]:
    """The bars of Figure 7 for every model that a pipeline measured with two backends or more.

    `points` are its operating points with the columns of `compare_points`. Batches of the paper's size, its engine
    and granularity, a network as it is; splits with layers on both sides only, as in the paper. The highest
    throughput is that of the means.
    """
    same = like_the_paper(points, backends=True)
    same = same[(same["batch_size"] == BATCH_SIZE) & (same["rounds"] > 0) & (same["placement"] == "")]
    found: list[BackendPoint] = []
    for (model, profile), group in same.groupby(["model", "profile"], sort=False):
        backends = list(dict.fromkeys(group["backend"]))
        if measured.network(str(profile)) != AS_IT_IS or len(backends) < 2:
            continue
        backends.sort(key=lambda name: name != BACKEND)
        best = {
            backend: group["throughput_img_s"].astype(float).where(group["backend"] == backend).idxmax()
            for backend in backends
        }
        slots = {(group.at[label, "split_index"], group.at[label, "depth"]) for label in best.values()}
        here = group.loc[[place in slots for place in zip(group["split_index"], group["depth"], strict=True)]]
        pairs = _pairs(measured, str(model), str(profile), backends, slots)
        rows = [(label, {str(key): value for key, value in row.items()}) for label, row in here.iterrows()]
        rows.sort(
            key=lambda one: (_cut_order(one[1]["split_index"]), one[1]["depth"], backends.index(one[1]["backend"]))
        )
        for label, row in rows:
            pair = pairs.get((row["split_index"], int(row["depth"]), row["backend"]))
            found.append(_point(measured, row, best[row["backend"]] == label, backends[0], pair))
    return found


def _cut_order(split_index: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else -1 for part in str(split_index).split("+"))


def _pairs(
    measured: Measured, model: str, profile: str, backends: Sequence[str], slots: Iterable[tuple[Any, Any]]
) -> dict[tuple[Any, int, Any], Pair]:
    """The pairs with the first backend at the slots, by cut, depth and backend."""
    frame = like_the_paper(measured.frame, backends=True)
    wanted = set(slots)
    keep = (frame["model"] == model) & (frame["profile"] == profile) & (frame["batch_size"] == BATCH_SIZE)
    frame = frame[keep]
    frame = frame.loc[[place in wanted for place in zip(frame["split_index"], frame["depth"], strict=True)]]
    try:
        comparison = compare(frame, "backend", backends[0], backends)
    except ComparisonError:
        return {}
    return {(pair.key["split_index"], int(pair.key["depth"]), pair.value): pair for pair in comparison.pairs}


def _point(measured: Measured, row: dict[str, Any], best: bool, baseline: str, pair: Pair | None) -> BackendPoint:
    cell = measured.frame[(measured.frame["cell"] == row["cell"]) & (measured.frame["depth"] == row["depth"])]
    valid = cell[cell["state"] == "valid"]
    columns = (valid[name].tolist() for name in ("round", "throughput_img_s", "latency_s"))
    rounds = {int(number): (float(rate), float(s)) for number, rate, s in zip(*columns, strict=True)}
    stages = range(1, int(row["n_stages"]) + 1)
    return BackendPoint(
        measured=measured,
        model=str(row["model"]),
        profile=str(row["profile"]),
        backend=str(row["backend"]),
        split=str(row["split"]),
        depth=int(row["depth"]),
        best=best,
        throughput_img_s=interval_of(row, "throughput_img_s"),
        latency_s=interval_of(row, "latency_s"),
        parts_s=tuple(float(row[column]) for column in PART_COLUMNS),
        cpu_pct=tuple(float(row[f"stage{k}_cpu_pct"]) for k in stages),
        gpu_pct=tuple(float(row[f"stage{k}_gpu_util_pct"]) for k in stages),
        baseline=baseline,
        rounds=rounds,
        ratios={metric.name: _ratio(pair, metric) for metric in _RATIOS},
    )


def _ratio(pair: Pair | None, metric: Metric) -> Ratio:
    return pair.ratio(metric) if pair and pair.rounds else _NO_RATIO


def backend_columns(points: Sequence[BackendPoint]) -> list[Column]:
    """The table below the figure, as people read it."""
    models = {point.model for point in points}
    return [
        *([Column("model", tuple(point.model for point in points))] if len(models) > 1 else []),
        Column("split", tuple(point.split for point in points)),
        Column("D", tuple(str(point.depth) for point in points), right=True),
        Column("backend", tuple(point.backend for point in points)),
        Column("its best", tuple("yes" if point.best else "" for point in points)),
        Column("images/s", tuple(_shown(point.throughput_img_s, 1) for point in points), right=True),
        Column("latency ms", tuple(_shown(point.latency_s, 1e3) for point in points), right=True),
        *(
            Column(
                f"{header} vs {points[0].baseline}" if points else header,
                tuple(_factor(point.ratios[name]) for point in points),
                right=True,
            )
            for name, header in (("throughput", "img/s"), ("latency", "latency"))
        ),
    ]


def backend_rows(points: Iterable[BackendPoint]) -> list[dict[str, Any]]:
    """Rows of `BACKEND_COLUMNS`, for scripts."""
    out = []
    for point in points:
        row: dict[str, Any] = {
            "model": point.model,
            "profile": point.profile,
            "pipeline": point.measured.pipeline,
            "batch_size": BATCH_SIZE,
            "backend": point.backend,
            "split": point.split,
            "depth": point.depth,
            "best": point.best,
            "rounds": point.throughput_img_s.n,
            "baseline": point.baseline,
            "paired_rounds": point.ratios["throughput"].n,
            "directory": str(point.measured.directory),
            "devices": point.measured.words,
        }
        row |= dict(zip(PART_COLUMNS, point.parts_s, strict=True))
        for metric, interval in zip(_RATIOS, (point.throughput_img_s, point.latency_s), strict=True):
            row |= {
                metric.column: interval.mean,
                metric.column + LOW: interval.low,
                metric.column + HIGH: interval.high,
            }
            ratio = point.ratios[metric.name]
            name = f"{metric.name}_ratio"
            row |= {name: ratio.mean, name + LOW: ratio.low, name + HIGH: ratio.high}
        out.append(row)
    return out


def _shown(interval: Interval, factor: float) -> str:
    return with_uncertainty(interval.mean * factor, interval.half_width * factor)


def _factor(ratio: Ratio) -> str:
    return with_factor(ratio.mean, ratio.high) if ratio.n else MISSING


@dataclass(frozen=True)
class SocketsAgainstRpc:
    """What the paper states of its backends, as a pipeline measured it: sockets / RPC."""

    model: str
    metric: str
    """`throughput` or `latency`."""
    socket: BackendPoint
    rpc: BackendPoint
    ratio: Interval
    """Mean over the rounds valid in both of the round's ratio, and its 95 % t-interval."""

    @property
    def own_best(self) -> bool:
        """Whether each is at its own highest throughput, as in the paper; otherwise both are at one cut and depth."""
        return self.socket.best and self.rpc.best


def sockets_against_rpc(points: Sequence[BackendPoint]) -> list[SocketsAgainstRpc]:
    """Per model and metric: both at their best, then both at the best of either."""
    found = []
    keys = dict.fromkeys((p.measured.directory, p.measured.pipeline, p.profile, p.model) for p in points)
    for key in keys:
        here = [p for p in points if (p.measured.directory, p.measured.pipeline, p.profile, p.model) == key]
        sockets, rpcs = ([p for p in here if p.backend == backend] for backend in (BACKEND, RPC))
        both = [(one, other) for one in sockets for other in rpcs if one.best and other.best]
        both += [
            (one, other)
            for one in sockets
            for other in rpcs
            if (one.split, one.depth) == (other.split, other.depth) and one.best != other.best
        ]
        for index, metric in enumerate(("throughput", "latency")):
            for one, other in both:
                shared = sorted(one.rounds.keys() & other.rounds.keys())
                ratio = t_interval([one.rounds[n][index] / other.rounds[n][index] for n in shared])
                found.append(SocketsAgainstRpc(key[3], metric, one, other, ratio))
    return found
