"""Figure 7 of the paper: latency by part of each backend at its highest throughput, and of all backends there."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.figures.breakdown import Bar, BreakdownInfo, BreakdownPanel
from analysis.figures.frontier import SECONDS_FROM_S
from analysis.paper.backends import BackendPoint

NOTES = (
    "Left: each backend where its own mean throughput is highest (D: batches in flight), as the paper compares them. "
    "Right: all backends at each of those cuts and depths, which the paper does not show.",
    "Thin lines: 95 % t-intervals of the latency over rounds. network: what is left of the latency: links, kernel, "
    "receiving and, at depths above 1, waiting in buffers.",
)


def get_backend_info(points: Sequence[BackendPoint], title: str, notes: Sequence[str] = ()) -> BreakdownInfo:
    """The figure of the points of one pipeline and profile: two panels per model.

    Raises ValueError without points.
    """
    if not points:
        raise ValueError("no points, no figure")
    longest = max(point.latency_s.mean for point in points)
    unit, factor = ("s", 1.0) if longest >= SECONDS_FROM_S else ("ms", 1e3)
    values = tuple(sorted(dict.fromkeys(p.backend for p in points), key=lambda name: name != points[0].baseline))
    panels = []
    for model in dict.fromkeys(point.model for point in points):
        here = [point for point in points if point.model == model]
        for heading, chosen in (
            ("each at its highest throughput", [point for point in here if point.best]),
            ("at equal cuts", here),
        ):
            places = list(dict.fromkeys(_place(point) for point in chosen))
            bars = tuple(_bar(point, places.index(_place(point)), values, factor) for point in chosen)
            panels.append(BreakdownPanel(f"{model}, {heading}", tuple(places), bars))
    return BreakdownInfo(tuple(panels), 2, values, unit, title, (*NOTES, *notes))


def _place(point: BackendPoint) -> str:
    return f"{point.split} ·D{point.depth}"


def _bar(point: BackendPoint, slot: int, values: Sequence[str], factor: float) -> Bar:
    return Bar(
        slot=slot,
        value=values.index(point.backend),
        parts=tuple(part * factor for part in point.parts_s),
        latency=point.latency_s.mean * factor,
        half=point.latency_s.half_width * factor,
        cpu_pct=point.cpu_pct,
        gpu_pct=point.gpu_pct,
    )
