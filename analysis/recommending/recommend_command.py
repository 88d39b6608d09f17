"""`pp-analyze recommend`: options and printing; the answer is made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from analysis.recommending.recommendation import Recommendation, Wish
    from analysis.run import Run

_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_BYTES = {
    **{"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    **{"kib": 1024.0, "mib": 1024.0**2, "gib": 1024.0**3},
}
_QUANTITY = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")
_NAMES = ("latency", "throughput")


class _Quantity(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2, not before
    """A number above 0 with a unit."""

    def __init__(self, name: str, units: dict[str, float], example: str, *, zero: bool = False) -> None:
        self.name = name
        self._units = units
        self._example = example
        self._zero = zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = _QUANTITY.fullmatch(str(value))
        try:
            number = float(found[1]) * self._units[found[2].lower()] if found else None
        except (ValueError, KeyError):
            number = None
        if number is None or number == float("inf") or number < 0 or (number == 0 and not self._zero):
            self.fail(f"{value!r} is no {self.name}, as in {self._example}", param, ctx)
        return number


class _Weights(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "weights"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        given: dict[str, float] = {}
        for part in str(value).split(","):
            name, _, text = part.partition("=")
            try:
                weight = float(text)
            except ValueError:
                weight = -1.0
            if name.strip() not in _NAMES or name.strip() in given or not 0 <= weight < float("inf"):
                self.fail(f"{value!r} is no list of weights, as in latency=2,throughput=1", param, ctx)
            given[name.strip()] = weight
        if not any(given.values()):
            self.fail(f"{value!r}: one weight must be above 0", param, ctx)
        return given.get("latency", 0.0), given.get("throughput", 0.0)


class _Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is no list of whole numbers, as in 1,2,4", param, ctx)
        return tuple(int(part) for part in parts)


def _names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if value else ()


_LIST: dict[str, Any] = {"metavar": "LIST", "callback": _names}


@click.command(name="recommend")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--model", metavar="M", help="For this model.  [default: each in turn]")
@click.option("--profile", metavar="P", help="For this network.  [default: each in turn]")
@click.option(
    "--latency-max",
    type=_Quantity("time", _SECONDS, "500ms or 0.5"),
    metavar="T",
    help="Latency of a batch, at most: 0.5 (s), 500ms.",
)
@click.option(
    "--throughput-min",
    type=_Quantity("number of images/s", {"": 1.0}, "10"),
    metavar="X",
    help="Images per second, at least.",
)
@click.option(
    "--network-budget",
    type=_Quantity("number of bytes", _BYTES, "100kB or 1e5", zero=True),
    metavar="B",
    help="Bytes per batch between stages, at most: 100kB, 1MiB, 1e5.",
)
@click.option(
    "--weights", type=_Weights(), metavar="W", help="Rank by weighted distance to the ideal: latency=2,throughput=1."
)
@click.option("--knee", is_flag=True, help="Rank by the knee, whatever the constraints.")
@click.option("--batch-size", "batch_sizes", type=_Numbers(), metavar="LIST", default=(), help="Only these, as in 1,8.")
@click.option("--depth", "depths", type=_Numbers(), metavar="LIST", default=(), help="Only these depths, as in 1,2.")
@click.option("--backend", "backends", help="Only these, as in socket,rpc.", **_LIST)
@click.option("--engine", "engines", help="Only these.", **_LIST)
@click.option("--pipeline", "pipelines", help="Only these.", **_LIST)
@click.option("--format", "format_", type=click.Choice(["csv", "md"]), default="md", show_default=True)
def command(
    directory: Path | None,
    latency_max: float | None,
    throughput_min: float | None,
    network_budget: float | None,
    format_: str,
    **given: Any,
) -> None:
    """Say which operating point to deploy, how sure that is, and what it costs under another network.

    Of the points that meet the constraints: with a bound on the latency only, the highest throughput; with a bound on
    the throughput only, the lowest latency; with both or none, the knee of the front. Printed are what to expect with
    95 % t-intervals, the probability that it is the best, the runner-up and whether the rounds tell the two apart
    (if not, how many would, and the command), its regret under the other networks, and the choice whose greatest
    regret is the least.

    md: words, then a table of the first five per network. csv: all points considered, the best first. Exit status 1 if
    a network has no point that meets the constraints.

    \b
    Example:
      pp-analyze recommend results/three-models --model mobilenet_v2 --latency-max 500ms
      pp-analyze recommend --network-budget 100kB --batch-size 1 --depth 1,2
      pp-analyze recommend --weights latency=2,throughput=1 --format csv > points.csv
    """
    if given["weights"] is not None and given["knee"]:
        raise click.UsageError("--weights and --knee are two rules; name one of them")
    from analysis.recommending.recommendation import Wish

    wish = Wish(
        latency_max_s=latency_max, throughput_min_img_s=throughput_min, network_budget_bytes=network_budget, **given
    )
    _print_recommendations(directory, wish, format_)


def _print_recommendations(directory: Path | None, wish: Wish, format_: str) -> None:
    from analysis.output import open_run, remark

    data = open_run(directory)
    recommendations = _recommendations(data, wish)
    if format_ == "csv":
        _print_csv(recommendations)
    else:
        for number, recommendation in enumerate(recommendations):
            click.echo("\n" * (number > 0), nl=False)
            _print_words(recommendation, data.directory)
    lacking = [f"{r.model} under {a.profile}" for r in recommendations for a in r.answers if a.choice is None]
    for words in lacking:
        remark(f"no point meets the constraints: {words}")
    if lacking:
        click.get_current_context().exit(1)


def _recommendations(data: Run, wish: Wish) -> list[Recommendation]:
    """One per model; those that lack what is asked for are left out with a remark.

    Raises InputError where a name is unknown, ClickException (exit status 1) where nothing is valid."""
    from dataclasses import replace

    from analysis.operating_points import operating_points
    from analysis.output import InputError, remark
    from analysis.recommending.recommendation import RecommendationError, considered, recommend

    points = operating_points(data.frame)
    if not (points["rounds"] > 0).any():
        raise click.ClickException(f"{data.directory}: no valid point; see pp-matrix list {data.directory}")
    try:
        allowed = considered(points, wish)
    except RecommendationError as error:
        raise InputError(f"{data.directory}: {error}") from error
    found = []
    for model in dict.fromkeys(allowed["model"]):
        try:
            found.append(recommend(points, data.frame, replace(wish, model=str(model)), data.run))
        except RecommendationError as error:
            remark(f"{model}: {error}; see pp-matrix list {data.directory}")
    if not found:
        raise click.ClickException(f"{data.directory}: no recommendation")
    return found


def _print_words(recommendation: Recommendation, directory: Path) -> None:
    from analysis.output import print_columns
    from analysis.recommending.recommendation_table import first_table
    from analysis.recommending.recommendation_words import recommendation_lines

    _wrapped(recommendation_lines(recommendation, directory), click.echo)
    columns = first_table(recommendation)
    if columns and columns[0].cells:
        click.echo()
        print_columns(columns, "md")


def _wrapped(lines: list[str], write: Callable[[str], None]) -> None:
    """Words in lines of a terminal; a command stays one line. An empty line before and after each heading."""
    import textwrap

    from analysis.tables import LINE_WIDTH

    for number, line in enumerate(lines):
        if line.startswith("#") and number:
            write("")
        indent = "  " if line.startswith("- ") else ""
        whole = line.startswith(("    ", "#"))
        write(line if whole else textwrap.fill(line, LINE_WIDTH, subsequent_indent=indent, break_on_hyphens=False))
        if line.startswith("#"):
            write("")


def _print_csv(recommendations: list[Recommendation]) -> None:
    import sys

    from analysis.recommending.recommendation_table import csv_rows
    from analysis.tables import write_csv

    columns, rows = csv_rows(recommendations)
    write_csv(rows, columns, sys.stdout)
