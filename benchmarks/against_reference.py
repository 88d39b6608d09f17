"""Ours beside the reference's way of working (`reference`): same model, same split, same two cores, turn by turn."""

from __future__ import annotations

import os
import random
from statistics import fmean, geometric_mean
from typing import Any

from benchmarks.commands import timed_sweep
from benchmarks.engines import BASE, available
from benchmarks.intervals import Middle, ratio_interval
from benchmarks.pipeline import BATCH_SIZE, at, cell, describe, measure_valid, profile_named, session
from benchmarks.reference import BATCHES, Run, run_split
from benchmarks.report import Ratio, Table, interval_text
from benchmarks.settings import effort
from paretopipe_matrix.testbed import JsonObject, Window

MODEL = "mobilenet_v2"
SPLIT = "P3"
DEPTHS = (1, 2, 3, 4)
AT_LEAST = 0.97  # of the reference's throughput, where latencies are compared
SWEPT = (1, 5, 9, 13, 17)  # what the reference's way is timed at; all its splits would take minutes
CELLS = (1, 20)

Rounds = dict[str, list[dict[int, JsonObject]]]
"""Engine -> for every round: depth -> what was measured."""


def run() -> tuple[list[Ratio], Any, list[Table]]:
    """Rounds of the reference's way and all engines in random order, then the cost of a sweep both ways."""
    cores = os.sched_getaffinity(0)
    pair = min(cores), max(cores)
    lan = profile_named("lan")
    theirs: list[Run] = []
    with session(lan) as opened:
        described = {engine: describe(opened, MODEL, engine=engine) for engine in available()}
        ours: Rounds = {engine: [] for engine in described}
        cut = at(described[BASE], SPLIT)
        for number in range(effort(5, 2)):
            order = ["reference", *described]
            random.Random(number).shuffle(order)
            for way in order:
                if way == "reference":
                    theirs.append(run_split(cut.index, pair))
                    if theirs[-1].received_bytes != cut.nbytes:
                        raise RuntimeError(f"the two ways do not cut {MODEL} {SPLIT} at the same place")
                else:
                    one = cell(described[way], cut, lan, DEPTHS, Window(None, effort(1.0, 0.3), BATCHES))
                    ours[way].append(measure_valid(opened, one))
    splits = effort(SWEPT, SWEPT[1:3])
    half = len(splits) // 2
    swept = [run_split(split, pair) for split in splits[:half]]
    own_sweep = timed_sweep("--split", f"{CELLS[0]}:{CELLS[1]}", "--depth", "3", "--batches", str(BATCHES))
    swept += [run_split(split, pair) for split in splits[half:]]
    raw = {
        "reference": [_run_json(one) for one in theirs],
        "ours": {engine: [_points(round_) for round_ in rounds] for engine, rounds in ours.items()},
        "reference_sweep": {str(split): _run_json(one) for split, one in zip(splits, swept, strict=True)},
        "sweep": own_sweep,
    }
    claims = [*claims_of(theirs, ours), sweep_claim(swept, own_sweep)]
    return claims, raw, [_table(theirs, ours), _sweep_table(swept, own_sweep)]


def claims_of(theirs: list[Run], ours: Rounds) -> list[Ratio]:
    """Throughput and latency of the engine with the highest throughput, and latency of the reference's own engine."""
    best = max(ours, key=lambda engine: throughput_ratio(theirs, ours[engine]).value)
    faster = throughput_ratio(theirs, ours[best])
    detail = f"{best}, {SPLIT}; [{faster.low:.2f}, {faster.high:.2f}], {faster.n} rounds"
    claims = [Ratio("throughput / reference's way, best engine", faster.value, 2.0, True, detail=detail)]
    for engine in dict.fromkeys((best, BASE)):
        ratio, depths = latency_ratio(theirs, ours[engine])
        detail = f"{engine}, {SPLIT}, depth {'/'.join(map(str, sorted(depths)))}; "
        detail += f"[{ratio.low:.2f}, {ratio.high:.2f}], {ratio.n} rounds"
        claims.append(Ratio(f"latency / reference's way, {engine}", ratio.value, 0.6, False, detail=detail))
    return claims


def throughput_ratio(theirs: list[Run], ours: list[dict[int, JsonObject]]) -> Middle:
    """Ours at the depth with the most, over theirs after its cold first batch; paired by round."""
    return ratio_interval(
        [
            max(point["throughput_img_s"] for point in points.values()) / reference.steady_img_s
            for reference, points in zip(theirs, ours, strict=True)
        ]
    )


def latency_ratio(theirs: list[Run], ours: list[dict[int, JsonObject]]) -> tuple[Middle, set[int]]:
    """Our lowest latency among points that reach 0.97 of its throughput, over its mean latency; and their depths.

    NaN where a round has no such point.
    """
    ratios, depths = [], set()
    for reference, points in zip(theirs, ours, strict=True):
        enough = {
            depth: point["latency_s"]
            for depth, point in points.items()
            if point["throughput_img_s"] >= AT_LEAST * reference.steady_img_s
        }
        if not enough:
            return Middle(float("nan"), float("nan"), float("nan"), len(theirs)), set()
        depth = min(enough, key=lambda one: enough[one])
        depths.add(depth)
        ratios.append(enough[depth] / reference.latency_s)
    return ratio_interval(ratios), depths


def sweep_claim(swept: list[Run], own: JsonObject) -> Ratio:
    """Wall time per split, everything included, where both measure 8 batches of 8 by eager at one depth."""
    their_s, our_s = fmean(one.wall_s for one in swept), own["wall_s"] / own["cells"]
    detail = f"{their_s:.2f} s a split against {our_s:.2f} s a cell"
    return Ratio("sweep, reference's way / ours", their_s / our_s, 5.0, True, detail=detail)


def _sweep_table(swept: list[Run], own: JsonObject) -> Table:
    their_s, their_window_s = fmean(one.wall_s for one in swept), fmean(one.measuring_s for one in swept)
    our_s, our_window_s = (own[key] / own["cells"] for key in ("wall_s", "window_s"))
    rows = [
        [
            "reference's way",
            str(len(swept)),
            f"{their_s:.2f}",
            f"{their_window_s:.2f}",
            f"{their_s - their_window_s:.2f}",
        ],
        ["pp-matrix run", str(own["cells"]), f"{our_s:.2f}", f"{our_window_s:.2f}", f"{our_s - our_window_s:.2f}"],
    ]
    title = f"Cost of a sweep per split, {MODEL}, eager, {BATCHES} batches of {BATCH_SIZE}, s"
    return Table(title, ["way", "splits", "in all", "measuring", "the rest"], rows)


def _table(theirs: list[Run], ours: Rounds) -> Table:
    rows = [
        [
            *("reference's way", "8, unbounded"),
            interval_text(ratio_interval([one.steady_img_s for one in theirs])),
            f"{geometric_mean([one.throughput_img_s for one in theirs]):.3g}",
            interval_text(ratio_interval([one.latency_s for one in theirs]), 1e3),
        ]
    ]
    for engine, rounds in ours.items():
        for depth in DEPTHS:
            points = [points[depth] for points in rounds]
            rows.append(
                [
                    *(engine, str(depth)),
                    interval_text(ratio_interval([point["throughput_img_s"] for point in points])),
                    "",
                    interval_text(ratio_interval([point["latency_s"] for point in points]), 1e3),
                ]
            )
    columns = ["way", "in flight", "img/s, steady", "img/s, first batch included", "latency in ms"]
    return Table(f"{MODEL} {SPLIT}, batch {BATCH_SIZE}", columns, rows)


def _run_json(one: Run) -> JsonObject:
    names = ("latency_s", "throughput_img_s", "steady_img_s", "measuring_s", "wall_s", "start_s", "end_s")
    return {name: getattr(one, name) for name in names}


def _points(points: dict[int, JsonObject]) -> JsonObject:
    kept = ("throughput_img_s", "latency_s", "window_batches", "tries")
    return {str(depth): {key: point[key] for key in kept} for depth, point in points.items()}
