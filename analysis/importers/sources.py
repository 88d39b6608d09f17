"""Which files an import reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.importers.writing import SourceError

JSON, CSV = ".json", ".csv"


@dataclass(frozen=True)
class Sources:
    """The files, all of one kind."""

    suffix: str
    """`.json` or `.csv`."""
    files: tuple[tuple[str, Path], ...]
    """(name to show, path), in the order in which repeated results count as rounds."""
    from_directories: frozenset[Path]
    """Those that nobody named: they were found in a directory."""


def find_sources(paths: Sequence[Path]) -> Sources:
    """Files as they are; a directory stands for the .json files below it, else the .csv files, by name.

    Numbers in names sort as numbers. Raises SourceError where a file is neither or is there twice, kinds are mixed, or
    a directory holds none, or is a results directory already.
    """
    named: list[tuple[str, Path]] = []
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            inside = _below(path)
            found.update(inside)
            named += [(f"{path.resolve().name}/{file.relative_to(path)}", file) for file in inside]
        else:
            named.append((path.name, path))
    suffixes = {path.suffix.lower() for _, path in named}
    for name, path in named:
        if path.suffix.lower() not in (JSON, CSV):
            raise SourceError(
                f"{name}: neither .json nor .csv; import reads the reference implementation's JSON, and CSV"
            )
    if len(suffixes) > 1:
        raise SourceError("both .json and .csv files named; import one kind at a time")
    resolved = [path.resolve() for _, path in named]
    for (_, path), real in zip(named, resolved, strict=True):
        if resolved.count(real) > 1:
            raise SourceError(f"{path} is named twice; it would count as two rounds")
    names = [name for name, _ in named]
    unique = [(name if names.count(name) == 1 else str(path), path) for name, path in named]
    return Sources(suffixes.pop(), tuple(unique), frozenset(found))


def _below(directory: Path) -> list[Path]:
    if (directory / "run.json").exists() and (directory / "records.jsonl").exists():
        raise SourceError(f"{directory} is a results directory already; name it to pp-analyze table, frontier, ...")
    for suffix in (JSON, CSV):
        files = [path for path in directory.rglob(f"*{suffix}") if path.is_file()]
        if files:
            return sorted(files, key=_natural)
    raise SourceError(f"{directory}: no .json or .csv file in it")


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
