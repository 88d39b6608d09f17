"""The frontier of anybody's table: a CSV file, at least two objectives, everything else kept as it is."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.frontier import nondominated

ON_FRONTIER = "on_frontier"
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-"}


class OwnDataError(Exception):
    """A file or an objective that cannot be used; one line that says where and why."""


@dataclass(frozen=True)
class Objective:
    """A column, and which way is better."""

    column: str
    maximise: bool


@dataclass(frozen=True)
class OwnData:
    """The usable rows of a file."""

    columns: list[str]
    rows: list[dict[str, str]]
    """The cells as they stand in the file."""
    values: list[tuple[float, ...]]
    """Per row the finite value of every objective."""
    dropped: int
    """Rows left out because an objective is missing or not finite."""


def read_own_data(path: Path, objectives: Sequence[Objective], others: Sequence[str] = ()) -> OwnData:
    """Read a CSV file with a header (UTF-8, commas).

    `others` are columns that must exist besides the objectives' ones. Raises OwnDataError if the file is unreadable
    or ragged, a column does not exist, or an objective's cell is neither empty nor a number.
    """
    header, lines = _lines(path)
    for column in (*(objective.column for objective in objectives), *others):
        if column not in header:
            raise OwnDataError(f"{path}: no column {column!r}; {_suggestion(column, header)}")
    columns = [column for column in header if column != ON_FRONTIER]
    rows, values, dropped = [], [], 0
    for number, cells in lines:
        if len(cells) != len(header):
            raise OwnDataError(f"{path}: line {number} has {len(cells)} fields, the header {len(header)}")
        row = dict(zip(header, cells, strict=True))
        numbers = tuple(_number(path, number, o.column, row[o.column]) for o in objectives)
        if all(map(math.isfinite, numbers)):
            rows.append({column: row[column] for column in columns})
            values.append(numbers)
        else:
            dropped += 1
    return OwnData(columns, rows, values, dropped)


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        # -sig: spreadsheets put a byte order mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise OwnDataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OwnDataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8 CSV") from error
    except csv.Error as error:
        raise OwnDataError(f"{path}: line {reader.line_num}: {error}") from error
    if not lines:
        raise OwnDataError(f"{path}: empty; the first line must name the columns")
    header = [name.strip() for name in lines[0][1]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise OwnDataError(f"{path}: column {twice[0]!r} occurs more than once; rename one")
    return header, lines[1:]


def _suggestion(column: str, header: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in header}
    close = [folded[name] for name in difflib.get_close_matches(column.casefold(), folded, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"the columns are {', '.join(header)}"


def _number(path: Path, line: int, column: str, text: str) -> float:
    """The cell as a number; NaN where it is missing."""
    if text.strip().casefold() in _MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise OwnDataError(f"{path}: line {line}, column {column!r}: {text!r} is not a number") from None


def front_of(data: OwnData, objectives: Sequence[Objective], group: str | None) -> list[bool]:
    """Which rows are on the front: one front for all, or one per value of the column `group`."""
    import numpy as np

    directions = [objective.maximise for objective in objectives]
    members: dict[str, list[int]] = {}
    for index, row in enumerate(data.rows):
        members.setdefault(row[group] if group else "", []).append(index)
    front = [False] * len(data.rows)
    for indices in members.values():
        values = np.array([data.values[i] for i in indices], dtype=float)
        for index, on_front in zip(indices, nondominated(values, directions), strict=True):
            front[index] = bool(on_front)
    return front
