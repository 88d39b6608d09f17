"""The socket backend against rpc at equal cells: same session, workers, stages, credits; only the transport differs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from benchmarks.intervals import Middle, ratio_interval
from benchmarks.pipeline import at, cell, describe, measure_valid, profile_named, session
from benchmarks.report import Ratio, Table, interval_text
from benchmarks.settings import effort
from paretopipe_matrix.testbed import JsonObject, Window

MODEL = "mobilenet_v2"
CUTS = ("0", "P3", "P9", "P17")
DEPTHS = (1, 2, 4)
OURS = "socket"
THEIRS = ("rpc", "rpc-mpt_uv")

Points = dict[str, dict[str, dict[int, list[JsonObject]]]]
"""Backend -> cut -> depth -> what was measured, by round."""


def run() -> tuple[list[Ratio], Any, list[Table]]:
    """Rounds of all cells in random order, paired by round."""
    lan = profile_named("lan")
    points: Points = {backend: {name: {depth: [] for depth in DEPTHS} for name in CUTS} for backend in (OURS, *THEIRS)}
    window = Window(None, effort(0.6, 0.3), 5)
    with session(lan) as opened:
        described = describe(opened, MODEL)
        for number in range(effort(5, 2)):
            cells = [(backend, name) for backend in points for name in CUTS]
            random.Random(number).shuffle(cells)
            for backend, name in cells:
                one = cell(described, at(described, name), lan, DEPTHS, window, backend=backend)
                for depth, point in measure_valid(opened, one).items():
                    points[backend][name][depth].append(point)
    claims, rows = [], []
    for backend in THEIRS:
        claims += compare(points, backend)
        rows += _rows(points, backend)
    table = Table(
        f"socket / rpc by cell, {MODEL}, batch 8, geometric mean of rounds [95 % interval]",
        ["rpc as", "cut", "depth", "throughput", "latency", "CPU s per image"],
        rows,
    )
    return claims, _raw(points), [table]


def cpu_s_per_image(point: JsonObject) -> float:
    """CPU seconds of all stages' workers per image; `cpu_pct` is summed over cores."""
    return float(sum(stage["cpu_pct"] for stage in point["stages"]) / 100 / point["throughput_img_s"])


def _paired(points: Points, backend: str, name: str, depth: int, value: Callable[[JsonObject], float]) -> list[float]:
    rounds = zip(points[OURS][name][depth], points[backend][name][depth], strict=True)
    return [value(ours) / value(theirs) for ours, theirs in rounds]


def _throughput(points: Points, backend: str, name: str, depth: int) -> Middle:
    return ratio_interval(_paired(points, backend, name, depth, lambda point: point["throughput_img_s"]))


def _latency(points: Points, backend: str, name: str, depth: int) -> Middle:
    return ratio_interval(_paired(points, backend, name, depth, lambda point: point["latency_s"]))


def _cpu(points: Points, backend: str, name: str, depth: int) -> Middle:
    return ratio_interval(_paired(points, backend, name, depth, cpu_s_per_image))


def compare(points: Points, backend: str) -> list[Ratio]:
    """The claims against one way of rpc."""
    cells = [(name, depth) for name in CUTS for depth in DEPTHS]
    # A whole interval on the slower side; of equal backends one cell in 40 shows that by chance.
    slower = [
        f"{name} depth {depth}" for name, depth in cells if _throughput(points, backend, name, depth).high < 1
    ] + [f"{name} latency" for name in CUTS if _latency(points, backend, name, 1).low > 1]
    tests = len(cells) + len(CUTS)
    detail = f"of {tests}; by chance {tests / 40:.1f}" + "".join(f"; {which}" for which in slower)
    cpu = ratio_interval([_cpu(points, backend, name, depth).value for name, depth in cells])
    return [
        Ratio(f"cells where socket is slower than {backend}", len(slower), 0, False, detail=detail),
        Ratio(
            f"CPU s per image, socket / {backend}",
            cpu.value,
            1.0,
            False,
            detail=f"geometric mean of {cpu.n} cells [{cpu.low:.3f}, {cpu.high:.3f}]",
        ),
    ]


def _rows(points: Points, backend: str) -> list[list[str]]:
    return [
        [
            backend,
            name,
            str(depth),
            *(interval_text(ratio(points, backend, name, depth)) for ratio in (_throughput, _latency, _cpu)),
        ]
        for name in CUTS
        for depth in DEPTHS
    ]


def _raw(points: Points) -> Any:
    kept = ("throughput_img_s", "latency_s", "bytes_per_batch", "window_batches", "transport", "tries")
    return {
        backend: {
            name: {
                str(depth): [
                    {key: point[key] for key in kept} | {"cpu_s_per_image": cpu_s_per_image(point)} for point in rounds
                ]
                for depth, rounds in by_depth.items()
            }
            for name, by_depth in by_cut.items()
        }
        for backend, by_cut in points.items()
    }
