"""A results directory as data: what counts after reruns, and after the network was measured again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretopipe_runtime.results.jsonl import line_blocks, line_parts, read_lines

JsonObject = dict[str, Any]
SCHEMA = 1
RECORDS = "records.jsonl"
PACKED_RECORDS = "records.jsonl.gz"
"""What a packed run (`pp-analyze pack`) has instead: it is read like any other, and nobody writes to it."""
_RECORD_KEYS = ("cell", "round", "depth", "status", "valid")
_PROBE_KEYS = ("segment", "when", "ok")


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


@dataclass(frozen=True)
class RunFiles:
    """One results directory, its records not read yet."""

    directory: Path
    run: JsonObject
    """run.json."""
    probes: list[JsonObject]
    """Lines of probes.jsonl."""

    def record_parts(self, most: int, least_bytes: int) -> list[range]:
        """Up to `most` parts of records.jsonl that can be read apart, of `least_bytes` or more if there are several.

        None where no record was written.
        """
        path = records_file(self.directory)
        if not path.exists():
            return []
        return line_parts(path, max(1, min(most, path.stat().st_size // least_bytes)))

    def record_blocks(
        self, keys: Sequence[str] = (), part: range | None = None
    ) -> Iterator[tuple[int, list[JsonObject]]]:
        """All lines of records.jsonl in blocks, each with the number of its first one (from 1); none is judged.

        With `part`, one of `record_parts`, only the lines there, and numbers count from its beginning. Raises
        ResultsError on a line that is damaged, of another schema, or without one of `keys` or of the keys that every
        record has.
        """
        path = records_file(self.directory)
        if not path.exists():
            return
        wanted = frozenset((*_RECORD_KEYS, *keys))
        try:
            for first, records in line_blocks(path, part):
                for number, record in enumerate(records, start=first):
                    if not wanted <= record.keys() or record.get("schema", SCHEMA) != SCHEMA:
                        raise ResultsError(f"{path}:{number}: {_fault(record, (*_RECORD_KEYS, *keys))}")
                yield first, records
        except ValueError as error:
            raise ResultsError(str(error)) from error

    def changed_networks(self) -> dict[str, str]:
        """Segment -> why its records are invalid: its `after` probe found another network than declared."""
        return {
            probe["segment"]: f"network changed during the round: {probe.get('reason')}"
            for probe in self.probes
            if probe["when"] == "after" and not probe["ok"]
        }


def _fault(record: JsonObject, keys: Sequence[str]) -> str:
    if record.get("schema", SCHEMA) != SCHEMA:
        return f"schema {record['schema']!r}, this version reads {SCHEMA}; do not mix results of two versions"
    missing = next(key for key in keys if key not in record)
    return f"the record has no {missing!r}; the file was edited or is of another program"


def open_files(directory: Path) -> RunFiles:
    """Read run.json and probes.jsonl.

    Raises ResultsError if this is no results directory, is of another schema, or is damaged beyond a torn last line.
    """
    run_file = directory / "run.json"
    if not run_file.is_file():
        raise ResultsError(f"{directory}: no results here (no run.json); name what pp-matrix run wrote")
    try:
        run = json.loads(run_file.read_bytes())
    except ValueError as error:
        raise ResultsError(f"{run_file}: not whole JSON ({error}); restore it, or name another run") from error
    if not isinstance(run, dict) or run.get("schema") != SCHEMA:
        schema = run.get("schema") if isinstance(run, dict) else None
        raise ResultsError(
            f"{directory}: schema {schema!r}, this version reads {SCHEMA}; use the paretopipe version named in run.json"
        )
    try:
        probes = read_lines(directory / "probes.jsonl")
    except ValueError as error:
        raise ResultsError(str(error)) from error
    for number, probe in enumerate(probes, start=1):
        for key in _PROBE_KEYS:
            if key not in probe:
                raise ResultsError(f"{directory / 'probes.jsonl'}:{number}: the probe has no {key!r}")
    return RunFiles(directory, run, probes)


def load_run(directory: Path) -> RunData:
    """Read a results directory. Raises ResultsError as `open_files` and `RunFiles.record_blocks` do."""
    files = open_files(directory)
    latest: dict[tuple[str, int, int | None], JsonObject] = {}
    for _, records in files.record_blocks():
        for record in records:
            latest[record["cell"], record["round"], record["depth"]] = record
    changed = files.changed_networks()
    return RunData(directory, files.run, [_judged(r, changed) for r in latest.values()], files.probes)


def _judged(record: JsonObject, changed: dict[str, str]) -> JsonObject:
    reason = changed.get(record.get("segment", ""))
    if reason is None or record["status"] != "ok" or not record["valid"]:
        return record
    return record | {"valid": False, "invalid_reason": reason}


def records_file(directory: Path) -> Path:
    """Where the records of a run are, packed or not; it need not exist. Raises ResultsError where both do."""
    plain, packed = directory / RECORDS, directory / PACKED_RECORDS
    if not packed.exists():
        return plain
    if plain.exists():
        raise ResultsError(f"{directory}: holds {RECORDS} and {PACKED_RECORDS}; remove the one that is not the run's")
    return packed


def newest_run(root: Path = Path("results")) -> Path:
    """The directory below `root` whose run.json was written last.

    Raises ResultsError if there is none.
    """
    runs = [path.parent for path in root.glob("*/run.json")]
    if not runs:
        raise ResultsError(f"no results under {root}/; run pp-matrix run first, or name a directory")
    return max(runs, key=lambda path: (path / "run.json").stat().st_mtime)
