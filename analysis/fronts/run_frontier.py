"""What `pp-analyze frontier` does with a run: read, compute, print, draw. The pure parts are elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.beside import LARGE, Beside
from analysis.fronts.dominance import frontier_keys
from analysis.fronts.fronts_tables import (
    attainment_rows,
    front_remarks,
    has_valid,
    points_columns,
    summary_columns,
    summary_rows,
)
from analysis.fronts.marking import Front, Fronts, mark_fronts
from analysis.fronts.run_objectives import ObjectiveError, points_with, with_derived
from analysis.objectives import DEFAULT_OBJECTIVES, Objective, columns_of
from analysis.output import (
    InputError,
    free_stem,
    no_valid_point,
    objectives_suffix,
    open_run,
    origin,
    print_columns,
    remark,
    save_frame,
    save_table,
    slug,
    writing,
)
from analysis.point_remarks import column_remarks, round_remarks
from analysis.tables import write_frame

if TYPE_CHECKING:
    import pandas as pd


_MOST_PANELS = 24


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    by: str
    objectives: tuple[Objective, ...]
    reference: tuple[float, ...] | None
    everything: bool
    """Print dominated points too."""
    overlay: bool
    """Lay the networks over one another where there are two or more."""
    baseline: str | None
    format_: str
    out: Path | None


def print_frontier(directory: Path | None, request: Request) -> None:
    """`pp-analyze frontier` of a run. Raises ClickException."""
    data = open_run(directory)
    if not (data.frame["state"] == "valid").any():
        for text in round_remarks(points_with(data.frame, ()), data.frame):
            remark(text)
        no_valid_point(data)
    try:
        frame = with_derived(data, columns_of(request.objectives))
        points = points_with(frame, columns_of(request.objectives))
    except ObjectiveError as error:
        raise InputError(f"{data.directory}: {error}") from error
    marking = Beside(
        lambda: mark_fronts(points, frame, request.by, request.objectives, request.reference),
        apart=len(frame) >= LARGE,
    )
    import_module("analysis.figures.frontier_drawing")
    import_module("seaborn")  # with matplotlib most of a second, which drawing needs
    marked = marking.result()
    for text in round_remarks(points, frame):
        remark(text)
    if not any(map(has_valid, marked.fronts)):
        names = " and ".join(columns_of(request.objectives))
        raise click.ClickException(f"{data.directory}: no point has a valid round with {names}")
    _print(marked, request)
    folder = request.out or data.directory / "figures"
    _draw(marked, frame, request, folder, origin(data))
    rows = summary_rows(marked)
    save_table(folder / f"fronts-by-{slug(request.by)}{objectives_suffix(request.objectives)}", rows, list(rows[0]))
    if request.overlay and marked.points["profile"].nunique() > 1:
        from analysis.networks.overlay import print_network_overlay

        if request.format_ == "md":
            click.echo()
        print_network_overlay(data, marked, folder, request.format_, request.baseline)
    elif request.baseline is not None:
        remark("one profile only: there is no network to compare it with")


def _print(marked: Fronts, request: Request) -> None:
    points = marked.points
    keys = frontier_keys(request.by)
    order = [*keys, "dominance_rank", request.objectives[0].column]
    shown = (points if request.everything else points[points["on_frontier"]]).sort_values(order, kind="stable")
    if request.format_ == "csv":
        write_frame(shown, sys.stdout)
    else:
        print_columns(points_columns(shown, request.by, request.objectives, ranked=request.everything), "md")
        click.echo()
        print_columns(summary_columns(summary_rows(marked), keys), "md")
    sys.stdout.flush()
    if request.objectives != DEFAULT_OBJECTIVES:
        remark("better: " + ", ".join(objective.words for objective in request.objectives))
    terms = column_remarks(points) if request.format_ == "md" else []
    for text in (*terms, *front_remarks(marked)):
        remark(text)


def _draw(marked: Fronts, records: pd.DataFrame, request: Request, folder: Path, notes: list[str]) -> None:
    """Two csv and one picture per profile and value of `by`."""
    import numpy as np

    from analysis.figures.at_once import drawn
    from analysis.figures.frontier import get_frontier_info

    keys = list(dict.fromkeys(["profile", request.by]))
    # A picture shows and names these one by one; the valid ones it has as points.
    left_out = records[records["state"] != "valid"]
    stems: set[str] = set()
    jobs, tables = [], []
    for values, fronts in _by_condition(marked.fronts, keys).items():
        stem = free_stem("-".join(slug(value) for value in values), stems)
        group = marked.points.loc[[label for front in fronts for label in front.index]]
        same = [left_out[key].map(str) == value for key, value in zip(keys, values, strict=True)]
        here = left_out[np.logical_and.reduce(same)]
        if not any(map(has_valid, fronts)):
            remark(f"no picture of {', '.join(values)}: no valid round")
            continue
        title = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in zip(keys, values, strict=True))
        info = get_frontier_info(group, here, title, notes, fronts, marked.draws)
        path = folder / f"frontier-{stem}{objectives_suffix(request.objectives)}"
        tables.append((path, group, fronts))
        if len(info.panels) <= _MOST_PANELS:
            jobs.append((info, path))
        else:
            remark(f"no picture of {', '.join(values)}: it would take {len(info.panels)} panels")
    with drawn(jobs) as written:
        for path, group, fronts in tables:
            save_frame(path, group)
            if rows := attainment_rows(fronts):
                save_table(path.with_name(path.name + "-attainment"), rows, list(rows[0]))
        with writing(folder):
            for paths in written:
                for path in paths:
                    remark(str(path))


def _by_condition(fronts: Sequence[Front], keys: Sequence[str]) -> dict[tuple[str, ...], list[Front]]:
    found: dict[tuple[str, ...], list[Front]] = {}
    for front in fronts:
        found.setdefault(tuple(front.key[key] for key in keys), []).append(front)
    return dict(sorted(found.items()))
