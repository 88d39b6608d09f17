"""Which points no other point beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


def frontier_keys(by: str) -> list[str]:
    """The columns that tell one front from another."""
    return list(dict.fromkeys(["model", "profile", by]))
