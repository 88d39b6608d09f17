"""Everything that the artefacts are made of: several runs, pipeline by pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.comparing.breakdown import compare_frame, compare_points, loopback_hosts
from analysis.paper.measured import Measured, measured_pipelines
from analysis.paper.reference import reference_models

if TYPE_CHECKING:
    import pandas as pd

    from analysis.run import Run


@dataclass(frozen=True)
class Inputs:
    """Everything that was read."""

    runs: tuple[Mapping[str, Any], ...]
    """run.json of each directory."""
    measured: tuple[Measured, ...]
    points: tuple[pd.DataFrame, ...]
    """The operating points of each of `measured` at known depths, with the columns of `compare_points`."""

    @property
    def models(self) -> list[str]:
        """The paper's models by their torchvision names."""
        return [row.model for row in reference_models()]


def gather(runs: Sequence[Run]) -> Inputs:
    """The pipelines of several runs and their operating points."""
    measured = []
    for data in runs:
        frame = compare_frame(data.frame, loopback_hosts(data.run))
        measured += measured_pipelines(data.directory, data.run, frame)
    points = tuple(compare_points(one.frame[one.frame["depth"].notna()]) for one in measured)
    return Inputs(tuple(data.run for data in runs), tuple(measured), points)
