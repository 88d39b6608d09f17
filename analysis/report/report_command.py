"""`pp-analyze report`: a run as one HTML file."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """A large run is millions of objects, hardly one in a cycle: to look for them takes a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            # What there is now lives to the end, when nobody shall look through it either.
            gc.freeze()
            gc.enable()


_EXAMPLE = """\b
Example:
  pp-analyze report results/three-models
  pp-analyze report --out three-models.html
"""


@click.command(name="report", epilog=_EXAMPLE)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.  [default: DIR/report.html]"
)
@click.option("--samples/--no-samples", default=True, show_default=True, help="Compute every record again from them.")
def command(directory: Path | None, out: Path | None, samples: bool) -> None:
    """Write a run as one HTML file that needs nothing else: no network, no other file.

    It holds a summary to cite, recommendations, the front of every model and network with its uncertainty, what another
    network does to it, where the latency goes, what is invalid or failed with the command that measures it again, the
    measurement rules that are broken (as pp-analyze check finds them), networks as declared and as measured, hosts and
    versions, and all records and operating points, which can be downloaded from it as CSV. Charts are interactive, by
    mouse, finger or keyboard. The same run gives the same file.

    Exit status: 0; 1 where no point is valid (the report is written all the same, it says what failed); 2 where DIR
    cannot be read or the file not be written.
    """
    from analysis.output import InputError, no_valid_point, open_run, remark
    from analysis.report.content import gather
    from analysis.report.page import render

    with _no_search_for_cycles():
        data = open_run(directory)
        page = render(gather(data, with_samples=samples))
    path = out or data.directory / "report.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(page)
    except OSError as error:
        reason = f"{error.filename or path}: {error.strerror}; name another place with --out FILE"
        raise InputError(reason) from error
    remark(str(path))
    if not (data.frame["state"] == "valid").any():
        no_valid_point(data)
