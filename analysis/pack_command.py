"""What `pp-analyze pack` does: check, pack, read back, tell sizes."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields
from pathlib import Path

import click


@click.command(name="pack")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.option("--format", "format_", type=click.Choice(["csv", "md"]), default="md", show_default=True)
def command(directory: Path, out: Path, format_: str) -> None:
    """Make a small copy of a run to keep or to attach to a paper.

    OUT, which must be new or empty, gets run.json, probes.jsonl, records.jsonl.gz (every line, superseded ones too)
    and samples.parquet (all samples, with columns cell and round); logs and figures are left out. Every pp-analyze
    command reads it like the run itself, and so do pp-matrix list and show; pp-matrix does not measure into it.

    The copy is read back and compared with the run before it is called done. The same run gives the same bytes.

    \b
    Example:
      pp-analyze pack results/20261121-three-models paper/artefact
      pp-analyze report paper/artefact
    """
    _pack(directory, out, format_)


def _pack(directory: Path, out: Path, format_: str) -> None:
    from analysis.markup import Column
    from analysis.output import InputError, print_columns, reading, remark
    from analysis.packing import PackedFile, PackingError, pack, total
    from analysis.tables import write_csv

    with reading(directory):
        try:
            files = pack(directory, out)
        except PackingError as error:
            raise InputError(str(error)) from error
    if format_ == "csv":
        names = [field.name for field in fields(PackedFile)]
        write_csv((asdict(file) for file in files), names, sys.stdout)
    else:
        columns = [
            Column("file", tuple(file.name for file in files)),
            Column("holds", tuple(f"{file.entries} {file.unit}{'s' * (file.entries != 1)}" for file in files)),
            Column("in the run", tuple(_size(file.source_bytes) for file in files), right=True),
            Column("packed", tuple(_size(file.packed_bytes) for file in files), right=True),
        ]
        print_columns(columns, "md")
    before, after = total(files)
    remark(f"{_size(before)} in the run, {_size(after)} packed; read back and equal; logs and figures are left out")
    if not any(file.unit == "row" for file in files):
        remark("the run has no samples, so its records cannot be recomputed")
    remark(str(out))


def _size(nbytes: int) -> str:
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes} B"
