"""Which records count, which do not and why, and how to measure those again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.gates.check_command import coverage_table, verdict_words
from analysis.report.document import Table, table_of
from analysis.report.quantities import count

if TYPE_CHECKING:
    import pandas as pd

    from analysis.gates.violations import Examined
    from analysis.run import Run

MOST_ROWS = 200
"""Rows of a list of cells; the rest is counted in the note, and in the embedded data."""
STATES = ("valid", "invalid", "failed")
_LISTED_APART = "failed"
"""The rule whose violations have a table of their own."""


def validity_words(data: Run, examined: Sequence[Examined]) -> tuple[str, ...]:
    """How many records count, and whether the measurement rules are kept, a sentence each."""
    states = Counter(data.frame["state"])
    planned = sum(_planned(data.run).values())
    words = [f"{count(len(data.frame), 'record')}: {', '.join(f'{states[s]:,} {s}' for s in STATES)}."]
    if planned:
        missing = planned - len(data.frame)
        words.append(f"{planned:,} were planned{f'; {missing:,} of them were not measured' if missing > 0 else ''}.")
    verdict = verdict_words([violation for rule in examined for violation in rule.violations])
    words.append(f"Measurement rules: {verdict}.")
    return tuple(words)


def validity_tables(data: Run, examined: Sequence[Examined]) -> tuple[Table, ...]:
    """Counts per model and network, what failed, what is invalid, and the rules: how often checked, where broken."""
    tables = (
        counts_table(data),
        failed_table(data.frame, data.directory),
        invalid_table(data.frame),
        checked_table(examined),
        rules_table(examined),
    )
    return tuple(table for table in tables if table)


def checked_table(examined: Sequence[Examined]) -> Table | None:
    """Each rule, to how many it was applied, and how often it is broken."""
    if not examined:
        return None
    remarks = "; ".join(f"{rule.rule}: {rule.remark}" for rule in examined if rule.remark)
    note = "As pp-analyze check applies them." + (f" Not or not all checked: {remarks}." if remarks else "")
    return Table("Measurement rules", tuple(coverage_table(examined)), note)


def rules_table(examined: Sequence[Examined]) -> Table | None:
    """Where rules are broken, what breaks a result first; failed cells are not repeated."""
    violations = [v for rule in examined if rule.rule != _LISTED_APART for v in rule.violations]
    violations.sort(key=lambda violation: violation.verdict != "breaks")
    rows = [
        {
            "Rule": violation.rule,
            "Verdict": violation.verdict,
            "Cell": violation.cell or "-",
            "Round": "-" if violation.round is None else str(violation.round),
            "Depth": "-" if violation.depth is None else str(violation.depth),
            "What": violation.words,
        }
        for violation in violations[:MOST_ROWS]
    ]
    note = "breaks: a rule is not kept; note: what a reader should know." + _rest(len(violations), "violation")
    return table_of("Where rules are broken, and notes", rows, right=("Round", "Depth"), note=note)


def counts_table(data: Run) -> Table | None:
    """Records by state, per model and network; `planned` is cells x depths x rounds of run.json."""
    planned = _planned(data.run)
    rows = []
    for (model, profile), group in data.frame.groupby(["model", "profile"], sort=False, observed=True):
        states = Counter(group["state"])
        row = {"Model": str(model), "Network": str(profile), **{s.capitalize(): f"{states[s]:,}" for s in STATES}}
        rows.append(row | {"Planned": f"{planned[str(model), str(profile)]:,}" if planned else "-"})
    return table_of("Records per model and network", rows, right=("Valid", "Invalid", "Failed", "Planned"))


def _planned(run: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """(model, profile) -> records that the plan of run.json asks for; empty where there is none."""
    rounds = (run.get("spec") or {}).get("rounds")
    found: Counter[tuple[str, str]] = Counter()
    if isinstance(rounds, int):
        for cell in run.get("cells") or []:
            found[str(cell.get("model")), str(cell.get("profile"))] += len(cell.get("depths") or []) * rounds
    return found


def failed_table(frame: pd.DataFrame, directory: Path) -> Table | None:
    """One row per failed cell: what happened, and the command that measures it again."""
    failed = frame[frame["state"] == "failed"]
    rows = []
    cells = failed.groupby("cell", sort=False, observed=True)
    for cell, group in list(cells)[:MOST_ROWS]:
        remedies = list(group["error_remedy"].dropna().unique()) if "error_remedy" in group.columns else []
        rows.append(
            {
                "Cell": str(cell),
                "Rounds": _rounds(group),
                "What happened": " | ".join(dict.fromkeys(map(str, group["failure"]))),
                "Remedy": " | ".join(map(str, remedies)) or "-",
                "Measure again": shlex.join(["pp-matrix", "rerun", str(directory), "--cell", str(cell)]),
            }
        )
    everything = shlex.join(["pp-matrix", "rerun", str(directory), "--failed"])
    note = f"All that failed or is invalid, again: {everything}" + _rest(cells.ngroups, "cell")
    return table_of("Failed cells", rows, note=note, code=("Measure again",))


def invalid_table(frame: pd.DataFrame) -> Table | None:
    """One row per point with invalid rounds, and the reasons."""
    invalid = frame[frame["state"] == "invalid"]
    points = invalid.groupby(["cell", "depth"], sort=False, observed=True, dropna=False)
    rows = [
        {
            "Cell": str(cell),
            "Depth": depth_text(depth),
            "Rounds": _rounds(group),
            "Why": " | ".join(dict.fromkeys(map(str, group["invalid_reason"]))),
        }
        for (cell, depth), group in list(points)[:MOST_ROWS]
    ]
    note = "Measured, but in no average." + _rest(points.ngroups, "point")
    return table_of("Invalid records", rows, right=("Depth",), note=note)


def depth_text(depth: object) -> str:
    """`4`, or `unknown` where an imported record does not say."""
    return f"{int(depth)}" if isinstance(depth, int | float) and depth == depth else "unknown"


def _rounds(group: pd.DataFrame) -> str:
    return ", ".join(str(int(number)) for number in sorted(set(group["round"].dropna())))


def _rest(total: int, noun: str) -> str:
    return f" {total - MOST_ROWS:,} more {noun}s are not listed here." if total > MOST_ROWS else ""
