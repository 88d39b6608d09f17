"""What `pp-analyze table` and `frontier` do: read, compute, print. The pure parts are elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.markup import Column, markdown
from analysis.operating_points import flat_record, operating_points, records_frame, stage_count, table_columns
from analysis.output import (
    InputError,
    free_stem,
    load,
    no_valid_point,
    origin,
    print_columns,
    remark,
    save_figure,
    save_table,
    slug,
)
from analysis.own_data import ON_FRONTIER, Objective, OwnDataError, front_of, read_own_data
from analysis.tables import constant_axes, frame_rows, frontier_table, points_table, write_csv

if TYPE_CHECKING:
    import pandas as pd


def print_table(directory: Path | None, format_: str) -> None:
    """`pp-analyze table`."""
    data = load(directory)
    if format_ == "csv":
        n_stages = stage_count(data.records)
        rows = [flat_record(record, n_stages) for record in data.records]
        write_csv(rows, table_columns(n_stages), sys.stdout)
        if not any(record["status"] == "ok" and record["valid"] for record in data.records):
            no_valid_point(data)
        return
    records = records_frame(data.records)
    points = operating_points(records)
    print_columns(points_table(points), format_)
    _remark_on_columns(points)
    _remark_on_rounds(points, records)
    if not (points["rounds"] > 0).any():
        no_valid_point(data)


def print_frontier(directory: Path | None, by: str, format_: str, out: Path | None) -> None:
    """`pp-analyze frontier` of a run."""
    from analysis.frontier import mark_frontier

    data = load(directory)
    records = records_frame(data.records)
    points = mark_frontier(operating_points(records), by)
    _remark_on_rounds(points, records)
    if not (points["rounds"] > 0).any():
        no_valid_point(data)
    front = points[points[ON_FRONTIER]].sort_values(["model", "profile", by, "latency_s"], kind="stable")
    if format_ == "csv":
        write_csv(frame_rows(front), list(front.columns), sys.stdout)
    else:
        print_columns(frontier_table(front, by), format_)
        _remark_on_columns(points)
    sys.stdout.flush()
    _draw_fronts(points, records, by, out or data.directory / "figures", origin(data))


def _draw_fronts(points: pd.DataFrame, records: pd.DataFrame, by: str, folder: Path, notes: list[str]) -> None:
    """One picture and one csv per profile and value of `by`."""
    from analysis.figures.frontier import get_frontier_info
    from analysis.figures.frontier_drawing import draw_frontier

    keys = list(dict.fromkeys(["profile", by]))
    stems: set[str] = set()
    for values, group in points.groupby(keys, sort=True):
        stem = free_stem("-".join(slug(str(value)) for value in values), stems)
        here = records[(records[keys] == list(values)).all(axis=1)]
        if not (group["rounds"] > 0).any():
            remark(f"no picture of {', '.join(map(str, values))}: no valid round")
            continue
        title = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in zip(keys, values, strict=True))
        info = get_frontier_info(group, here, title, notes)
        path = folder / f"frontier-{stem}"
        save_figure(draw_frontier(info), path)
        save_table(path, frame_rows(group), list(group.columns))


def print_own_frontier(
    path: Path,
    minimize: Sequence[str],
    maximize: Sequence[str],
    label: str | None,
    group: str | None,
    format_: str,
    out: Path | None,
) -> None:
    """`pp-analyze frontier --from-csv`."""
    objectives = [*(Objective(column, False) for column in minimize), *(Objective(column, True) for column in maximize)]
    names = [objective.column for objective in objectives]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.UsageError(f"{twice[0]!r} is an objective more than once")
    if len(objectives) < 2:
        raise click.UsageError("a front needs two objectives or more: give --minimize COL and --maximize COL")
    try:
        data = read_own_data(path, objectives, [column for column in (label, group) if column])
    except OwnDataError as error:
        raise InputError(str(error)) from error
    if data.dropped:
        total = data.dropped + len(data.rows)
        remark(f"{data.dropped} of {total} rows dropped: an objective is missing or not finite")
    if not data.rows:
        raise InputError(f"{path}: no row has a finite value of every objective ({', '.join(names)})")
    front = front_of(data, objectives, group)
    rows: list[dict[str, Any]] = [row | {ON_FRONTIER: on} for row, on in zip(data.rows, front, strict=True)]
    columns = [*data.columns, ON_FRONTIER]
    chosen = [row for row in rows if row[ON_FRONTIER]]
    if format_ == "csv":
        write_csv(chosen, columns, sys.stdout)
    else:
        shown = [Column(name, tuple(str(row[name]) for row in chosen), name in names) for name in data.columns]
        click.echo(markdown(shown), nl=False)
    sys.stdout.flush()
    stem = (out or Path()) / f"{path.stem}-frontier"
    figure = None
    if len(objectives) == 2:
        from analysis.figures.frontier_drawing import draw_frontier
        from analysis.figures.own_data import get_own_data_info

        figure = draw_frontier(get_own_data_info(data, front, objectives, label, group))
    else:
        remark(f"no picture: it has two axes, and there are {len(objectives)} objectives")
    if figure:
        save_figure(figure, stem)
    save_table(stem, rows, columns)


def _remark_on_columns(points: pd.DataFrame) -> None:
    remark("D: depth (batches in flight); n: valid rounds; ±: half the 95 % t-interval over rounds")
    remark(f"the same for all points: {constant_axes(points)}")


def _remark_on_rounds(points: pd.DataFrame, records: pd.DataFrame) -> None:
    """Say what the averages leave out, and where there is no interval."""
    single = int((points["rounds"] == 1).sum())
    if single:
        remark(f"{single} of {len(points)} points have one valid round: no interval (n/a)")
    for note, same in points[points["rounds_invalid"] > 0].groupby("note", sort=False):
        more = f" and {len(same) - 1} more points" if len(same) > 1 else ""
        remark(f"{same['cell'].iloc[0]} depth {same['depth'].iloc[0]}{more}: {note}")
    failed = records[records["state"] == "failed"]
    for cell, rows in failed.groupby("cell", sort=False):
        rounds = ", ".join(map(str, sorted(set(rows["round"]))))
        remark(f"failed: {cell} round {rounds}: {' | '.join(dict.fromkeys(map(str, rows['failure'])))}")
