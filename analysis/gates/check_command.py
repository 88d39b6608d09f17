"""`pp-analyze check`: is this results directory what the measurement rules promise?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.markup import Column

if TYPE_CHECKING:
    from analysis.gates.violations import Examined, Violation

_EXAMPLE = """\b
Example:
  pp-analyze check results/three-models
  pp-analyze check --format csv > violations.csv
"""


@click.command(name="check", epilog=_EXAMPLE)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--format", "format_", type=click.Choice(["csv", "md"]), default="md", show_default=True)
@click.option("--samples/--no-samples", default=True, show_default=True, help="Compute every record again from them.")
@click.pass_context
def command(ctx: click.Context, directory: Path | None, format_: str, samples: bool) -> None:
    """Check a run against the measurement rules, and every number in it against its samples.

    md prints what was checked, how often, and one line for every violation; csv prints the violations alone, and
    what was checked goes to stderr. `breaks` is a rule that is not kept, or a number that does not follow from the
    samples; `note` is what a reader should know. Invalid and failed records are violations, although no average
    has them.

    Exit status: 0 where nothing breaks a rule (there may be notes), 1 where something does, 2 where DIR cannot be
    read.
    """
    from analysis.gates.checks import read_and_examine, violations_of
    from analysis.gates.violations import BREAKS
    from analysis.output import open_run, print_columns, remark
    from analysis.tables import write_csv

    data = open_run(directory)
    examined = read_and_examine(data, with_samples=samples)
    violations = violations_of(examined)
    if format_ == "csv":
        write_csv([vars(violation) for violation in violations], _COLUMNS, sys.stdout)
        for rule in examined:
            remark(f"{rule.rule}: {coverage_words(rule)}")
    else:
        print_columns(coverage_table(examined), format_)
        if violations:
            click.echo()
        for violation in violations:
            click.echo(violation_line(violation))
        sys.stdout.flush()
        for rule in examined:
            if rule.remark:
                remark(f"{rule.rule}: {rule.remark}")
    remark(f"{data.directory}: {verdict_words(violations)}")
    ctx.exit(1 if any(violation.verdict == BREAKS for violation in violations) else 0)


_COLUMNS = ("rule", "verdict", "cell", "round", "depth", "words")


def coverage_table(examined: Sequence[Examined]) -> list[Column]:
    """What was checked: a row per rule."""
    from analysis.gates.violations import BREAKS, NOTE

    return [
        Column("check", tuple(rule.rule for rule in examined)),
        Column("rule", tuple(rule.says for rule in examined), elastic=True, last_resort=True),
        Column("checked", tuple(_checked(rule) for rule in examined), right=True),
        Column("breaks", tuple(str(rule.count(BREAKS)) for rule in examined), right=True),
        Column("notes", tuple(str(rule.count(NOTE)) for rule in examined), right=True),
    ]


def _checked(rule: Examined) -> str:
    return _counted(rule.checked, rule.unit) if rule.checked else "nothing"


def _counted(number: int, units: str) -> str:
    """`1 record`, `2 records`: `units` is the plural."""
    return f"{number} {units.removesuffix('s') if number == 1 else units}"


def coverage_words(rule: Examined) -> str:
    """`286 records checked, 1 break it, 2 notes (why not all)`."""
    from analysis.gates.violations import BREAKS, NOTE

    words = f"{_checked(rule)} checked, {rule.count(BREAKS)} break it, {_counted(rule.count(NOTE), 'notes')}"
    return f"{words} ({rule.remark})" if rule.remark else words


def violation_line(violation: Violation) -> str:
    """One violation as a line of a Markdown list."""
    parts = [violation.cell]
    parts += [f"round {violation.round}" if violation.round is not None else None]
    parts += [f"depth {violation.depth}" if violation.depth is not None else None]
    where = " ".join(part for part in parts if part)
    return f"- {violation.verdict} {violation.rule}: {where + ': ' if where else ''}{violation.words}"


def verdict_words(violations: Sequence[Violation]) -> str:
    """The result in a few words."""
    from analysis.gates.violations import BREAKS

    broken = [violation for violation in violations if violation.verdict == BREAKS]
    notes = len(violations) - len(broken)
    more = f"; {_counted(notes, 'notes')}" if notes else ""
    if not broken:
        return f"every rule that could be checked is kept{more}"
    rules = ", ".join(dict.fromkeys(violation.rule for violation in broken))
    return f"{_counted(len(broken), 'violations')} of {rules}{more}"
