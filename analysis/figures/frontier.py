"""The frontier as a picture: a panel per model, latency across, throughput up, the front as a staircase."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from analysis.figures.staircase import Staircase
from analysis.objectives import DEFAULT_OBJECTIVES, LATENCY, THROUGHPUT, Objective, columns_of, numeric
from analysis.operating_points import CHOICES, HIGH, varying

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fronts.marking import Front

SECONDS_FROM_S = 2.0
"""Latencies are drawn in milliseconds where all are below this."""
LOG_FROM_RATIO = 30.0
NOTE_FAILURES = 3
SURE, HARDLY = 0.95, 0.05
"""Memberships from which a point is as good as on the front, and below which as good as off it."""
BARS_UP_TO = 400
"""A panel with more dominated points than this has no bars on them: they would hide everything."""
NAMED, NAMED_OF_PAIR = 16, 8
"""How many points of a front have their names in a panel, and in one of two objectives of more."""


@dataclass(frozen=True)
class Mark:
    """One point of a panel, in the units of the axes."""

    x: float
    y: float
    x_half: float
    """Half widths of the 95 % t-intervals; NaN where there is none."""
    y_half: float
    on_frontier: bool
    label: str
    depth: int | None = None
    position: float | None = None
    """Index of the first cut divided by that of cut N: 0 all remote, 1 all local."""
    membership: float = math.nan
    """Share of draws with the point on the front; NaN where unknown."""
    knee: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether the draws do not agree that it is on the front, or off it."""
        return HARDLY <= self.membership < SURE

    @property
    def caption(self) -> str:
        """The label, and the membership where the point is on the front of the means and the draws do not agree."""
        return f"{self.label} ({100 * self.membership:.0f} %)" if self.label and self.doubtful else self.label


@dataclass(frozen=True)
class Band:
    """Where the front runs: what 97.5 %, 50 % and 2.5 % of the draws attain, in the units of the axes."""

    low: Staircase
    median: Staircase
    high: Staircase


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    marks: tuple[Mark, ...]
    invalid: tuple[tuple[float, float], ...] = ()
    """Single rounds that broke a check, (x, y); in no average."""
    band: Band | None = None
    axes: tuple[str, str] | None = None
    """Labels of its own axes, where panels differ in them. It then shows two objectives of more: no staircase."""

    @property
    def staircase(self) -> list[tuple[float, float]]:
        """The front's points from left to right, each place once; empty where the axes are two objectives of more."""
        return sorted({(mark.x, mark.y) for mark in self.marks if mark.on_frontier}) if self.axes is None else []

    def values(self, axis: str) -> list[float]:
        """The `x` or `y` values of all points, the invalid ones last."""
        index = "xy".index(axis)
        return [mark.y if index else mark.x for mark in self.marks] + [place[index] for place in self.invalid]

    @property
    def nameable(self) -> list[Mark]:
        """The points of the front that have a name, from left to right."""
        return sorted(
            (mark for mark in self.marks if mark.on_frontier and mark.label), key=lambda mark: (mark.x, mark.y)
        )

    @property
    def named(self) -> list[Mark]:
        """Those of them that are named: where they are many, the knee and those that the data is surest of."""
        most = NAMED if self.axes is None else NAMED_OF_PAIR
        surest = sorted(
            self.nameable,
            key=lambda mark: (not mark.knee, -1.0 if mark.membership != mark.membership else -mark.membership),
        )
        chosen = set(surest[:most])
        return [mark for mark in self.nameable if mark in chosen]

    @property
    def dominated_bars(self) -> bool:
        """Whether dominated points have their bars."""
        return sum(not mark.on_frontier for mark in self.marks) <= BARS_UP_TO


@dataclass(frozen=True)
class FrontierInfo:
    """Everything that a frontier figure shows."""

    panels: tuple[Panel, ...]
    x_label: str
    y_label: str
    x_maximised: bool = False
    y_maximised: bool = True
    title: str = ""
    notes: tuple[str, ...] = ()
    position_label: str = ""
    """What `Mark.position` is; empty where no mark has one."""
    columns: int = 2
    """Panels side by side, at most."""

    @property
    def depths(self) -> list[int]:
        """All depths in the figure, ascending."""
        return sorted({mark.depth for panel in self.panels for mark in panel.marks if mark.depth is not None})

    def axis_label(self, axis: str, panel: Panel) -> str:
        """The label of the `x` or `y` axis of a panel."""
        own = panel.axes or (self.x_label, self.y_label)
        return own["xy".index(axis)]

    def log_scale(self, axis: str, panel: Panel | None = None) -> bool:
        """Whether the `x` or `y` values of a panel span so much that a linear axis would hide most of them.

        Panels that show the same quantity are all alike.
        """
        label = self.axis_label(axis, panel or self.panels[0])
        spans = [other.values(axis) for other in self.panels if self.axis_label(axis, other) == label]
        if any(min(values) <= 0 for values in spans if values):
            return False
        return any(max(values) / min(values) >= LOG_FROM_RATIO for values in spans if values)


def get_frontier_info(
    points: pd.DataFrame,
    records: pd.DataFrame,
    title: str,
    notes: Sequence[str] = (),
    fronts: Sequence[Front] = (),
    draws: int = 0,
) -> FrontierInfo:
    """The figure of marked operating points of one network condition.

    `points` are rows of `Fronts.points`, `records` the records of the same condition: of them the invalid rounds are
    drawn apart and the failed cells named in the notes, after `notes`. `fronts` are those of the points, out of
    `draws` draws: their objectives are the axes, and their attainment is the band. Two objectives make a panel per
    model; more make one per model and pair of them.
    """
    objectives = fronts[0].objectives if fronts else DEFAULT_OBJECTIVES
    valid = points[points[columns_of(objectives)].notna().all(axis=1) & (points["rounds"] > 0)]
    invalid = records[records["state"] == "invalid"]
    axes = {o.column: _axis(o, [valid, invalid]) for o in objectives}
    front = valid[valid["on_frontier"]]
    named = varying(front, CHOICES)
    shared = [axis for axis in varying(points, CHOICES) if axis not in named]
    several_cuts = points["split_index"].astype(str).str.contains("+", regex=False).any()
    attained = {front.key["model"]: front.attainment for front in fronts}
    pairs = list(combinations(objectives, 2))
    panels = []
    for model in dict.fromkeys(points["model"]):
        of_model, rounds = valid[valid["model"] == model], invalid[invalid["model"] == model]
        for pair in pairs:
            factors = [axes[o.column][1] for o in pair]
            places = numeric(rounds, columns_of(pair)) * factors
            found = attained.get(str(model)) if len(pairs) == 1 else None
            lines = (found.low, found.median, found.high) if found else ()
            panels.append(
                Panel(
                    title=str(model),
                    marks=_marks(of_model, pair, factors, named),
                    invalid=tuple((x, y) for x, y in places.tolist() if math.isfinite(x + y)),
                    band=Band(*(Staircase((line * factors).tolist()) for line in lines)) if lines else None,
                    axes=None if len(pairs) == 1 else (axes[pair[0].column][0], axes[pair[1].column][0]),
                )
            )
    return FrontierInfo(
        panels=tuple(panels),
        x_label=axes[objectives[0].column][0],
        y_label=axes[objectives[1].column][0],
        x_maximised=objectives[0].maximise,
        y_maximised=objectives[1].maximise,
        title=title,
        notes=(*notes, *_objective_notes(objectives), *_notes(valid, records, front, shared), *_doubts(panels, draws)),
        position_label=f"position of the {'first ' if several_cuts else ''}cut",
        columns=2 if len(pairs) == 1 else min(3, len(pairs)),
    )


def _axis(objective: Objective, frames: Sequence[pd.DataFrame]) -> tuple[str, float]:
    """The label of an objective's axis, and the factor from its column to it."""
    if objective == LATENCY:
        values = [numeric(frame, [objective.column]) for frame in frames]
        most = max((float(found[found == found].max(initial=0.0)) for found in values), default=0.0)
        unit, factor = ("s", 1.0) if most >= SECONDS_FROM_S else ("ms", 1e3)
        return f"latency per batch ({unit})", factor
    return ("throughput (images/s)" if objective == THROUGHPUT else objective.column), 1.0


def _marks(
    rows: pd.DataFrame, pair: Sequence[Objective], factors: Sequence[float], named: Sequence[str]
) -> tuple[Mark, ...]:
    means = numeric(rows, columns_of(pair))
    halves = means * math.nan
    for place, objective in enumerate(pair):
        if objective.column + HIGH in rows.columns:
            halves[:, place] = numeric(rows, [objective.column + HIGH])[:, 0] - means[:, place]
    depths = numeric(rows, ["depth"])[:, 0].tolist()
    positions = [_position(str(s), n) for s, n in zip(rows["split_index"], rows["n_cuts"], strict=True)]
    unknown = [math.nan] * len(rows)
    memberships = rows["membership"].tolist() if "membership" in rows.columns else unknown
    knees = rows["knee"].tolist() if "knee" in rows.columns else [False] * len(rows)
    on_frontier = rows["on_frontier"].tolist()
    # Only points of the front have labels, and of them there are few.
    labels = {
        place: point_label({str(key): value for key, value in rows.iloc[place].items()}, named)
        for place, on in enumerate(on_frontier)
        if on
    }
    return tuple(
        Mark(x, y, x_half, y_half, on, labels.get(place, ""), int(d) if d == d else None, position, membership, knee)
        for place, ((x, y), (x_half, y_half), on, d, position, membership, knee) in enumerate(
            zip(
                (means * factors).tolist(),
                (halves * factors).tolist(),
                on_frontier,
                depths,
                positions,
                memberships,
                knees,
                strict=True,
            )
        )
    )


def point_label(row: dict[str, Any], named: Sequence[str] = ()) -> str:
    """`P3 ·D2`: the place of the cut, the depth where it is known, then the values of the `named` axes."""
    paper_name = row["split"] if row["split"] != row["split_index"] else None
    where = row["placement"] or paper_name or row["split_name"] or row["split"]
    depth = row["depth"]
    at = [] if depth is None or depth != depth else [f"·D{int(depth)}"]
    values = [f"b{row[axis]}" if axis == "batch_size" else str(row[axis]) for axis in named]
    return " ".join([str(where), *at, *values])


def _position(split_index: str, n_cuts: object) -> float | None:
    first = split_index.split("+")[0]
    if not first.isdigit() or not isinstance(n_cuts, int | float) or not n_cuts or n_cuts != n_cuts:
        return None
    return int(first) / int(n_cuts)


def _objective_notes(objectives: Sequence[Objective]) -> list[str]:
    if tuple(objectives) == DEFAULT_OBJECTIVES:
        return []
    return [better_words(objectives)]


def better_words(objectives: Sequence[Objective]) -> str:
    """`Better: less latency_s, more throughput_img_s.`, and what a picture of more than two shows."""
    words = "Better: " + ", ".join(objective.words for objective in objectives) + "."
    if len(objectives) > 2:
        words += f" The front is of all {len(objectives)} together: a point on it may look dominated in a pair."
    return words


def _notes(valid: pd.DataFrame, records: pd.DataFrame, front: pd.DataFrame, shared: Sequence[str]) -> list[str]:
    """`shared`: axes that vary among all points but not on the front, so that no label has them."""
    notes = []
    if shared and len(front):
        values = ", ".join(f"{axis.replace('_', ' ')} {front[axis].iloc[0]}" for axis in shared)
        notes.append(f"All points of the frontier: {values}.")
    rounds = sorted({int(n) for n in valid["rounds"]})
    if rounds == [1]:
        notes.append("One round per point: no intervals.")
    elif rounds:
        span = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]}-{rounds[-1]}"
        notes.append(f"Means of {span} rounds; bars: 95 % t-intervals.")
    failed = records[records["state"] == "failed"]
    if len(failed):
        cells = failed.drop_duplicates("cell")
        names = [
            f"{row.model} {row.split} ({str(row.failure).partition(':')[0]})"
            for row in cells.head(NOTE_FAILURES).itertuples()
        ]
        more = f", and {len(cells) - NOTE_FAILURES} more" if len(cells) > NOTE_FAILURES else ""
        plural = "cell" if len(cells) == 1 else "cells"
        notes.append(f"Failed: {len(cells)} {plural}: {', '.join(names)}{more}.")
    return notes


def _doubts(panels: Sequence[Panel], draws: int) -> list[str]:
    """What the band is, and what a membership in a label is."""
    notes = []
    if any(panel.band for panel in panels):
        notes.append(f"Shaded: where 95 % of {draws} draws of the rounds put the front; dotted: their median.")
    if any(mark.doubtful and mark.on_frontier for panel in panels for mark in panel.marks):
        notes.append(
            f"(71 %): share of draws with the point on the front, where below {SURE:.0%}.".replace("%.", " %.")
        )
    bare = sum(not panel.dominated_bars for panel in panels)
    if bare:
        where = "dominated points" if bare == len(panels) else "the dominated points of crowded panels"
        notes.append(f"No bars on {where}.")
    return notes


def wrapped_notes(info: FrontierInfo, characters: int) -> str:
    """The notes as lines of at most so many characters."""
    return "\n".join(textwrap.fill(note, characters) for note in info.notes)


def view(values: Sequence[float], halves: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Limits of an axis: all values with a margin, and their bars as far as these do not dwarf the values.

    With two rounds a t-interval is 12.7 standard errors wide; a picture of such bars would show nothing else.
    """
    scale = math.log10 if log else float
    spread = max(map(scale, values)) - min(map(scale, values)) or abs(scale(values[0])) * 0.1 or 1.0
    reach, margin = 0.3 * spread, 0.08 * spread
    bars = [half if math.isfinite(half) else 0.0 for half in halves]
    low = min(scale(max(v - b, v * 1e-3 if log else v - b)) for v, b in zip(values, bars, strict=True))
    high = max(scale(v + b) for v, b in zip(values, bars, strict=True))
    low = max(low, min(map(scale, values)) - reach) - margin
    high = min(high, max(map(scale, values)) + reach) + margin
    return (10**low, 10**high) if log else (low, high)
