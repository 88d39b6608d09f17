"""Which points no other point beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

OBJECTIVES = ("latency_s", "throughput_img_s")
MAXIMISE = (False, True)


def nondominated(values: NDArray[np.float64], maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Which rows of `values` [points, objectives] no other row dominates; one bool per row.

    A row dominates another if it is at least as good in every objective and better in one; so ties and duplicates
    on the front are all on it. A row with a value that is not finite is never on the front and evicts nobody.
    Raises ValueError if `maximise` has not one entry per objective.
    """
    import moocore
    import numpy as np

    if values.ndim != 2 or values.shape[1] != len(maximise):
        raise ValueError(f"values of shape {values.shape} need {values.shape[-1]} directions, got {len(maximise)}")
    front = np.zeros(len(values), dtype=np.bool_)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    if finite.size:
        front[finite] = moocore.is_nondominated(values[finite], maximise=list(maximise), keep_weakly=True)
    return front


def mark_frontier(points: pd.DataFrame, by: str) -> pd.DataFrame:
    """`points` with a column `on_frontier`: the front per model, profile and value of `by`, of the mean values.

    Profiles are never mixed in one front, whatever `by` is: the network is a condition, not a choice.
    Points without a valid round are on no front.
    """
    keys = frontier_keys(by)
    marked = points.copy()
    marked.insert(list(marked.columns).index("note") + 1, "on_frontier", False)
    for _, group in points.groupby(keys, sort=False):
        values = group[list(OBJECTIVES)].to_numpy(dtype=float)
        marked.loc[group.index, "on_frontier"] = nondominated(values, MAXIMISE)
    return marked


def frontier_keys(by: str) -> list[str]:
    """The columns that tell one front from another."""
    return list(dict.fromkeys(["model", "profile", by]))
