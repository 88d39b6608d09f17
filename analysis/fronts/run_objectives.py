"""Which columns of a run can be objectives, and operating points that have them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.comparing.breakdown import DERIVED, derived_columns, loopback_hosts
from analysis.objectives import suggestion
from analysis.operating_points import AXES, operating_points

if TYPE_CHECKING:
    import pandas as pd

    from analysis.run import Run

_NO_OBJECTIVES = {"schema", "round"}
_NUMBERS = {"integer", "floating", "mixed-integer-float"}
_OF_A_POINT = {*AXES, "n_cuts"}
"""Columns that operating points have as they are, not as a mean."""


class ObjectiveError(Exception):
    """A column that cannot be an objective; one line that says why."""


def with_derived(data: Run, columns: Sequence[str]) -> pd.DataFrame:
    """The frame of a run, with those of `breakdown.DERIVED` that are asked for."""
    missing = [column for column in columns if column in DERIVED and column not in data.frame.columns]
    if not missing:
        return data.frame
    derived = derived_columns(data.frame, loopback_hosts(data.run))
    return data.frame.assign(**{column: derived[column] for column in missing})


def points_with(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The operating points of `frame` with the means of `columns`.

    Raises ObjectiveError where a column does not exist, is not of numbers or has no value in a valid record.
    """
    known = [str(name) for name in frame.columns if name not in _NO_OBJECTIVES]
    for column in columns:
        if column not in known:
            numbers = [name for name in known if not name.startswith("stage") and _has_numbers(frame, name)]
            raise ObjectiveError(f"no column {column!r}; {suggestion(column, _candidates(column, known, numbers))}")
    valid = frame[frame["state"] == "valid"]
    for column in columns:
        if not _has_numbers(valid, column):
            kind = "has no number in a valid record" if not valid[column].notna().any() else "is not of numbers"
            raise ObjectiveError(f"column {column!r} {kind}: it cannot be an objective")
    extra = [column for column in columns if column not in _OF_A_POINT]
    return operating_points(frame, extra)


def _has_numbers(frame: pd.DataFrame, column: str) -> bool:
    import pandas as pd

    return pd.api.types.infer_dtype(frame[column].dropna()) in _NUMBERS and bool(frame[column].notna().any())


def _candidates(column: str, known: Sequence[str], numbers: Sequence[str]) -> list[str]:
    """What to suggest for a column: of the stages' only where it names one."""
    return list(dict.fromkeys([*(known if column.casefold().startswith("stage") else numbers), *DERIVED]))
