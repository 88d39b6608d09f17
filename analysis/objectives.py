"""What a front is of: columns, and which way is better."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Objective:
    """A column, and which way is better."""

    column: str
    maximise: bool

    @property
    def words(self) -> str:
        """`less latency_s`."""
        return f"{'more' if self.maximise else 'less'} {self.column}"


LATENCY = Objective("latency_s", False)
THROUGHPUT = Objective("throughput_img_s", True)
DEFAULT_OBJECTIVES = (LATENCY, THROUGHPUT)


def columns_of(objectives: Iterable[Objective]) -> list[str]:
    """Their columns, in order."""
    return [objective.column for objective in objectives]


def directions(objectives: Iterable[Objective]) -> list[bool]:
    """True per objective that is maximised."""
    return [objective.maximise for objective in objectives]


def numeric(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """The columns as floats [rows, columns]; NaN where there is no finite number."""
    import numpy as np
    import pandas as pd

    values = np.empty((len(frame), len(columns)))
    for place, column in enumerate(columns):
        values[:, place] = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def suggestion(column: str, known: Sequence[str]) -> str:
    """`did you mean 'latency_s'?`, or all `known` columns where none is close."""
    folded = {name.casefold(): name for name in known}
    close = [folded[name] for name in difflib.get_close_matches(column.casefold(), folded, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"the columns are {', '.join(known)}"
