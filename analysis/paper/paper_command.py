"""`pp-analyze paper`: options only; the artefacts are made in `analysis.paper`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="paper")
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--blocks",
    "block_files",
    metavar="FILE",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Block times of pp-matrix profile --out FILE, for Fig. 2.  [default: derived from the cells]",
)
@click.option("--format", "format_", type=click.Choice(["csv", "md"]), default="md", show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where files go.  [default: paper, in the first DIR]",
)
def command(directories: tuple[Path, ...], block_files: tuple[Path, ...], format_: str, out: Path | None) -> None:
    """Make the reference paper's tables and figures from your runs.

    Fig. 2 (block-wise times), Figs 3-6 (frontiers), Fig. 7 (backends), Tables I to III as md, csv and tex, and
    the paper's figures beside yours. Several DIRs may be given: Pi to Pi, Pi to GPU, under duress; which is which
    is decided from the recorded facts of their hosts. index.md has everything on one page.

    What the runs lack is listed, with the pp-matrix command that would measure it.

    \b
    Example:
      pp-analyze paper results/pi-to-pi results/pi-to-gpu --out paper
      pp-matrix profile --model resnet18 --batch-size 8 --out blocks.json
      pp-analyze paper results/pi-to-pi --blocks blocks.json
    """
    from analysis.paper.printing import print_paper

    print_paper(directories, block_files, format_, out)
