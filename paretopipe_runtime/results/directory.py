"""A results directory as data: what counts after reruns, and after the network was measured again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretopipe_runtime.results.jsonl import read_lines

JsonObject = dict[str, Any]
SCHEMA = 1


class ResultsError(Exception):
    """A results directory that cannot be read; the message says which, why, and what to do."""


@dataclass(frozen=True)
class RunData:
    """One results directory."""

    directory: Path
    run: JsonObject
    records: list[JsonObject]
    """The last line of every (cell, round, depth), in file order of its first occurrence."""
    probes: list[JsonObject]


def load_run(directory: Path) -> RunData:
    """Read a results directory.

    Raises ResultsError if it is none, is of another schema, or is damaged beyond a torn last line.
    """
    run_file = directory / "run.json"
    if not run_file.is_file():
        raise ResultsError(f"{directory}: no results here (no run.json); name what pp-matrix run wrote")
    try:
        run = json.loads(run_file.read_text())
        records = read_lines(directory / "records.jsonl")
        probes = read_lines(directory / "probes.jsonl")
    except ValueError as error:
        raise ResultsError(f"{directory}: {error}") from error
    if run.get("schema") != SCHEMA:
        raise ResultsError(
            f"{directory}: schema {run.get('schema')!r}, this version reads {SCHEMA}; "
            "use the paretopipe version named in run.json"
        )
    latest: dict[tuple[str, int, int], JsonObject] = {}
    for record in records:
        latest[record["cell"], record["round"], record["depth"]] = record
    failed_after = {p["segment"]: p for p in probes if p["when"] == "after" and not p["ok"]}
    return RunData(directory, run, [_judged(r, failed_after) for r in latest.values()], probes)


def _judged(record: JsonObject, failed_after: dict[str, JsonObject]) -> JsonObject:
    probe = failed_after.get(record.get("segment", ""))
    if probe is None or record["status"] != "ok" or not record["valid"]:
        return record
    return record | {"valid": False, "invalid_reason": f"network changed during the round: {probe['reason']}"}


def newest_run(root: Path = Path("results")) -> Path:
    """The directory below `root` whose run.json was written last.

    Raises ResultsError if there is none.
    """
    runs = [path.parent for path in root.glob("*/run.json")]
    if not runs:
        raise ResultsError(f"no results under {root}/; run pp-matrix run first, or name a directory")
    return max(runs, key=lambda path: (path / "run.json").stat().st_mtime)
