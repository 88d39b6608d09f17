"""The frontier figure of anybody's objectives: a panel per group (and pair of more than two), drawn like the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from analysis.figures.frontier import FrontierInfo, Mark, Panel, better_words
from analysis.fronts.own_data import OwnData, OwnFronts
from analysis.objectives import Objective

MOST_PANELS = 12


def get_own_data_info(
    data: OwnData, fronts: OwnFronts, objectives: Sequence[Objective], label: str | None, group: str | None
) -> FrontierInfo:
    """The figure of two objectives, the first across, the second up, or of every pair of more.

    `label` is the column that names points, without it they have no names. Raises ValueError where that takes more
    than `MOST_PANELS` panels.
    """
    places = list(combinations(range(len(objectives)), 2))
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(data.rows):
        groups.setdefault(row[group] if group else "", []).append(index)
    if len(groups) * len(places) > MOST_PANELS:
        raise ValueError(
            f"{len(groups) * len(places)} panels ({len(groups)} groups, {len(places)} pairs of objectives)"
        )
    panels = []
    for name, indices in groups.items():
        for across, up in places:
            marks = []
            for index in indices:
                on_frontier, _, _, knee = fronts.marks[index]
                x, y = data.values[index][across], data.values[index][up]
                text = data.rows[index][label] if label and on_frontier else ""
                marks.append(Mark(x, y, math.nan, math.nan, on_frontier, text, knee=knee))
            own = None if len(places) == 1 else (objectives[across].column, objectives[up].column)
            panels.append(Panel(name, tuple(marks), axes=own))
    notes = [better_words(objectives)]
    if data.dropped:
        rows = "row" if data.dropped == 1 else "rows"
        every = "of both" if len(objectives) == 2 else "of every objective"
        notes.append(f"Left out: {data.dropped} {rows} without a finite value {every}.")
    return FrontierInfo(
        panels=tuple(panels),
        x_label=objectives[0].column,
        y_label=objectives[1].column,
        x_maximised=objectives[0].maximise,
        y_maximised=objectives[1].maximise,
        notes=tuple(notes),
        columns=2 if len(places) == 1 else 3,
    )
