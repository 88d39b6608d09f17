"""What `pp-analyze compare` does: read, pair, print, draw. The pure parts are elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.comparing.breakdown import compare_frame, compare_points, loopback_hosts
from analysis.comparing.compare_remarks import overall_remarks, point_remarks, round_remarks, term_remarks
from analysis.comparing.compare_tables import (
    OVERALL_COLUMNS,
    breakdown_table,
    overall_rows,
    overall_table,
    ratios_table,
    with_ratios,
)
from analysis.comparing.comparison import (
    Comparison,
    ComparisonError,
    compare,
    ordered_values,
    pick_axis,
    pick_baseline,
    plan_order,
)
from analysis.comparing.overall import Overall, overall
from analysis.output import (
    InputError,
    free_stem,
    no_valid_point,
    open_run,
    origin,
    print_columns,
    remark,
    save_figure,
    save_frame,
    save_table,
    slug,
)
from analysis.tables import write_frame

if TYPE_CHECKING:
    import pandas as pd


def print_comparison(
    directory: Path | None,
    by: str | None,
    baseline: str | None,
    depths: Sequence[int],
    format_: str,
    out: Path | None,
) -> None:
    """`pp-analyze compare`. Raises ClickException: InputError where there is nothing to pair."""
    data = open_run(directory)
    frame = compare_frame(data.frame, loopback_hosts(data.run))
    frame = _at_known_depths(frame, data.directory)
    if depths:
        frame = frame[frame["depth"].isin(list(depths))]
        if frame.empty:
            measured = ", ".join(map(str, sorted(data.frame["depth"].dropna().unique())))
            raise InputError(f"{data.directory}: no such depth; measured: {measured}")
    try:
        by = pick_axis(frame, by)
        values = ordered_values(frame, data.run, by)
        comparison = compare(frame, by, pick_baseline(values, data.run, by, baseline), values)
    except ComparisonError as error:
        raise InputError(f"{data.directory}: {error}") from error
    points = compare_points(frame)
    points = _in_order(points, [comparison.baseline, *comparison.values], by)
    _remark_all(round_remarks(comparison))
    if not any(pair.rounds for pair in comparison.pairs):
        if not (points["rounds"] > 0).any():
            no_valid_point(data)
        raise click.ClickException(f"{data.directory}: no round is valid in both of any pair; see above")
    lines = overall(comparison)
    everything = with_ratios(points, comparison)
    if format_ == "csv":
        write_frame(everything, sys.stdout)
        _remark_all(overall_remarks(lines, comparison))
    else:
        _print_tables(points, comparison, lines)
    sys.stdout.flush()
    _remark_all([*term_remarks(comparison, points), *point_remarks(points, by)])
    folder = out or data.directory / "figures"
    save_frame(folder / f"compare-{by}", everything)
    save_table(folder / f"compare-{by}-overall", overall_rows(lines, comparison.baseline), list(OVERALL_COLUMNS))
    _draw(everything, comparison, folder, origin(data))


def _at_known_depths(frame: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Without records whose depth an import could not tell: at different depths nothing else is comparable."""
    known = frame[frame["depth"].notna()]
    if known.empty:
        raise InputError(f"{directory}: the depth of no record is known; points at different depths are no pair")
    if len(known) < len(frame):
        remark(f"{len(frame) - len(known)} of {len(frame)} records left out: their depth is not known")
    return known


def _remark_all(texts: Iterable[str]) -> None:
    for text in texts:
        remark(text)


def _in_order(points: pd.DataFrame, values: Sequence[str], by: str) -> pd.DataFrame:
    """Cells that differ in `by` only, one below the other; cuts and depths ascending."""
    rows = points.to_dict("records")
    order = [(*plan_order({str(name): row[name] for name in row if name != by}), values.index(row[by])) for row in rows]
    return points.iloc[sorted(range(len(rows)), key=order.__getitem__)].reset_index(drop=True)


def _print_tables(points: pd.DataFrame, comparison: Comparison, lines: Sequence[Overall]) -> None:
    print_columns(ratios_table(comparison), "md")
    click.echo()
    print_columns(breakdown_table(points, comparison.by), "md")
    if lines:
        click.echo()
        print_columns(overall_table(lines, comparison.baseline), "md")


def _draw(points: pd.DataFrame, comparison: Comparison, folder: Path, notes: Sequence[str]) -> None:
    """Per profile (unless profiles are compared) and, where a figure has no room for several, per band."""
    from analysis.figures.bands import bands_of, in_figures
    from analysis.figures.breakdown import get_breakdown_info
    from analysis.figures.breakdown_drawing import draw_breakdown
    from analysis.figures.ratios import get_ratios_info
    from analysis.figures.ratios_drawing import draw_ratios

    by, baseline = comparison.by, comparison.baseline
    values = [baseline, *comparison.values]
    stems: set[str] = set()
    compared = points[points[by].isin(values)]
    groups = [("", compared)] if by == "profile" else [(str(name), rows) for name, rows in compared.groupby("profile")]
    for profile, rows in groups:
        if not (rows["rounds"] > 0).any():
            remark(f"no picture of {profile or 'these profiles'}: no valid round")
            continue
        figures = in_figures(bands_of(rows, by), len(values))
        for bands in figures:
            parts = [f"compare-{by}", *([slug(profile)] if profile else [])]
            parts += [slug(bands[0].title)] if len(figures) > 1 else []
            stem = free_stem("-".join(parts), stems)
            where = f"profile {profile}" if profile else ""
            save_figure(
                draw_breakdown(
                    get_breakdown_info(
                        bands, by, values, "; ".join(["latency by part", *([where] if where else [])]), notes
                    )
                ),
                folder / stem,
            )
            title = f"{by}: ratio to {baseline}" + (f"; {where}" if where else "")
            ratios = get_ratios_info(bands, by, comparison.values, baseline, title, notes)
            if ratios:
                save_figure(draw_ratios(ratios), folder / f"{stem}-ratios")
