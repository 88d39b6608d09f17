"""`pp-analyze diff A B`: is the second run slower than the first?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.markup import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.gates.run_conditions import Conditions
    from analysis.gates.run_diff import RunDiff
    from analysis.run import Run

_EXAMPLE = """\b
Example:
  pp-analyze diff results/before results/after
  pp-analyze diff results/before results/after --metric latency --fail-above 5
"""
_LISTED = 6
"""Differences of hosts, and points, that are named before the rest is counted."""
_UNITS = {
    "throughput_img_s": ("img/s", 1.0),
    "latency_s": ("ms", 1e3),
    "cpu_s_per_img": ("CPU ms", 1e3),
    "network_s": ("ms", 1e3),
}
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.command(name="diff", epilog=_EXAMPLE)
@click.argument("first", metavar="A", type=_DIRECTORY)
@click.argument("second", metavar="B", type=_DIRECTORY)
@click.option(
    "--metric",
    type=click.Choice(["throughput", "latency", "cpu", "network"]),
    default="throughput",
    show_default=True,
    help="What is divided; cpu is CPU seconds per image, network is known at depth 1.",
)
@click.option("--format", "format_", type=click.Choice(["csv", "md"]), default="md", show_default=True)
@click.option(
    "--fail-above",
    "limit_pct",
    metavar="PCT",
    type=click.FloatRange(min=0),
    help="Exit status 1 where something is surely worse by more than PCT %.",
)
@click.option("--allow-different-hosts", is_flag=True, help="Compare although hosts or networks differ.")
@click.pass_context
def command(
    ctx: click.Context,
    first: Path,
    second: Path,
    metric: str,
    format_: str,
    limit_pct: float | None,
    allow_different_hosts: bool,
) -> None:
    """Compare two runs, A before and B after, at equal operating points.

    Printed is B / A with its 95 % interval, worst first. Rounds of two runs are not paired (Welch's interval). A
    verdict is `slower` or `faster` only where the difference stays sure after adjusting for the number of points
    (Benjamini-Hochberg, 5 % false ones among them), else `equal`. Runs of different hosts, torch versions or
    networks are refused.

    PCT is of time (or CPU) per image: 10 is a latency, or a time per image, 1.1 times as long.

    Exit status: 0, 1 where --fail-above finds something or no point is valid in both, 2 where the runs cannot be
    compared.
    """
    from analysis.gates.run_conditions import compare_conditions
    from analysis.gates.run_diff import DIFF_COLUMNS, diff_runs, metric_named
    from analysis.output import InputError, open_run, print_columns, remark
    from analysis.tables import write_frame

    runs = open_run(first), open_run(second)
    conditions = compare_conditions(*runs)
    if conditions.forbidding and not allow_different_hosts:
        raise InputError(
            f"{first} and {second} are not of the same hosts and networks: {_listed(conditions.forbidding)}; "
            "compare them all the same with --allow-different-hosts"
        )
    found = diff_runs(*runs, metric_named(metric), limit_pct)
    if found.points.empty:
        raise nothing_to_compare(found, runs)
    above = difference_lines(conditions)
    if format_ == "csv":
        write_frame(found.points[list(DIFF_COLUMNS)], sys.stdout)
        for line in [*above, *overall_lines(found)]:
            remark(line)
    else:
        for line in above:
            click.echo(f"- {line}")
        if above:
            click.echo()
        print_columns(points_table(found), format_)
        click.echo()
        print_columns(overall_table(found), format_)
    sys.stdout.flush()
    for line in remarks(found, (first, second)):
        remark(line)
    for line in found.beyond:
        remark(f"worse by more than {limit_pct:g} %: {line}")
    ctx.exit(1 if found.beyond else 0)


def _listed(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return "; ".join(texts[:_LISTED]) + more


def nothing_to_compare(found: RunDiff, runs: tuple[Run, Run]) -> click.ClickException:
    """Why no point is compared: exit status 1 where both have the points but no valid round, else 2."""
    from analysis.output import InputError

    names = " and ".join(str(run.directory) for run in runs)
    if not found.left_out:
        return InputError(f"{names} have no operating point in common")
    reasons = list(dict.fromkeys(reason for _, reason in found.left_out))
    words = f"{names}: no operating point can be compared: {_listed(reasons)}"
    return InputError(words) if any("hash" in reason for reason in reasons) else click.ClickException(words)


def difference_lines(conditions: Conditions) -> list[str]:
    """What a reader must know above the table: other hosts, other settings, other code."""
    named = (
        ("different hosts or networks", conditions.forbidding),
        ("different settings", conditions.settings),
        ("different software", conditions.code),
    )
    return [f"{name}: {'; '.join(texts)}" for name, texts in named if texts]


def points_table(found: RunDiff) -> list[Column]:
    """The printed comparison: a row per operating point."""
    from analysis.gates.run_diff import RATIO, place
    from analysis.numbers import significant, with_factor
    from analysis.operating_points import HIGH

    points = found.points
    rows = points.to_dict("records")
    header, factor = _UNITS[found.metric.column]
    values = {side: tuple(significant(float(row[side]) * factor, 4) for row in rows) for side in ("first", "second")}
    return [
        Column("verdict", tuple(str(row["verdict"]) for row in rows)),
        *(_axis(found, axis) for axis in ("profile", "model", "backend", "engine", "pipeline")),
        Column("split", tuple(place({str(key): row[key] for key in row}) for row in rows), elastic=True),
        _axis(found, "batch_size"),
        Column("D", tuple(_whole(row["depth"]) for row in rows), right=True),
        Column(f"A {header}", values["first"], right=True, drop=2),
        Column(f"B {header}", values["second"], right=True, drop=2),
        Column("B / A", tuple(with_factor(row[RATIO], row[RATIO + HIGH]) for row in rows), right=True),
        Column("p", tuple(_p(row["p_adjusted"]) for row in rows), right=True),
        Column("n", tuple(f"{row['rounds_first']}, {row['rounds_second']}" for row in rows), right=True),
    ]


def _axis(found: RunDiff, axis: str) -> Column:
    values = found.points[axis]
    cells = tuple(_whole(value) if axis == "batch_size" else str(value) for value in values)
    drop = 6 if values.nunique() < 2 else 0
    return Column(axis.removesuffix("_size"), cells, right=axis == "batch_size", elastic=True, drop=drop)


def _whole(value: float) -> str:
    return f"{value:.0f}" if value == value else "?"


def _p(value: float) -> str:
    from analysis.numbers import NO_INTERVAL

    if value != value:
        return NO_INTERVAL
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def overall_table(found: RunDiff) -> list[Column]:
    """All points together, per pipeline, profile and model."""
    from analysis.numbers import significant, with_factor

    lines, metric = found.overall, found.metric
    several = len({line.pipeline for line in lines}) > 1
    return [
        *([Column("pipeline", tuple(line.pipeline for line in lines), elastic=True)] if several else []),
        Column("profile", tuple(line.profile for line in lines), elastic=True),
        Column("model", tuple(line.model or "all" for line in lines), elastic=True),
        Column("B / A", tuple(with_factor(line.ratio.mean, line.ratio.high) for line in lines), right=True),
        Column("min", tuple(significant(line.lowest) for line in lines), right=True),
        Column("max", tuple(significant(line.highest) for line in lines), right=True),
        Column(metric.worse, tuple(str(line.verdicts[metric.worse]) for line in lines), right=True),
        Column(metric.better, tuple(str(line.verdicts[metric.better]) for line in lines), right=True),
        Column("of", tuple(str(sum(line.verdicts.values())) for line in lines), right=True),
    ]


def overall_lines(found: RunDiff) -> list[str]:
    """The overall table as sentences, for where stdout is csv."""
    from analysis.numbers import with_factor

    metric = found.metric
    return [
        f"{line.pipeline}, {line.profile}, {line.model or 'all models'}: {metric.name} B / A "
        f"{with_factor(line.ratio.mean, line.ratio.high)} over {line.ratio.n} points; "
        f"{metric.worse} in {line.verdicts[metric.worse]}, {metric.better} in {line.verdicts[metric.better]}"
        for line in found.overall
    ]


def remarks(found: RunDiff, names: tuple[Path, Path]) -> list[str]:
    """How to read the tables, and what is not in them."""
    lines = [
        f"A: {names[0]}, B: {names[1]}; geometric means over rounds; ±p%: 95 % interval from ratio / (1 + p/100) to "
        "ratio x (1 + p/100), Welch's, as rounds of two runs are not paired",
        f"p: adjusted for {len(found.points)} points (Benjamini-Hochberg); a verdict where it is below 0.05; "
        "n: valid rounds of A, B",
    ]
    single = int(found.points["p"].isna().sum())
    if single:
        lines.append(f"{single} of {len(found.points)} points have one valid round in a run: no interval (n/a)")
    for name, points in ((names[0], found.only_first), (names[1], found.only_second)):
        if points:
            lines.append(f"only in {name}: {len(points)} points: {_listed(points)}")
    reasons: dict[str, list[str]] = {}
    for words, reason in found.left_out:
        reasons.setdefault(reason, []).append(words)
    lines += [f"not compared, {reason}: {len(words)} points: {_listed(words)}" for reason, words in reasons.items()]
    return lines
