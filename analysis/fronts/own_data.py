"""The frontier of anybody's table: a CSV file, at least two objectives, everything else kept as it is."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.fronts.dominance import nondominated
from analysis.fronts.indicators import default_reference, dominance_ranks, hypervolume, knee_points, utopia_distances
from analysis.objectives import Objective, directions, suggestion

ON_FRONTIER = "on_frontier"
MARKS = (ON_FRONTIER, "dominance_rank", "utopia_distance", "knee")
"""The columns that are added; those of a file that has them already are not kept."""
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-"}


class OwnDataError(Exception):
    """A file or an objective that cannot be used; one line that says where and why."""


@dataclass(frozen=True)
class OwnData:
    """The usable rows of a file."""

    columns: list[str]
    """Those that are kept."""
    rows: list[dict[str, str]]
    """The cells of all columns as they stand in the file."""
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
            raise OwnDataError(f"{path}: no column {column!r}; {suggestion(column, header)}")
    columns = [column for column in header if column not in MARKS]
    rows, values, dropped = [], [], 0
    for number, cells in lines:
        if len(cells) != len(header):
            raise OwnDataError(f"{path}: line {number} has {len(cells)} fields, the header {len(header)}")
        row = dict(zip(header, cells, strict=True))
        numbers = tuple(_number(path, number, o.column, row[o.column]) for o in objectives)
        if all(map(math.isfinite, numbers)):
            rows.append(row)
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


def _number(path: Path, line: int, column: str, text: str) -> float:
    """The cell as a number; NaN where it is missing."""
    if text.strip().casefold() in _MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise OwnDataError(f"{path}: line {line}, column {column!r}: {text!r} is not a number") from None


@dataclass(frozen=True)
class OwnFronts:
    """What is known of every row, and of every front."""

    marks: list[tuple[bool, int, float, bool]]
    """Per row its values of `MARKS`."""
    hypervolumes: dict[str, float]
    """Per group (one without a name where nothing groups)."""
    reference_words: str

    @property
    def on_frontier(self) -> list[bool]:
        """Per row whether it is on its front."""
        return [on_frontier for on_frontier, *_ in self.marks]


def fronts_of(
    data: OwnData, objectives: Sequence[Objective], group: str | None, reference: Sequence[float] | None = None
) -> OwnFronts:
    """One front for all rows, or one per value of the column `group`.

    The hypervolume is against `reference`, by default that of `indicators.default_reference` over all rows.
    """
    import numpy as np

    maximise = directions(objectives)
    values = np.array(data.values, dtype=float).reshape(len(data.rows), len(objectives))
    place, words = default_reference(values, objectives)
    if reference is not None:
        place = tuple(reference)
        words = ", ".join(f"{o.column} {value:g}" for o, value in zip(objectives, place, strict=True)) + " (given)"
    members: dict[str, list[int]] = {}
    for index, row in enumerate(data.rows):
        members.setdefault(row[group] if group else "", []).append(index)
    marks: list[tuple[bool, int, float, bool]] = [(False, 0, math.nan, False)] * len(data.rows)
    hypervolumes = {}
    for name, indices in members.items():
        here = values[indices]
        front = nondominated(here, maximise)
        ranks = dominance_ranks(here, maximise).astype(int)
        distances = utopia_distances(here, front, maximise)
        knees = knee_points(here, front, maximise)
        rows = zip(front.tolist(), ranks.tolist(), distances.tolist(), knees.tolist(), strict=True)
        for index, row_marks in zip(indices, rows, strict=True):
            marks[index] = row_marks
        hypervolumes[name] = hypervolume(here, place, maximise)
    return OwnFronts(marks, hypervolumes, words)
