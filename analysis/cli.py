"""The pp-analyze command. Tables go to stdout and nothing else does; paths of files and remarks go to stderr."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.comparison import COMPARED
from analysis.operating_points import CHOICES

_EXAMPLE = """\b
Example:
  pp-matrix run --profile duress-200ms-5mbit
  pp-analyze frontier
  pp-analyze compare --by backend
  pp-analyze table --format csv > points.csv

\b
Completion: eval "$(_PP_ANALYZE_COMPLETE=bash_source pp-analyze)"
"""

_DIRECTORY = click.argument(
    "directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path)
)


@click.group(epilog=_EXAMPLE, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paretopipe", prog_name="pp-analyze")
def main() -> None:
    """Tables, latency-throughput frontiers and comparisons of what pp-matrix measured.

    DIR is a results directory; by default the newest run under results/.
    Exit status: 0, 1 if the run holds no valid point, 2 for bad usage or input.
    """


@main.command()
@_DIRECTORY
@click.option("--format", "format_", type=click.Choice(["csv", "md", "latex"]), default="md", show_default=True)
def table(directory: Path | None, format_: str) -> None:
    """Print the measurements of a run.

    csv: one row per cell, round and depth, nothing averaged, full precision, SI units (s, images/s, bit/s).
    md, latex: one row per operating point (cell and depth), averaged over its valid rounds; latency and
    throughput are the mean ± half the 95 % t-interval over rounds. md stays within 100 columns where it can.
    """
    from analysis.commands import print_table

    print_table(directory, format_)


@main.command()
@_DIRECTORY
@click.option(
    "--by",
    type=click.Choice(["profile", *CHOICES]),
    help="One front per model, profile and value of this.  [default: profile]",
)
@click.option("--format", "format_", type=click.Choice(["csv", "md"]), default="md", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where files go.")
@click.option(
    "--from-csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Any table instead of a run."
)
@click.option("--minimize", metavar="COL", multiple=True, help="With --from-csv: less of this column is better.")
@click.option("--maximize", metavar="COL", multiple=True, help="With --from-csv: more of this column is better.")
@click.option("--label", metavar="COL", help="With --from-csv: the column that names points in the picture.")
@click.option("--group", metavar="COL", help="With --from-csv: one front per value of this column.")
def frontier(
    directory: Path | None,
    by: str | None,
    format_: str,
    out: Path | None,
    csv_file: Path | None,
    minimize: tuple[str, ...],
    maximize: tuple[str, ...],
    label: str | None,
    group: str | None,
) -> None:
    """Print and draw the points that no other beats.

    Less latency and more throughput are better; a point is a cell at a depth, the mean over its valid rounds. All
    splits and depths compete, the baselines (all local, all remote) among them. Different profiles never do: the
    network is a condition, not a choice. Pictures (png, svg) and a csv of all points go to DIR/figures.

    With --from-csv the front of any table, for two objectives or more (a picture for exactly two), all columns
    kept; files are named FILE-frontier.* and go to the current directory:

    \b
      pp-analyze frontier --from-csv points.csv --minimize energy_j \\
          --maximize accuracy_pct --label network
    """
    if csv_file is None:
        given = {"--minimize": minimize, "--maximize": maximize, "--label": label, "--group": group}
        for option, value in given.items():
            if value:
                raise click.UsageError(f"{option} needs --from-csv FILE; a run is grouped with --by")
        from analysis.commands import print_frontier

        print_frontier(directory, by or "profile", format_, out)
        return
    if directory is not None:
        raise click.UsageError(f"both DIR ({directory}) and --from-csv ({csv_file}) given; name one of them")
    if by is not None:
        raise click.UsageError("--by is for a run; with --from-csv use --group COL")
    from analysis.commands import print_own_frontier

    print_own_frontier(csv_file, minimize, maximize, label, group, format_, out)


class _Depths(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2, not before
    name = "depths"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() for part in parts):
            self.fail(f"{value!r} is no list of whole numbers, as in 1,2,4", param, ctx)
        return tuple(int(part) for part in parts)


@main.command(name="compare")
@_DIRECTORY
@click.option("--by", type=click.Choice(COMPARED), help="What to compare.  [default: the one of them that varies]")
@click.option(
    "--baseline", metavar="VALUE", help="What the others are divided by.  [default: socket, eager, lan; else the first]"
)
@click.option("--depth", "depths", type=_Depths(), metavar="LIST", default=(), help="Only these depths, as in 1,4.")
@click.option("--format", "format_", type=click.Choice(["csv", "md"]), default="md", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where files go.")
def compare_command(
    directory: Path | None,
    by: str | None,
    baseline: str | None,
    depths: tuple[int, ...],
    format_: str,
    out: Path | None,
) -> None:
    """Compare backends, engines or profiles at otherwise equal cells.

    Two operating points are a pair where everything but the compared axis is equal; rounds are paired within it.
    Printed are the ratios of throughput, latency, CPU time per image and (at depth 1) network time, with 95 %
    t-intervals over rounds; the latency of every point by part, which add up to it; and all pairs together.

    csv has one row per operating point with everything at full precision. It also goes to DIR/figures, with
    pictures of the parts and of the ratios.

    \b
    Example:
      pp-matrix run --backend socket,rpc --model mobilenet_v2 --out results/backends
      pp-analyze compare results/backends --by backend
    """
    from analysis.compare_command import print_comparison

    print_comparison(directory, by, baseline, depths, format_, out)
