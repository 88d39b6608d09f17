"""Makes all artefacts of the paper, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.paper.artefacts import Artefact
from analysis.paper.backends import backend_points
from analysis.paper.blocks import BlockTime
from analysis.paper.inputs import Inputs
from analysis.paper.making_figures import make_backends, make_blocks, make_frontiers
from analysis.paper.making_tables import make_beside, make_models, make_splits
from analysis.paper.reference import split_tables


def make_all(inputs: Inputs, timed: Sequence[BlockTime], folder: Path) -> list[Artefact]:
    """Write every artefact that the inputs hold into `folder`; `timed` are blocks of pp-matrix profile, if any.

    Raises InputError where `folder` cannot be written.
    """
    backends = [
        point
        for source, points in zip(inputs.measured, inputs.points, strict=True)
        for point in backend_points(source, points)
    ]
    splits = [make_splits(inputs, table, folder) for table in split_tables()]
    return [
        make_blocks(inputs, timed, folder),
        *make_frontiers(inputs, folder),
        make_backends(inputs, backends, folder),
        make_models(inputs, folder),
        *(made.artefact for made in splits),
        make_beside(inputs, [row for made in splits for row in made.beside], backends, folder),
    ]
