"""Reading a run for a command, and where its output goes: tables to stdout, files to a folder, words to stderr."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from analysis.markup import Column, fit, latex, markdown
from analysis.objectives import DEFAULT_OBJECTIVES, columns_of
from analysis.tables import LINE_WIDTH, write_csv, write_frame
from paretopipe_runtime.results import ResultsError, newest_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.objectives import Objective
    from analysis.run import Run


class InputError(click.ClickException):
    """Input that cannot be used: one line, exit status 2."""

    exit_code = 2


def open_run(directory: Path | None) -> Run:
    """The run in `directory`, by default the newest one; what a reader must know of its origin goes to stderr.

    Raises InputError where it cannot be read, ClickException (exit status 1) where no round is finished.
    """
    from analysis.run import read_run

    with reading(directory):
        data = read_run(directory if directory is not None else newest_run())
    if directory is None:
        remark(f"reading {data.directory}")
    for note in origin(data):
        remark(note)
    if data.frame.empty:
        raise click.ClickException(f"{data.directory}: no round is finished yet; nothing to show")
    return data


@contextmanager
def reading(directory: Path | None) -> Iterator[None]:
    """While a run is read: what is wrong with it becomes an InputError."""
    try:
        yield
    except ResultsError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{error.filename or directory}: {error.strerror or error}") from error


def origin(data: Run) -> list[str]:
    """What a reader of the numbers must know about where they are from."""
    notes = {
        "simulated": "Simulated testbed: declared times, nothing was measured.",
        "imported": "Imported: not measured by ParetoPipe.",
    }
    note = notes.get(str(data.run.get("testbed")))
    return [note] if note else []


def no_valid_point(data: Run) -> NoReturn:
    """End with exit status 1: there is nothing to average. Raises ClickException."""
    states = data.frame["state"]
    raise click.ClickException(
        f"{data.directory}: no valid point: {(states == 'failed').sum()} records failed, "
        f"{(states == 'invalid').sum()} are invalid; see pp-matrix list {data.directory}"
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
    with _csv_file(stem) as file:
        write_csv(rows, columns, file)


def save_frame(stem: Path, frame: pd.DataFrame) -> None:
    """`save_table` of a whole frame, its index left out."""
    with _csv_file(stem) as file:
        write_frame(frame, file)


@contextmanager
def _csv_file(stem: Path) -> Iterator[IO[str]]:
    path = stem.with_name(stem.name + ".csv")
    with writing(stem):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
    remark(str(path))


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem`.png and `stem`.svg and tell their paths. Raises InputError."""
    from analysis.figures.style import save

    with writing(stem):
        written = save(figure, stem)
    for path in written:
        remark(str(path))


@contextmanager
def writing(stem: Path) -> Iterator[None]:
    """What goes wrong with a file while this is open is an InputError."""
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


def objectives_suffix(objectives: Iterable[Objective]) -> str:
    """What tells files of other objectives from those of latency and throughput; empty for these."""
    chosen = tuple(objectives)
    return "" if chosen == DEFAULT_OBJECTIVES else "-" + "-".join(map(slug, columns_of(chosen)))


def slug(text: str) -> str:
    """`text` as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def remark(text: str) -> None:
    """A line to stderr."""
    click.echo(text, err=True)
