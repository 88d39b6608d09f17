"""What `pp-analyze frontier --from-csv` does: read, compute, print, draw. The pure parts are elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from analysis.fronts.own_data import MARKS, ON_FRONTIER, OwnDataError, OwnFronts, fronts_of, read_own_data
from analysis.markup import Column, markdown
from analysis.objectives import Objective, columns_of
from analysis.output import InputError, remark, save_figure, save_table
from analysis.tables import write_csv

_GROUPS_TOLD = 8


def print_csv_frontier(
    path: Path,
    objectives: Sequence[Objective],
    label: str | None,
    group: str | None,
    reference: Sequence[float] | None,
    format_: str,
    out: Path | None,
    *,
    everything: bool,
) -> None:
    """Raises InputError."""
    names = columns_of(objectives)
    try:
        data = read_own_data(path, objectives, [column for column in (label, group) if column])
    except OwnDataError as error:
        raise InputError(str(error)) from error
    if data.dropped:
        total = data.dropped + len(data.rows)
        remark(f"{data.dropped} of {total} rows dropped: an objective is missing or not finite")
    if not data.rows:
        raise InputError(f"{path}: no row has a finite value of every objective ({', '.join(names)})")
    fronts = fronts_of(data, objectives, group, reference)
    rows: list[dict[str, Any]] = [
        row | dict(zip(MARKS, marks, strict=True)) for row, marks in zip(data.rows, fronts.marks, strict=True)
    ]
    columns = [*data.columns, *MARKS]
    chosen = rows if everything else [row for row in rows if row[ON_FRONTIER]]
    if format_ == "csv":
        write_csv(chosen, columns, sys.stdout)
    else:
        shown = [*data.columns, *(["dominance_rank"] if everything else [])]
        printed = [
            Column(name, tuple(str(row[name]) for row in chosen), name in (*names, "dominance_rank")) for name in shown
        ]
        click.echo(markdown(printed), nl=False)
    sys.stdout.flush()
    _remark(fronts, names)
    stem = (out or Path()) / f"{path.stem}-frontier"
    from analysis.figures.frontier_drawing import draw_frontier
    from analysis.figures.own_data import get_own_data_info

    try:
        info = get_own_data_info(data, fronts, objectives, label, group)
    except ValueError as error:
        remark(f"no picture: it would take {error}")
    else:
        save_figure(draw_frontier(info), stem)
    save_table(stem, rows, columns)


def _remark(fronts: OwnFronts, names: Sequence[str]) -> None:
    told = list(fronts.hypervolumes.items())[:_GROUPS_TOLD]
    values = ", ".join(f"{name} {value:.5g}" if name else f"{value:.5g}" for name, value in told)
    more = f" and {len(fronts.hypervolumes) - len(told)} more groups" if len(fronts.hypervolumes) > len(told) else ""
    remark(f"hypervolume in {' x '.join(names)}: {values}{more}; against {fronts.reference_words}")
