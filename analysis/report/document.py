"""What the report's page consists of. Plain data: every text is unescaped, every number has its digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.markup import Column

Fact = tuple[str, str]
"""What, and its value in words."""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    caption: str
    columns: tuple[Column, ...]
    note: str = ""
    code: tuple[str, ...] = ()
    """Headers of the columns that hold commands."""

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


@dataclass(frozen=True)
class Chart:
    """A picture that the page draws, and what it says in words."""

    ident: str
    title: str
    words: tuple[str, ...]
    """The text alternative, a sentence each."""
    notes: tuple[str, ...]
    variants: tuple[tuple[str, Mapping[str, Any]], ...]
    """Name and drawing (see `charts`) of each choice that the page offers; the first is shown."""
    table: Table | None = None


@dataclass(frozen=True)
class Embedded:
    """A table of the run inside the page."""

    ident: str
    title: str
    file_name: str
    rows: int
    columns: tuple[str, ...]
    csv_bytes: int
    payload: str
    """The CSV (UTF-8), compressed by gzip, as base64."""


@dataclass(frozen=True)
class Passage:
    """A line of an answer, in pieces that are stressed or not."""

    kind: str
    """`heading`, `item`, `command` or `text`."""
    pieces: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Answer:
    """The recommendation for one model."""

    title: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Report:
    """The whole page."""

    title: str
    made_of: str
    """Which run it was made from, as of when, by which version."""
    origin: tuple[str, ...]
    """What a reader of the numbers must know about where they are from."""
    summary: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    hosts: Table | None
    models: Table | None
    networks: Table | None
    network_notes: tuple[str, ...]
    validity: tuple[str, ...]
    validity_tables: tuple[Table, ...]
    all_fronts: Table | None
    fronts: tuple[Chart, ...]
    shifts: tuple[Table, ...]
    shift_notes: tuple[str, ...]
    breakdowns: tuple[Chart, ...]
    breakdown_notes: tuple[str, ...]
    answers: tuple[Answer, ...]
    data: tuple[Embedded, ...]


def table_of(
    caption: str,
    rows: Sequence[Mapping[str, str]],
    *,
    right: Sequence[str] = (),
    note: str = "",
    code: Sequence[str] = (),
) -> Table | None:
    """A table of rows that all have the first one's keys, which are the headers; None where there is no row."""
    if not rows:
        return None
    columns = (Column(name, tuple(row[name] for row in rows), right=name in right) for name in rows[0])
    return Table(caption, tuple(columns), note, tuple(code))
