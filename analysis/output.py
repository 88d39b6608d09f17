"""Reading a run for a command, and where its output goes: tables to stdout, files to a folder, words to stderr."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from analysis.markup import Column, fit, latex, markdown
from analysis.tables import LINE_WIDTH, write_csv
from paretopipe_runtime.results import ResultsError, RunData, load_run, newest_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class InputError(click.ClickException):
    """Input that cannot be used: one line, exit status 2."""

    exit_code = 2


def load(directory: Path | None) -> RunData:
    """The run in `directory`, by default the newest one; what a reader must know of its origin goes to stderr.

    Raises InputError where it cannot be read, ClickException (exit status 1) where no round is finished.
    """
    try:
        data = load_run(directory if directory is not None else newest_run())
    except ResultsError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{error.filename or directory}: {error.strerror}") from error
    except KeyError as error:
        raise InputError(f"{directory}: a line of records.jsonl or probes.jsonl has no {error}") from error
    if directory is None:
        remark(f"reading {data.directory}")
    for note in origin(data):
        remark(note)
    if not data.records:
        raise click.ClickException(f"{data.directory}: no round is finished yet; nothing to show")
    return data


def origin(data: RunData) -> list[str]:
    """What a reader of the numbers must know about where they are from."""
    return (
        ["Simulated testbed: declared times, nothing was measured."] if data.run.get("testbed") == "simulated" else []
    )


def no_valid_point(data: RunData) -> NoReturn:
    """End with exit status 1: there is nothing to average. Raises ClickException."""
    failed = sum(record["status"] != "ok" for record in data.records)
    raise click.ClickException(
        f"{data.directory}: no valid point: {failed} records failed, {len(data.records) - failed} are invalid; "
        f"see pp-matrix list {data.directory}"
    )


def print_columns(columns: Sequence[Column], format_: str) -> None:
    """A table to stdout, as `latex` or as Markdown of at most LINE_WIDTH characters; stderr says what is left out."""
    if format_ == "latex":
        click.echo(latex(columns), nl=False)
        return
    shown, left_out = fit(columns, LINE_WIDTH)
    click.echo(markdown(shown), nl=False)
    if left_out:
        remark(f"left out to fit {LINE_WIDTH} columns: {', '.join(reversed(left_out))}; --format csv has all")


def save_table(stem: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write `stem`.csv and tell its path. Raises InputError."""
    path = stem.with_name(stem.name + ".csv")
    with _writing(stem):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            write_csv(rows, columns, file)
    remark(str(path))


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem`.png and `stem`.svg and tell their paths. Raises InputError."""
    from analysis.figures.style import save

    with _writing(stem):
        written = save(figure, stem)
    for path in written:
        remark(str(path))


@contextmanager
def _writing(stem: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or stem}: {error.strerror}; name another place with --out DIR") from error


def free_stem(stem: str, taken: set[str]) -> str:
    """`stem`, or with a number where two values have the same slug; it is added to `taken`."""
    number = 1
    free = stem
    while free in taken:
        number += 1
        free = f"{stem}-{number}"
    taken.add(free)
    return free


def slug(text: str) -> str:
    """`text` as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def remark(text: str) -> None:
    """A line to stderr."""
    click.echo(text, err=True)
