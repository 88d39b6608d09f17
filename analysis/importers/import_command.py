"""`pp-analyze import`: other people's results as a results directory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_STAGES = (1, 2, 3, 4)
_CSV_OPTIONS = {
    "latency": ("COL[:s|ms|us]", "Latency per batch."),
    "throughput": ("COL", "Images per second."),
    "model": ("COL|=NAME", "Model."),
    "split": ("COL|=NAME", "Where it was cut; 0 is all remote."),
    "profile": ("COL|=NAME", "Network condition.  [default: imported]"),
    "backend": ("COL|=NAME", "How activations travelled.  [default: unknown]"),
    "engine": ("COL|=NAME", "What computed.  [default: unknown]"),
    "depth": ("COL|N", "Batches in flight.  [default: unknown]"),
    "round": ("COL|N", "Which repetition.  [default: repeated rows, in order]"),
    "network": ("COL[:s|ms|us]", "Network time per batch."),
    "bytes": ("COL[:B|kB|MB|KiB|MiB]", "Bytes sent per batch."),
    **{f"stage{k}_exec": ("COL[:s|ms|us]", f"Computing time of stage {k} per batch.") for k in _STAGES},
}


def _csv_options(function: Callable[..., None]) -> Callable[..., None]:
    for name, (metavar, words) in reversed(_CSV_OPTIONS.items()):
        option = f"--{name.replace('_', '-')}"
        function = click.option(option, name, metavar=metavar, help=f"CSV: {words}")(function)
    return function


@click.command(name="import")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="The results directory to make."
)
@click.option(
    "--batch-size",
    metavar="N|COL",
    help="Images per batch; COL for CSV only.  [default: JSON: as it says, or 8; CSV: 1]",
)
@click.option("--keep-defective", is_flag=True, help="Let results count that are no measurements; they stay marked.")
@_csv_options
def command(sources: tuple[Path, ...], out: Path, batch_size: str | None, keep_defective: bool, **given: Any) -> None:
    """Make a results directory of somebody else's results.

    SOURCE are JSON files of the reference implementation of "Where to Split?" (either variant), or CSV files, or
    directories of them. The records are marked as imported, with what is known to be wrong with them; a number that
    was defined and not measured does not count, unless --keep-defective.

    \b
    Examples:
      pp-analyze import reference-results/ --out results/reference
      pp-analyze import points.csv --latency lat_ms:ms --throughput fps \\
          --model =mobilenet_v2 --split cut --out results/theirs
      pp-analyze table --format csv > all.csv
      pp-analyze import all.csv --out results/copy

    CSV: COL is a column, :ms its unit, =NAME the same for all rows. Repeated rows of a point are its rounds. A
    table of pp-analyze table --format csv needs no options.

    Exit status: 0, 2 for bad usage or input.
    """
    from analysis.importers.sources import CSV, find_sources
    from analysis.importers.writing import SourceError, write_results
    from analysis.output import InputError, remark

    options = {name: text for name, text in given.items() if text is not None}
    try:
        found = find_sources(sources)
        if found.suffix == CSV:
            from analysis.importers.any_csv import import_csv

            if batch_size is not None:
                options["batch_size"] = batch_size
            imported = import_csv(found.files, options, keep_defective=keep_defective)
        else:
            from analysis.importers.reference_json import import_reference

            imported = import_reference(
                found.files,
                _json_batch_size(batch_size, options),
                keep_defective=keep_defective,
                skip_others=found.from_directories,
            )
        write_results(out, imported, [name for name, _ in found.files], sys.argv, keep_defective=keep_defective)
    except SourceError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{error.filename or out}: {error.strerror}") from error
    for line in imported.lines(keep_defective=keep_defective):
        remark(line)
    remark(str(out))


def _json_batch_size(batch_size: str | None, options: dict[str, str]) -> int | None:
    if options:
        raise click.UsageError(f"--{next(iter(options)).replace('_', '-')} is for CSV files; JSON says what is what")
    if batch_size is None:
        return None
    if not batch_size.isdecimal() or int(batch_size) < 1:
        raise click.UsageError(f"--batch-size {batch_size}: with JSON files a whole number from 1")
    return int(batch_size)
