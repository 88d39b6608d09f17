"""What `pp-analyze frontier --by profile` says of networks beside each other: reads nothing, computes, prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.comparing.comparison import ComparisonError, ordered_values, pick_baseline
from analysis.fronts.run_objectives import with_derived
from analysis.networks.shift import ON_NEITHER, Shift, shift_networks
from analysis.networks.tables import SUMMARY_COLUMNS, shift_remarks, shift_table, summary_rows, summary_table
from analysis.objectives import columns_of
from analysis.output import (
    InputError,
    free_stem,
    objectives_suffix,
    origin,
    print_columns,
    remark,
    save_figure,
    save_frame,
    save_table,
    slug,
)

if TYPE_CHECKING:
    from analysis.fronts.marking import Fronts
    from analysis.run import Run


def print_network_overlay(data: Run, marked: Fronts, folder: Path, format_: str, baseline: str | None) -> None:
    """Compare the fronts of every other profile with those of a baseline, at points measured under both.

    `baseline` is a profile; None: `lan`, else the first without links, else the first. Two tables go to stdout where
    `format_` is `md`; with `csv` stdout belongs to the fronts, and only the files are written. Into `folder` go
    networks.csv (one row per model and network) and per model networks-<model>.csv (one row per point measured under
    both), .png and .svg; the names end with the objectives where these are not latency and throughput. Raises
    InputError where the run has no such profile, or only one.
    """
    try:
        profiles = ordered_values(data.frame, data.run, "profile")
        first = pick_baseline(profiles, data.run, "profile", baseline)
    except ComparisonError as error:
        raise InputError(f"{data.directory}: {error}") from error
    others = [profile for profile in profiles if profile != first]
    objectives = marked.fronts[0].objectives
    frame = with_derived(data, columns_of(objectives))
    references = {front.key["model"]: front.reference for front in marked.fronts}
    shifts, apart = shift_networks(marked.points, frame, first, others, objectives, references, marked.draws)
    if shifts and format_ == "md":
        print_columns(summary_table(shifts), format_)
        if any((shift.points["shift"] != ON_NEITHER).any() for shift in shifts):
            click.echo()
            print_columns(shift_table(shifts), format_)
    sys.stdout.flush()
    for line in shift_remarks(shifts, apart):
        remark(line)
    suffix = objectives_suffix(objectives)
    save_table(folder / f"networks{suffix}", summary_rows(shifts, apart), SUMMARY_COLUMNS)
    stems: set[str] = set()
    for model in dict.fromkeys(shift.model for shift in shifts):
        of_model = [shift for shift in shifts if shift.model == model]
        _write(of_model, folder / f"networks-{free_stem(slug(model), stems)}{suffix}", origin(data))


def _write(shifts: list[Shift], stem: Path, notes: list[str]) -> None:
    """The picture of one model, and the csv of its points under all networks."""
    import pandas as pd

    model, objectives = shifts[0].model, shifts[0].objectives
    if len(objectives) == 2:
        from analysis.figures.networks import get_networks_info
        from analysis.figures.networks_drawing import draw_networks

        info = get_networks_info(shifts, notes)
        if info:
            save_figure(draw_networks(info), stem)
    else:
        remark(f"no picture of {model} under two networks: it has two axes, and there are {len(objectives)} objectives")
    named = [shift.points.assign(baseline=shift.baseline, network=shift.other) for shift in shifts]
    points = pd.concat(named, ignore_index=True)
    first = ["model", "baseline", "network"]
    save_frame(stem, points[[*first, *(column for column in points.columns if column not in first)]])
