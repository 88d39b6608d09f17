"""The last results as Markdown: benchmarks/out/*.json -> the marked part of docs/benchmarks.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import COLUMNS, OUT, Ratio, Table, markdown_line

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN = "<!-- figures: written by `python -m benchmarks --docs`, edit above or below -->"
END = "<!-- end of figures -->"
_SAME = ("cpu", "cores", "kernel", "python", "torch")

Json = dict[str, Any]


def write(names: Sequence[str]) -> None:
    """Put the results of these benchmarks into the page. Raises SystemExit where one is from a quick run."""
    results = {}
    for name in names:
        path = OUT / f"{name}.json"
        results[name] = json.loads(path.read_text()) if path.exists() else None
    quick = [name for name, result in results.items() if result and result["machine"]["quick"]]
    if quick:
        raise SystemExit(f"measured with --quick, which means nothing: {', '.join(quick)}; run them in full first")
    PAGE.write_text(replaced(PAGE.read_text(), section(results)))


def replaced(page: str, text: str) -> str:
    """The page with the part between the two marks replaced. Raises ValueError where they are not there once each."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"{PAGE.name} has no place for the figures: {BEGIN} ... {END}")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def section(results: Mapping[str, Json | None]) -> str:
    """Claims of all benchmarks in one table, other tables below; a benchmark without a result is said to be missing."""
    measured = {name: result for name, result in results.items() if result is not None}
    missing = [name for name, result in results.items() if result is None]
    blocks = [_machines(measured)]
    if missing:
        blocks.append(f"**Not run: {', '.join(missing)}.**")
    claims = [markdown_line(_ratio(row).cells()) for result in measured.values() for row in result["ratios"]]
    blocks.append("\n".join([markdown_line(COLUMNS), "|" + "---|" * len(COLUMNS), *claims]))
    blocks += [_table(name, Table(**table)) for name, result in measured.items() for table in result["tables"]]
    return "\n\n".join(blocks)


def _table(name: str, table: Table) -> str:
    return f"`{name}`. " + "\n".join(table.lines())


def _machines(measured: Mapping[str, Json]) -> str:
    """One line per machine: what it is, what was measured on it, when, and how."""
    by_machine: dict[tuple[Any, ...], list[str]] = {}
    for name, result in measured.items():
        machine = result["machine"]
        by_machine.setdefault(tuple(machine[key] for key in (*_SAME, "date")), []).append(name)
    lines = []
    for (cpu, cores, kernel, python, torch, date), names in by_machine.items():
        total_s = sum(measured[name]["machine"]["wall_s"] for name in names)
        lines.append(
            f"{cpu}, {cores} cores, kernel {kernel}, Python {python}, torch {torch} on the CPU; {date}; "
            f"`python -m benchmarks {' '.join(names)}` ({total_s / 60:.0f} minutes)."
        )
    return "\n\n".join(lines)


def _ratio(row: Json) -> Ratio:
    fields = {key: value for key, value in row.items() if key != "passed"}
    return Ratio(**fields | {"value": float("nan") if row["value"] is None else row["value"]})
