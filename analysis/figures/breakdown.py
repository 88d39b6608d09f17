"""Latency by part as stacked bars: a panel per band and depth, cuts across, the compared values side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.comparing.breakdown import PART_COLUMNS
from analysis.figures.bands import DENSE_FROM, Band, finite, place
from analysis.figures.frontier import SECONDS_FROM_S
from analysis.operating_points import HIGH

NAMED_UP_TO = 8
"""Bars of a panel that have their names below them; more are told apart by the marks of the legend."""
MOST_COLUMNS = 3


@dataclass(frozen=True)
class Bar:
    """One operating point of a panel, in the unit of the axis."""

    slot: int
    """Index of its cut in the panel."""
    value: int
    """Index of its value of the compared axis."""
    parts: tuple[float, ...]
    """Compute, serialize, queue, network; NaN where not known, all of them without a valid round."""
    latency: float
    half: float
    """Half width of the latency's 95 % t-interval, upwards; NaN where there is none."""
    cpu_pct: tuple[float, ...]
    gpu_pct: tuple[float, ...]
    """Per stage; NaN where not measured."""

    @property
    def known(self) -> bool:
        """Whether all parts are."""
        return all(map(math.isfinite, self.parts))

    @property
    def edges(self) -> list[tuple[float, float]]:
        """Where each part begins and ends: stacked from 0 upwards, a negative one from 0 downwards."""
        up = down = 0.0
        found = []
        for part in self.parts:
            start = up if part >= 0 else down
            found.append((start, start + part))
            up, down = (up + part, down) if part >= 0 else (up, down + part)
        return found


@dataclass(frozen=True)
class BreakdownPanel:
    """One pair of axes, and the strip of utilisation below it."""

    title: str
    cuts: tuple[str, ...]
    bars: tuple[Bar, ...]

    def limits(self) -> tuple[float, float]:
        """Of the latency axis: all bars and, up to a third more, their intervals."""
        known = [bar for bar in self.bars if bar.known]
        tops = [max(end for edge in bar.edges for end in edge) for bar in known]
        highest = max(tops, default=1.0) or 1.0
        reach = max((bar.latency + bar.half for bar in known if math.isfinite(bar.half)), default=highest)
        lowest = min((min(end for edge in bar.edges for end in edge) for bar in known), default=0.0)
        return (1.15 * lowest, 1.06 * min(max(highest, reach), 1.33 * highest))


@dataclass(frozen=True)
class BreakdownInfo:
    """Everything that a figure of latencies by part shows."""

    panels: tuple[BreakdownPanel, ...]
    columns: int
    values: tuple[str, ...]
    """Of the compared axis, the baseline first, as the bars of a cut stand from left to right."""
    unit: str
    title: str
    notes: tuple[str, ...]

    @property
    def named(self) -> bool:
        """Whether every bar has its name below it."""
        return max(len(panel.bars) for panel in self.panels) <= NAMED_UP_TO

    def stages(self, utilisation: str) -> list[int]:
        """The stages (from 0) of which `cpu_pct` or `gpu_pct` was measured anywhere."""
        percents = [getattr(bar, utilisation) for panel in self.panels for bar in panel.bars]
        return sorted({k for found in percents for k, percent in enumerate(found) if math.isfinite(percent)})

    def has(self, utilisation: str) -> bool:
        """Whether `cpu_pct` or `gpu_pct` was measured anywhere."""
        return bool(self.stages(utilisation))


def get_breakdown_info(
    bands: Sequence[Band], by: str, values: Sequence[str], title: str, notes: Sequence[str] = ()
) -> BreakdownInfo:
    """The figure of some bands; `values` of `by` in their order, the baseline first."""
    rows = [row for band in bands for row in band.rows]
    latencies = [finite(row["latency_s"]) for row in rows if row["rounds"] > 0]
    unit, factor = ("s", 1.0) if max(latencies, default=0.0) >= SECONDS_FROM_S else ("ms", 1e3)
    panels = tuple(_panel(band, depth, by, values, factor) for band in bands for depth in band.depths)
    widest = max(len(panel.cuts) for panel in panels) * len(values)
    several_depths = max(len(band.depths) for band in bands)
    across = several_depths if 1 < several_depths <= MOST_COLUMNS else min(MOST_COLUMNS, len(panels))
    missing = sum(row["rounds"] == 0 for row in rows)
    return BreakdownInfo(
        panels=panels,
        columns=1 if widest >= DENSE_FROM else across,
        values=tuple(values),
        unit=unit,
        title=title,
        notes=(*notes, *_notes(rows, missing)),
    )


def _panel(band: Band, depth: int, by: str, values: Sequence[str], factor: float) -> BreakdownPanel:
    rows = [row for row in band.rows if row["depth"] == depth and row[by] in values]
    cuts = list(dict.fromkeys(place(row) for row in rows))
    bars = tuple(_bar(row, cuts.index(place(row)), values.index(row[by]), factor) for row in rows)
    return BreakdownPanel(f"{band.title}, depth {depth}", tuple(cuts), bars)


def _bar(row: dict[str, Any], slot: int, value: int, factor: float) -> Bar:
    latency = finite(row["latency_s"]) * factor
    stages = range(1, int(row["n_stages"]) + 1)
    return Bar(
        slot=slot,
        value=value,
        parts=tuple(finite(row[column]) * factor for column in PART_COLUMNS),
        latency=latency,
        half=finite(row["latency_s" + HIGH]) * factor - latency,
        cpu_pct=tuple(finite(row[f"stage{k}_cpu_pct"]) for k in stages),
        gpu_pct=tuple(finite(row[f"stage{k}_gpu_util_pct"]) for k in stages),
    )


def _notes(rows: Sequence[dict[str, Any]], missing: int) -> list[str]:
    rounds = sorted({int(row["rounds"]) for row in rows if row["rounds"]})
    span = "-".join(map(str, dict.fromkeys((rounds[0], rounds[-1])))) if rounds else "0"
    plural = "" if rounds == [1] else "s"
    notes = [
        f"Means of {span} round{plural}; thin lines: 95 % t-intervals of the latency."
        if rounds != [1]
        else "One round per point: no intervals.",
        "network: what is left of the latency: links, kernel, receiving and, at depths above 1, waiting in buffers.",
    ]
    if missing:
        notes.append(f"×: no valid round ({missing}).")
    unknown = sum(row["rounds"] > 0 and math.isnan(finite(row[PART_COLUMNS[-1]])) for row in rows)
    if unknown:
        notes.append(f"Without a bar: {unknown} points whose records lack a duration of a stage.")
    return notes
