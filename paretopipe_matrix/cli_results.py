"""`pp-matrix list` and `show`: options only, the work is in showing."""

from __future__ import annotations

from pathlib import Path

import click

from paretopipe_runtime.results import newest_run


@click.command("list")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
def list_command(directory: Path | None) -> None:
    """List the cells of a run and their states. DIR: the newest under results/.

    \b
    Example: pp-matrix list results/r18
    """
    from paretopipe_matrix.showing import list_cells

    list_cells(directory or newest_run())


@click.command()
@click.argument("arguments", metavar="[DIR] CELL", nargs=-1)
def show(arguments: tuple[str, ...]) -> None:
    """Show one cell: records, errors, logs, provenance.

    DIR: the newest under results/.

    A cell may be given by the beginning of its id.

    \b
    Example: pp-matrix show results/r18 resnet18-P3
    """
    from paretopipe_matrix.showing import show_cell

    if len(arguments) not in (1, 2):
        raise click.UsageError("give a cell, or a directory and a cell")
    show_cell(Path(arguments[0]) if len(arguments) == 2 else newest_run(), arguments[-1])
