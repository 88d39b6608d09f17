"""The fronts of two networks in one pair of axes: where their points were, and where they are now."""

from __future__ import annotations

import math
import textwrap
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.figures.frontier import SECONDS_FROM_S, better_words, point_label
from analysis.figures.labels import Point
from analysis.figures.staircase import Staircase
from analysis.networks.shift import BASELINE, ENTERS, LEAVES, ON_NEITHER, OTHER, STAYS, Shift
from analysis.networks.tables import cut_words, point_words
from analysis.objectives import DEFAULT_OBJECTIVES, LATENCY, THROUGHPUT, Objective, columns_of
from analysis.operating_points import CHOICES, HIGH, varying

if TYPE_CHECKING:
    import pandas as pd

MOST_ARROWS = 12
LOG_FROM_RATIO = 8.0
"""An axis is logarithmic from this span on: two networks' fronts are clusters far apart."""
FRONT, VISITED, DOMINATED = "front", "visited", "dominated"
"""What a mark is: on its network's front; off it, but at one end of an arrow; neither."""


@dataclass(frozen=True)
class NetworkMark:
    """An operating point under one network, in the units of the axes."""

    x: float
    y: float
    x_half: float
    """Half widths of the 95 % t-intervals; NaN where there is none."""
    y_half: float
    role: str
    label: str
    """Empty unless it is on the front and has an arrow."""


@dataclass(frozen=True)
class Arrow:
    """From a point's place under the baseline to its place under the other network."""

    start: Point
    end: Point
    shift: str
    """`stays`, `enters` or `leaves`."""


@dataclass(frozen=True)
class NetworksPanel:
    """One pair of axes."""

    title: str
    networks: tuple[str, str]
    """The baseline and the other one."""
    marks: tuple[tuple[NetworkMark, ...], tuple[NetworkMark, ...]]
    """Under the baseline and under the other one, in the same order."""
    arrows: tuple[Arrow, ...]

    def edges(self, *, x_maximised: bool) -> tuple[list[Point], list[Point]]:
        """The corners of the edges of both fronts, from their first point to their last."""
        old, new = (Staircase((mark.x, mark.y) for mark in side if mark.role == FRONT) for side in self.marks)
        ends = (math.nan, math.nan)
        first, second = (stairs.edge(*ends, x_maximised=x_maximised)[1:-1] for stairs in (old, new))
        return first, second

    def values(self, axis: str) -> list[float]:
        """The `x` or `y` values of all marks."""
        return [getattr(mark, axis) for side in self.marks for mark in side]

    def halves(self, axis: str) -> list[float]:
        """The half widths that are drawn, for `values`: those of the fronts; NaN for the others."""
        return [
            getattr(mark, f"{axis}_half") if mark.role == FRONT else math.nan for side in self.marks for mark in side
        ]


@dataclass(frozen=True)
class NetworksInfo:
    """Everything that the figure of a model shows."""

    panels: tuple[NetworksPanel, ...]
    x_label: str
    y_label: str
    x_maximised: bool
    title: str
    notes: tuple[str, ...]

    @property
    def networks(self) -> list[str]:
        """Each once: the baseline, then the others in the order of the panels."""
        return list(dict.fromkeys(network for panel in self.panels for network in panel.networks))

    @property
    def shifts(self) -> list[str]:
        """The kinds of arrows in the figure."""
        found = {arrow.shift for panel in self.panels for arrow in panel.arrows}
        return [shift for shift in (STAYS, ENTERS, LEAVES) if shift in found]

    def log_scale(self, axis: str) -> bool:
        """Whether the `x` or `y` values of a panel span so much that a linear axis would hide one of its fronts."""
        spans = [panel.values(axis) for panel in self.panels]
        if any(value <= 0 for values in spans for value in values):
            return False
        return any(max(values) / min(values) >= LOG_FROM_RATIO for values in spans)

    def wrapped_notes(self, characters: int) -> str:
        """The notes as lines of at most so many characters."""
        return "\n".join(textwrap.fill(note, characters) for note in self.notes)


def get_networks_info(shifts: Sequence[Shift], notes: Sequence[str] = ()) -> NetworksInfo | None:
    """The figure of the shifts of one model, which have two objectives: a panel each.

    `notes` come first in the figure's own. None where no shift has a front.
    """
    shifts = [shift for shift in shifts if (shift.points["shift"] != ON_NEITHER).any()]
    if not shifts:
        return None
    objectives = shifts[0].objectives
    axes = [_axis(objective, shifts) for objective in objectives]
    factors = [factor for _, factor in axes]
    panels, more = [], []
    for shift in shifts:
        points = _placed(shift)
        on_front = points[points["shift"] != ON_NEITHER]
        chosen = with_arrows(on_front)
        named = varying(on_front, CHOICES)
        old, new = (_marks(points, side, objectives, factors, chosen, named) for side in (BASELINE, OTHER))
        places = {label: place for place, label in enumerate(points.index)}
        ends = [(old[places[label]], new[places[label]], str(points.at[label, "shift"])) for label in chosen]
        arrows = tuple(Arrow((start.x, start.y), (end.x, end.y), kind) for start, end, kind in ends)
        title = f"{shift.baseline} → {shift.other}"
        panels.append(NetworksPanel(title, (shift.baseline, shift.other), (old, new), arrows))
        words = cut_words(shift)
        words = f"{shift.other}: {words}" if len(shifts) > 1 else _capital(words)
        more.append(f"{words}.{_left_out(shift, len(on_front), len(chosen))}")
    return NetworksInfo(
        panels=tuple(panels),
        x_label=axes[0][0],
        y_label=axes[1][0],
        x_maximised=objectives[0].maximise,
        title=shifts[0].model,
        notes=(*notes, *_meaning(shifts, objectives), *more),
    )


def with_arrows(points: pd.DataFrame, most: int = MOST_ARROWS) -> list[int]:
    """The labels of those points of the fronts that get an arrow, at most so many.

    Those that stay, enter and leave have equal shares; what one kind does not need the others have. Where only some of
    a kind have room, they are spread evenly over its rows.
    """
    kinds = {kind: points.index[points["shift"] == kind].tolist() for kind in (STAYS, ENTERS, LEAVES)}
    shares = dict.fromkeys(kinds, 0)
    waiting = deque(kind for kind, labels in kinds.items() if labels)
    while waiting and sum(shares.values()) < most:
        kind = waiting.popleft()
        shares[kind] += 1
        if shares[kind] < len(kinds[kind]):
            waiting.append(kind)
    return [label for kind, labels in kinds.items() for label in _spread(labels, shares[kind])]


def _spread(labels: Sequence[int], count: int) -> list[int]:
    """`count` of the labels, evenly, the first and the last among them where there are two or more."""
    step = (len(labels) - 1) / (count - 1) if count > 1 else 0.0
    return [labels[round(i * step)] for i in range(count)]


def _placed(shift: Shift) -> pd.DataFrame:
    """The points that have a place under both networks, the baseline's first objective ascending."""
    columns = [side + name for side in (BASELINE, OTHER) for name in columns_of(shift.objectives)]
    points = shift.points.dropna(subset=columns)
    return points.sort_values(columns[0], kind="stable")


def _axis(objective: Objective, shifts: Sequence[Shift]) -> tuple[str, float]:
    """The label of an objective's axis, and the factor from its column to it."""
    if objective == LATENCY:
        most = max(float(s.points[side + objective.column].max()) for s in shifts for side in (BASELINE, OTHER))
        return ("latency per batch (s)", 1.0) if most >= SECONDS_FROM_S else ("latency per batch (ms)", 1e3)
    return ("throughput (images/s)" if objective == THROUGHPUT else objective.column), 1.0


def _marks(
    points: pd.DataFrame,
    side: str,
    objectives: Sequence[Objective],
    factors: Sequence[float],
    chosen: Sequence[int],
    named: Sequence[str],
) -> tuple[NetworkMark, ...]:
    visited = set(chosen)
    marks = []
    for label, row in zip(points.index, points.to_dict("records"), strict=True):
        on_frontier = bool(row[f"{side}on_frontier"])
        role = FRONT if on_frontier else VISITED if label in visited else DOMINATED
        x, y = (row[side + name] for name in columns_of(objectives))
        halves = [row[side + name + HIGH] - row[side + name] for name in columns_of(objectives)]
        words = ""
        if on_frontier and label in visited:
            words = point_label({str(key): value for key, value in row.items()}, named)
        marks.append(
            NetworkMark(x * factors[0], y * factors[1], halves[0] * factors[0], halves[1] * factors[1], role, words)
        )
    return tuple(marks)


def _meaning(shifts: Sequence[Shift], objectives: Sequence[Objective]) -> list[str]:
    rounds = sorted({int(n) for s in shifts for side in (BASELINE, OTHER) for n in s.points[side + "rounds"]})
    span = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]}-{rounds[-1]}"
    means = (
        "One round per point: no intervals." if rounds == [1] else f"Means of {span} rounds; bars: 95 % t-intervals."
    )
    better = [] if tuple(objectives) == DEFAULT_OBJECTIVES else [better_words(objectives)]
    return [
        *better,
        f"{means} Filled: on the front under that network; hollow: off it, at one end of an arrow. A "
        "point that hardly moves has no arrow. Only operating points measured under both networks.",
    ]


def _left_out(shift: Shift, on_front: int, arrows: int) -> str:
    """What of the measurements and of the fronts has no place in the picture."""
    parts = []
    if lost := sum(lost.count for lost in shift.left_out):
        parts.append(f"{point_words(lost)} left out: not measured under both, or no valid round")
    if on_front > arrows:
        parts.append(f"{on_front - arrows} of the {on_front} points of the fronts have neither arrow nor name")
    return f" {_capital('; '.join(parts))}." if parts else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
