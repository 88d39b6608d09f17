"""The command line of `pp-analyze frontier`."""

from __future__ import annotations

import math
from pathlib import Path

import click

from analysis.objectives import DEFAULT_OBJECTIVES, Objective, columns_of
from analysis.operating_points import CHOICES


class _Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2, not before
    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = (math.nan,)
        if not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} is no list of numbers, as in 0.5,0", param, ctx)
        return numbers


@click.command(name="frontier")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--by",
    type=click.Choice(["profile", *CHOICES]),
    help="One front per model, profile and value of this.  [default: profile]",
)
@click.option("--minimize", metavar="COL", multiple=True, help="An objective: less of this column is better.")
@click.option("--maximize", metavar="COL", multiple=True, help="An objective: more of this column is better.")
@click.option("--reference", type=_Numbers(), metavar="LIST", help="What the hypervolume is against, as in 0.5,0.")
@click.option("--all", "everything", is_flag=True, help="Print dominated points too, with their rank.")
@click.option("--baseline", metavar="VALUE", help="With --by profile: the network that others are compared with.")
@click.option("--format", "format_", type=click.Choice(["csv", "md"]), default="md", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where files go.")
@click.option(
    "--from-csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Any table instead of a run."
)
@click.option("--label", metavar="COL", help="With --from-csv: the column that names points in the picture.")
@click.option("--group", metavar="COL", help="With --from-csv: one front per value of this column.")
def command(
    directory: Path | None,
    by: str | None,
    minimize: tuple[str, ...],
    maximize: tuple[str, ...],
    reference: tuple[float, ...] | None,
    everything: bool,
    baseline: str | None,
    format_: str,
    out: Path | None,
    csv_file: Path | None,
    label: str | None,
    group: str | None,
) -> None:
    """Print and draw the points that no other beats, and how sure that is.

    Less latency and more throughput are better; a point is a cell at a depth, the mean over its valid rounds. All
    splits and depths compete, the baselines (all local, all remote) among them. Different profiles never do: the
    network is a condition, not a choice. `p front` is how often a point is on the front when the rounds are drawn
    again; the second table has every front's hypervolume, knee and point nearest to the ideal. Pictures (png, svg),
    a csv of all points and one of the front's band go to DIR/figures.

    \b
      pp-analyze frontier results/demo --all
      pp-analyze frontier --by profile --baseline lan

    With --by profile written out, profiles are then laid over one another: which points stay, enter and leave.

    Objectives are any recorded or derived column with numbers, so of other things too. Two or more replace latency
    and throughput, one alone joins them:

    \b
      pp-analyze frontier --minimize cpu_s_per_img --maximize throughput_img_s

    With --from-csv the front of any table, all columns kept; files are named FILE-frontier.* and go to the current
    directory:

    \b
      pp-analyze frontier --from-csv points.csv --minimize energy_j \\
          --maximize accuracy_pct --label network
    """
    objectives = _objectives(minimize, maximize)
    if csv_file is None:
        for option, value in (("--label", label), ("--group", group)):
            if value:
                raise click.UsageError(f"{option} needs --from-csv FILE; a run is grouped with --by")
        if baseline is not None and by != "profile":
            raise click.UsageError("--baseline needs --by profile: it names a network")
        if len(objectives) < 2:
            objectives = (*(o for o in DEFAULT_OBJECTIVES if o.column not in columns_of(objectives)), *objectives)
        _check_reference(reference, objectives)
        from analysis.fronts.run_frontier import Request, print_frontier

        overlay = by == "profile"
        print_frontier(
            directory, Request(by or "profile", objectives, reference, everything, overlay, baseline, format_, out)
        )
        return
    if directory is not None:
        raise click.UsageError(f"both DIR ({directory}) and --from-csv ({csv_file}) given; name one of them")
    if by is not None or baseline is not None:
        raise click.UsageError(f"--{'by' if by else 'baseline'} is for a run; with --from-csv use --group COL")
    if len(objectives) < 2:
        raise click.UsageError("a front needs two objectives or more: give --minimize COL and --maximize COL")
    _check_reference(reference, objectives)
    from analysis.fronts.csv_frontier import print_csv_frontier

    print_csv_frontier(csv_file, objectives, label, group, reference, format_, out, everything=everything)


def _objectives(minimize: tuple[str, ...], maximize: tuple[str, ...]) -> tuple[Objective, ...]:
    """Raises UsageError where a column is one twice."""
    found = (*(Objective(column, False) for column in minimize), *(Objective(column, True) for column in maximize))
    names = columns_of(found)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.UsageError(f"{twice[0]!r} is an objective more than once")
    return found


def _check_reference(reference: tuple[float, ...] | None, objectives: tuple[Objective, ...]) -> None:
    if reference is not None and len(reference) != len(objectives):
        names = ", ".join(columns_of(objectives))
        raise click.UsageError(f"--reference has {len(reference)} values for {len(objectives)} objectives: {names}")
