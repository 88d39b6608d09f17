"""Ratios to the baseline with their intervals: cuts across, a column per depth, a row per metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.comparing.compare_tables import ratio_columns
from analysis.comparing.comparison import EQUAL, METRICS, UNKNOWN, Metric
from analysis.figures.bands import DENSE_FROM, Band, finite, place

_ROWS = {
    "throughput": "images/s",
    "latency": "latency",
    "cpu": "CPU s/image",
    "network": "network time",
}
LEAST_REACH = math.log(1.25)
"""Intervals are shown whole up to this, or up to the spread of the ratios: with two rounds they can be huge."""


@dataclass(frozen=True)
class RatioMark:
    """One pair at a metric."""

    slot: int
    """Index of its cut in the panel."""
    value: int
    """Index of its value among the compared ones."""
    ratio: float
    low: float
    """NaN, as `high`, where there is no interval."""
    high: float
    beyond: bool
    """Whether 1 lies outside the interval."""


@dataclass(frozen=True)
class RatioPanel:
    """One pair of axes."""

    row: int
    column: int
    title: str
    cuts: tuple[str, ...]
    marks: tuple[RatioMark, ...]
    label: str
    """Of its axis: what the ratio is of, and which side is better; empty where the panel to the left has it."""


@dataclass(frozen=True)
class RatiosInfo:
    """Everything that a figure of ratios shows."""

    panels: tuple[RatioPanel, ...]
    values: tuple[str, ...]
    """The compared ones, without the baseline."""
    title: str
    notes: tuple[str, ...]

    @property
    def columns(self) -> int:
        """Panels side by side."""
        return 1 + max((panel.column for panel in self.panels), default=0)

    @property
    def rows(self) -> int:
        """Panels one below the other."""
        return 1 + max((panel.row for panel in self.panels), default=0)

    def limits(self, row: int) -> tuple[float, float]:
        """Of the ratio axes of a row: 1, all ratios, and their intervals as far as these do not dwarf them."""
        marks = [mark for panel in self.panels if panel.row == row for mark in panel.marks]
        logs = [0.0, *(math.log(mark.ratio) for mark in marks)]
        reach = max(max(logs) - min(logs), LEAST_REACH)
        ends = [math.log(end) for mark in marks for end in (mark.low, mark.high) if 0 < end < math.inf]
        low = max(min([*logs, *ends]), min(logs) - reach)
        high = min(max([*logs, *ends]), max(logs) + reach)
        margin = 0.06 * max(high - low, 0.02)
        return math.exp(low - margin), math.exp(high + margin)


def get_ratios_info(
    bands: Sequence[Band], by: str, values: Sequence[str], baseline: str, title: str, notes: Sequence[str] = ()
) -> RatiosInfo | None:
    """The figure of some bands, whose rows come from `with_ratios`; None where no pair has a ratio.

    With more than one band the bands stand side by side on the axis of cuts.
    """
    depths = sorted({depth for band in bands for depth in band.depths})
    slots = [(band, cut) for band in bands for cut in band.cuts]
    names = [f"{band.title} {cut}" if len(bands) > 1 else cut for band, cut in slots]
    across = 1 if len(slots) * len(values) >= DENSE_FROM * 2 else len(depths)
    panels: list[RatioPanel] = []
    row = 0
    for metric in METRICS:
        of_metric = [(depth, _marks(slots, depth, by, values, metric)) for depth in depths]
        found = [(depth, marks) for depth, marks in of_metric if marks]
        for index, (depth, marks) in enumerate(found):
            column = depths.index(depth) if across > 1 else 0
            better = "above" if metric.more_is_better else "below"
            label = f"{_ROWS[metric.name]}, ratio\n({better} 1: {metric.better})"
            heading = f"depth {depth}" if across == 1 or row == 0 else ""
            panels.append(
                RatioPanel(row, column, heading, tuple(names), marks, label if across == 1 or index == 0 else "")
            )
            row += across == 1
        row += across > 1 and bool(found)
    if not panels:
        return None
    where = f"{bands[0].title}; " if len(bands) == 1 else ""
    meaning = "Lines: 95 % t-intervals over rounds; filled: 1 lies outside; hollow: not told apart, or one round."
    return RatiosInfo(tuple(panels), tuple(values), f"{where}{title}", (*notes, meaning))


def _marks(
    slots: Sequence[tuple[Band, str]], depth: int, by: str, values: Sequence[str], metric: Metric
) -> tuple[RatioMark, ...]:
    ratio, low, high, verdict = ratio_columns(metric.name)
    marks = []
    for slot, (band, cut) in enumerate(slots):
        for row in band.rows:
            if row["depth"] == depth and place(row) == cut and row[by] in values and _known(row[ratio]):
                beyond = row[verdict] not in (EQUAL, UNKNOWN)
                ends = finite(row[low]), finite(row[high])
                marks.append(RatioMark(slot, values.index(row[by]), finite(row[ratio]), *ends, beyond))
    return tuple(marks)


def _known(value: Any) -> bool:
    return math.isfinite(finite(value))
