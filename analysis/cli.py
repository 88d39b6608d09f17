"""The pp-analyze command. Tables go to stdout and nothing else does; paths of files and remarks go to stderr."""

from __future__ import annotations

import gc
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from analysis.comparing.comparison import COMPARED

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""
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


_ELSEWHERE = {
    "check": "analysis.gates.check_command",
    "diff": "analysis.gates.diff_command",
    "frontier": "analysis.fronts.frontier_command",
    "import": "analysis.importers.import_command",
    "pack": "analysis.pack_command",
    "paper": "analysis.paper.paper_command",
    "recommend": "analysis.recommending.recommend_command",
    "report": "analysis.report.report_command",
}
"""Name -> module whose `command` it is; read when it is asked for."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            command: click.Command = import_module(_ELSEWHERE[cmd_name]).command
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Group, epilog=_EXAMPLE, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paretopipe", prog_name="pp-analyze")
def main() -> None:
    """Tables, latency-throughput frontiers and comparisons of what pp-matrix measured.

    DIR is a results directory; by default the newest run under results/.
    Exit status: 0, 1 if the run holds no valid point, 2 for bad usage or input, 130 interrupted.
    """
    # Reading makes many objects and no cycles: looking for those less often saves a tenth of every command's time.
    gc.set_threshold(50_000, 20, 50)


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
    from analysis.comparing.compare_command import print_comparison

    print_comparison(directory, by, baseline, depths, format_, out)
