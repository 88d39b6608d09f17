"""What is printed and written of networks compared by their fronts: columns, rows, sentences. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.comparing.comparison import place_words
from analysis.markup import Column
from analysis.networks.shift import BASELINE, ENTERS, LEAVES, ON_NEITHER, OTHER, STAYS, Apart, Estimate, Shift
from analysis.numbers import MISSING, NO_INTERVAL, significant
from analysis.objectives import LATENCY, THROUGHPUT, Objective
from analysis.operating_points import CHOICES, HIGH, LOW

if TYPE_CHECKING:
    import pandas as pd

ARROW = "→"
SUMMARY_COLUMNS = (
    *("model", "baseline", "network", "matched_points", "points_stay", "points_enter", "points_leave"),
    *("cuts_stay", "cuts_enter", "cuts_leave", "epsilon", f"epsilon{LOW}", f"epsilon{HIGH}", "hypervolume_ratio"),
    *(f"hypervolume_ratio{LOW}", f"hypervolume_ratio{HIGH}", "baseline_hypervolume", "network_hypervolume"),
    *("reference", "left_out_points", "left_out"),
)
_HEADERS = {LATENCY.column: ("latency ms", 1e3), THROUGHPUT.column: ("images/s", 1.0)}
_SHORT = {"batch_size": "batch"}


def summary_table(shifts: Sequence[Shift]) -> list[Column]:
    """The printed table of one line per model and network: what stays, enters and leaves, and by how much it is worse.

    Epsilon and the ratio of hypervolumes with their 95 % intervals in brackets.
    """
    return [
        Column("model", tuple(shift.model for shift in shifts), elastic=True),
        *_network(shifts, [shift.other for shift in shifts]),
        Column("pairs", tuple(str(len(shift.points)) for shift in shifts), right=True),
        *(Column(word, tuple(str(s.count(kind)) for s in shifts), right=True) for word, kind in _KINDS.items()),
        Column("epsilon", tuple(_with_ends(shift.epsilon) for shift in shifts), right=True),
        Column("hypervolume ratio", tuple(_with_ends(shift.hypervolume_ratio) for shift in shifts), right=True),
    ]


_KINDS = {"stay": STAYS, "enter": ENTERS, "leave": LEAVES}


def shift_table(shifts: Sequence[Shift]) -> list[Column]:
    """The printed table of the points on one of the two fronts: their place and membership under both, their regret."""
    import pandas as pd

    parts = [_in_order(shift) for shift in shifts]
    rows = pd.concat(parts, ignore_index=True)
    networks = [shift.other for shift, part in zip(shifts, parts, strict=True) for _ in range(len(part))]
    choices = [axis for axis in CHOICES if rows[axis].nunique(dropna=False) > 1]
    places = zip(rows["split"], rows["placement"], strict=True)
    ends = zip(rows["regret" + LOW], rows["regret" + HIGH], strict=True)
    return [
        Column("model", tuple(map(str, rows["model"])), elastic=True),
        *_network(shifts, networks),
        Column("split", tuple(place_words(str(split), str(where)) for split, where in places)),
        Column("D", tuple(whole_words(depth) for depth in rows["depth"]), right=True),
        *(_choice(rows, axis) for axis in choices),
        Column("front", tuple(rows["shift"])),
        *(_moved(rows, objective, drop=i > 1) for i, objective in enumerate(shifts[0].objectives)),
        Column("front %", _pairs(rows, "membership", _percent), right=True),
        Column("regret", tuple(significant(value) for value in rows["regret"]), right=True),
        Column("interval", tuple(_ends(low, high) for low, high in ends), right=True, last_resort=True),
    ]


def _in_order(shift: Shift) -> pd.DataFrame:
    """The points of the two fronts: those that stay, enter, leave; in each the first objective ascending."""
    points = shift.points[shift.points["shift"] != ON_NEITHER]
    order = points["shift"].map({STAYS: 0, ENTERS: 1, LEAVES: 2})
    keys = [BASELINE + shift.objectives[0].column]
    return points.assign(order=order).sort_values(["order", *keys], kind="stable").drop(columns="order")


def _network(shifts: Sequence[Shift], names: Sequence[str]) -> list[Column]:
    several = len({shift.other for shift in shifts}) > 1
    return [Column("network", tuple(names), elastic=True)] if several else []


def _choice(rows: pd.DataFrame, axis: str) -> Column:
    words = whole_words if axis == "batch_size" else str
    return Column(_SHORT.get(axis, axis), tuple(words(value) for value in rows[axis]), elastic=True)


def _moved(rows: pd.DataFrame, objective: Objective, *, drop: bool) -> Column:
    header, factor = _HEADERS.get(objective.column, (objective.column, 1.0))
    cells = _pairs(rows, objective.column, lambda value: significant(value * factor))
    return Column(header, cells, right=True, drop=2 if drop else 0)


def _pairs(rows: pd.DataFrame, column: str, words: Any) -> tuple[str, ...]:
    """`76.1→482`: under the baseline and under the other network."""
    both = zip(rows[BASELINE + column], rows[OTHER + column], strict=True)
    return tuple(f"{words(old)}{ARROW}{words(new)}" for old, new in both)


def _percent(value: float) -> str:
    return f"{100 * value:.0f}" if math.isfinite(value) else NO_INTERVAL


def _with_ends(estimate: Estimate) -> str:
    if not math.isfinite(estimate.value):
        return MISSING
    return f"{significant(estimate.value)} ({_ends(estimate.low, estimate.high)})"


def _ends(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return NO_INTERVAL
    return f"{significant(low)}-{'inf' if math.isinf(high) else significant(high)}"


def whole_words(value: Any) -> str:
    """A whole number, whatever type a column gave it; empty where it is unknown."""
    if value is None or value != value:
        return ""
    return str(int(value))


def summary_rows(shifts: Iterable[Shift], apart: Iterable[Apart]) -> list[dict[str, Any]]:
    """The rows of the csv with `SUMMARY_COLUMNS`: at full precision, and what has no figures with its reasons."""
    rows = []
    for shift in shifts:
        row: dict[str, Any] = dict.fromkeys(SUMMARY_COLUMNS)
        row |= {"model": shift.model, "baseline": shift.baseline, "network": shift.other}
        row["matched_points"] = len(shift.points)
        for word, kind in _KINDS.items():
            row |= {f"points_{word}": shift.count(kind), f"cuts_{word}": " ".join(shift.cuts(kind))}
        for name, estimate in (("epsilon", shift.epsilon), ("hypervolume_ratio", shift.hypervolume_ratio)):
            row |= {name: estimate.value, name + LOW: estimate.low, name + HIGH: estimate.high}
        row["baseline_hypervolume"], row["network_hypervolume"] = shift.hypervolumes
        named = zip(shift.objectives, shift.reference, strict=True)
        row["reference"] = " ".join(f"{objective.column}={value!r}" for objective, value in named)
        rows.append(row | _left_out(shift))
    for nothing in apart:
        row = dict.fromkeys(SUMMARY_COLUMNS) | {"model": nothing.model, "baseline": nothing.baseline}
        rows.append(row | {"network": nothing.other, "matched_points": 0} | _left_out(nothing))
    return rows


def _left_out(shift: Shift | Apart) -> dict[str, Any]:
    words = "; ".join(f"{lost.count}: {lost.reason}" for lost in shift.left_out)
    return {"left_out_points": sum(lost.count for lost in shift.left_out), "left_out": words}


def cut_words(shift: Shift) -> str:
    """`cuts that stay: P5, local; enter: P17; leave: none`."""
    parts = (f"{word}: {', '.join(shift.cuts(kind)) or 'none'}" for word, kind in _KINDS.items())
    return f"cuts that {'; '.join(parts)}"


def left_out_words(shift: Shift | Apart) -> str:
    """`198 points left out: 194 batch size 8: lan only; ...`; empty where there are none."""
    if not shift.left_out:
        return ""
    total = sum(lost.count for lost in shift.left_out)
    reasons = "; ".join(f"{lost.count} ({lost.reason})" for lost in shift.left_out)
    return f"{point_words(total)} left out: {reasons}"


def point_words(count: int) -> str:
    """`1 operating point`, `2 operating points`."""
    return f"{count} operating point{'' if count == 1 else 's'}"


def shift_remarks(shifts: Sequence[Shift], apart: Sequence[Apart]) -> list[str]:
    """What a reader of the two tables must know, for stderr."""
    lines = [f"{_title(nothing)}: nothing was measured under both; {left_out_words(nothing)}" for nothing in apart]
    for shift in shifts:
        lines.append(f"{_title(shift)}: {cut_words(shift)}")
        if words := left_out_words(shift):
            lines.append(f"{_title(shift)}: {words}")
        if shift.unknown_depths:
            lines.append(f"{_title(shift)}: {shift.unknown_depths} points of unknown depth are taken as alike")
        if not (shift.points["shift"] != ON_NEITHER).any():
            lines.append(f"{_title(shift)}: no point has a value of every objective under both, so there is no front")
    if not shifts:
        return lines
    single = sum(int((s.points[side + "rounds"] < 2).sum()) for s in shifts for side in (BASELINE, OTHER))
    if single:
        lines.append(f"{single} means are of one valid round: no membership and no interval (n/a) where they matter")
    lines += [
        f"{ARROW}: under {shifts[0].baseline}, then under the other network; front %: of the random draws, in "
        "how many the point is on the front",
        "regret: the factor by which the point must improve in everything to join the other network's front (with its "
        "95 % interval); epsilon: the one by which that whole front must, to match the baseline's",
        "hypervolumes: both of the matched points only, against the reference of the model that its front has above",
    ]
    return lines


def _title(shift: Shift | Apart) -> str:
    return f"{shift.model}, {shift.baseline} {ARROW} {shift.other}"
