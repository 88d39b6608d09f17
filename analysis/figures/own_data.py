"""The frontier figure of anybody's two objectives: a panel per group, drawn like the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.figures.frontier import FrontierInfo, Mark, Panel
from analysis.own_data import Objective, OwnData


def get_own_data_info(
    data: OwnData, front: Sequence[bool], objectives: Sequence[Objective], label: str | None, group: str | None
) -> FrontierInfo:
    """The figure of exactly two objectives: the first across, the second up.

    `label` is the column that names points, without it they have no names. Raises ValueError if there are not two
    objectives.
    """
    if len(objectives) != 2:
        raise ValueError(f"a picture has two axes, not {len(objectives)}")
    panels: dict[str, list[Mark]] = {}
    for row, (x, y), on_front in zip(data.rows, data.values, front, strict=True):
        mark = Mark(x, y, math.nan, math.nan, on_front, row[label] if label else "")
        panels.setdefault(row[group] if group else "", []).append(mark)
    across, up = objectives
    notes = ["Better: " + ", ".join(f"{'more' if o.maximise else 'less'} {o.column}" for o in objectives) + "."]
    if data.dropped:
        rows = "row" if data.dropped == 1 else "rows"
        notes.append(f"Left out: {data.dropped} {rows} without a finite value of both.")
    return FrontierInfo(
        panels=tuple(Panel(title, tuple(marks)) for title, marks in panels.items()),
        x_label=across.column,
        y_label=up.column,
        x_maximised=across.maximise,
        notes=tuple(notes),
    )
