"""Columns of a run's table as arrays, whatever the run's age: what it does not have is NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Place(NamedTuple):
    """Where a record belongs; None for what is not known."""

    cell: str | None
    round: int | None
    depth: int | None


def numbers(frame: pd.DataFrame, column: str) -> Floats:
    """A column as floats, NaN where null; all NaN where the frame does not have it."""
    import numpy as np
    import pandas as pd

    if column not in frame.columns:
        return np.full(len(frame), np.nan)
    return pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def texts(frame: pd.DataFrame, column: str) -> list[str | None]:
    """A column as strings, None where null or where the frame does not have it."""
    if column not in frame.columns:
        return [None] * len(frame)
    return [value if isinstance(value, str) else None for value in frame[column].tolist()]


def stage_count(frame: pd.DataFrame) -> int:
    """The largest number of stages of any row."""
    import numpy as np

    counts = numbers(frame, "n_stages")
    return int(np.nanmax(counts)) if np.isfinite(counts).any() else 0


def stage_numbers(frame: pd.DataFrame, metric: str) -> Floats:
    """`stage1_<metric>, stage2_<metric>, ...` as [rows, stages]; NaN beyond a row's stages."""
    import numpy as np

    columns = [numbers(frame, f"stage{k}_{metric}") for k in range(1, stage_count(frame) + 1)]
    return np.column_stack(columns) if columns else np.empty((len(frame), 0))


def total_of_stages(frame: pd.DataFrame, metric: str) -> Floats:
    """The sum over a row's stages; NaN where it has no stage, or one of them lacks the metric."""
    import numpy as np

    values = stage_numbers(frame, metric)
    known = np.isfinite(values).sum(axis=1)
    counts = numbers(frame, "n_stages")
    return np.where((known == counts) & (counts > 0), np.nansum(values, axis=1), np.nan)


def place(frame: pd.DataFrame, row: int) -> Place:
    """Where row number `row` belongs."""
    # Arrays, not `.iloc`: a bad run has a violation for every record.
    cell, round_, depth = (frame[column].to_numpy()[row] for column in ("cell", "round", "depth"))
    return Place(None if cell is None else str(cell), whole(round_), whole(depth))


def whole(value: object) -> int | None:
    """A whole number, None for null and NaN."""
    return int(value) if isinstance(value, int | float) and value == value else _numpy_whole(value)


def _numpy_whole(value: object) -> int | None:
    import numpy as np

    return int(value) if isinstance(value, np.integer) else None
