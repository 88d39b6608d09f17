"""Frontier pictures that are drawn at the same time, each in a process of its own, where that is worth its start."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.beside import Beside

if TYPE_CHECKING:
    from analysis.figures.frontier import FrontierInfo

CROWD = 5000
"""Fewer points than this are drawn faster than a process is started."""


@contextmanager
def drawn(jobs: Sequence[tuple[FrontierInfo, Path]]) -> Iterator[Iterator[list[Path]]]:
    """Draw and write pictures; gives the paths written, job by job. Taking them raises OSError.

    A crowd is drawn in the background from here on, by forked processes: a fresh one would first have to import what
    this one has. So on Linux only; elsewhere, and for few points, a picture is drawn when its paths are taken.
    """
    points = sum(len(panel.marks) for info, _ in jobs for panel in info.panels)
    workers = min(len(jobs), os.cpu_count() or 1)
    if points < CROWD or workers < 2:
        yield map(_picture, jobs)
        return
    yield _taken([Beside(partial(_picture, job)) for job in jobs[:workers]], jobs[workers:])


def _taken(drawing: list[Beside[list[Path]]], waiting: Sequence[tuple[FrontierInfo, Path]]) -> Iterator[list[Path]]:
    """The paths of the pictures that are being drawn and of those that wait for it, in order."""
    for number in range(len(drawing) + len(waiting)):
        yield drawing[number].result()
        if number < len(waiting):
            drawing.append(Beside(partial(_picture, waiting[number])))


def _picture(job: tuple[FrontierInfo, Path]) -> list[Path]:
    from analysis.figures.frontier_drawing import draw_frontier
    from analysis.figures.style import save

    info, stem = job
    return save(draw_frontier(info), stem)
