"""What `pp-analyze paper` does: read the runs, make everything, list it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from analysis.output import InputError, open_run, origin, print_columns, remark
from analysis.paper.artefacts import (
    EXAMPLE_NOTE,
    LISTING_COLUMNS,
    Artefact,
    gaps,
    listing,
    listing_rows,
    needs_example,
)
from analysis.paper.block_file import BlockFileError, read_blocks
from analysis.paper.index import index_page
from analysis.paper.inputs import gather
from analysis.paper.making import make_all
from analysis.paper.writing import save_text
from analysis.run import Run
from analysis.tables import write_csv


def print_paper(directories: Sequence[Path], block_files: Sequence[Path], format_: str, out: Path | None) -> None:
    """`pp-analyze paper`. Raises ClickException: InputError for what cannot be read, exit status 1 without a result."""
    runs = _read(directories)
    try:
        timed = [time for path in block_files for time in read_blocks(path)]
    except BlockFileError as error:
        raise InputError(str(error)) from error
    if block_files and not timed:
        raise InputError(f"{block_files[0]}: no block times at block granularity; profile without --granularity node")
    if not any((data.frame["state"] == "valid").any() for data in runs):
        names = " ".join(str(data.directory) for data in runs)
        raise click.ClickException(f"{names}: no valid point; see pp-matrix list {runs[0].directory}")
    inputs = gather(runs)
    folder = out or runs[0].directory / "paper"
    artefacts = make_all(inputs, timed, folder)
    if not any(artefact.files for artefact in artefacts):
        raise click.ClickException("nothing could be made of these results; see pp-analyze table")
    notes = [note for data in runs for note in origin(data)]
    save_text(folder / "index.md", index_page(artefacts, inputs.measured, dict.fromkeys(notes)))
    _print(artefacts, format_)


def _read(directories: Sequence[Path]) -> list[Run]:
    """The runs that hold a round. Raises ClickException where none does, InputError for one that cannot be read."""
    if not directories:
        return [open_run(None)]
    runs: list[Run] = []
    empty: list[click.ClickException] = []
    for directory in dict.fromkeys(directories):
        try:
            runs.append(open_run(directory))
        except InputError:
            raise
        except click.ClickException as error:
            empty.append(error)
    if not runs:
        raise empty[0]
    for unfinished in empty:
        remark(unfinished.message)
    return runs


def _print(artefacts: Sequence[Artefact], format_: str) -> None:
    if format_ == "csv":
        write_csv(listing_rows(artefacts), list(LISTING_COLUMNS), sys.stdout)
        return
    print_columns(listing(artefacts), "md")
    found = gaps(artefacts)
    for gap in found:
        click.echo()
        for why in gap.whys:
            click.echo(f"lacking {gap.number}: {why}")
        if gap.command:
            click.echo(f"  {gap.command}")
    if needs_example(found):
        remark(EXAMPLE_NOTE)
