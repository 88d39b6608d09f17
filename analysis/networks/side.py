"""Operating points of one network that compete, their front, and the fronts of their random means. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.fronts.dominance import nondominated
from analysis.fronts.resampling import RoundMeans
from analysis.objectives import Objective, columns_of, directions, numeric

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_LEAST_PART = 1e-6


@dataclass(frozen=True)
class Side:
    """Operating points under one network."""

    rows: pd.DataFrame
    means: NDArray[np.float64]
    """[points, objectives]."""
    front: NDArray[np.bool_]
    """[points], of the means."""
    spread: NDArray[np.bool_]
    """[points]: whether it has a spread, so two valid rounds or more."""
    sample: RoundMeans
    draws: int
    able: NDArray[np.intp]
    """Positions of the points that may be on the front of a draw; the others never are."""
    drawn: NDArray[np.float64]
    """Random means [draws, able, objectives]; the mean itself where there is no spread."""
    drawn_fronts: NDArray[np.bool_]
    """[draws, able]."""

    @property
    def front_has_spread(self) -> bool:
        """Whether all points of the front have one; without it what is computed of the front has no interval."""
        return bool(self.spread[self.front].all())

    @property
    def membership(self) -> NDArray[np.float64]:
        """The part of the draws in which each point is on the front; NaN where it has no spread."""
        import numpy as np

        found = np.zeros(len(self.means))
        found[self.able] = self.drawn_fronts.mean(axis=0)
        return np.where(self.spread, found, math.nan)

    def fronts(self) -> Iterator[NDArray[np.float64]]:
        """The values [points, objectives] of the front of each draw."""
        for values, front in zip(self.drawn, self.drawn_fronts, strict=True):
            yield values[front]

    def fronts_for_ratios(self) -> Iterator[NDArray[np.float64]]:
        """As `fronts`, kept above zero as `for_ratios` does."""
        least = _LEAST_PART * self.means[self.able]
        for values, front in zip(self.drawn, self.drawn_fronts, strict=True):
            yield _not_below(values[front], least[front])

    def for_ratios(self, which: NDArray[np.intp]) -> NDArray[np.float64]:
        """Random means [draws, which, objectives] of the points at these positions, kept above zero.

        With two or three rounds Student's t reaches below zero, where there are no ratios. A draw is not below a
        millionth of the mean: a ratio of that lies outside any interval, unless such draws are more than 2.5 %.
        """
        drawn = _filled(self.sample.block(which, 0, self.draws), self.means[which])
        return _not_below(drawn, _LEAST_PART * self.means[which])


def side_of(rows: pd.DataFrame, frame: pd.DataFrame, objectives: Sequence[Objective], draws: int, seed: int) -> Side:
    """The Side of the operating points `rows`, which have a column per objective, and their records `frame`."""
    import numpy as np

    columns, maximise = columns_of(objectives), directions(objectives)
    means = numeric(rows, columns)
    sample = RoundMeans.of(rows, frame, columns, draws, seed)
    low, high = sample.bounds()
    able = np.flatnonzero(_able(low, high, maximise))
    drawn = _filled(sample.block(able, 0, draws), means[able])
    fronts = np.zeros(drawn.shape[:2], dtype=np.bool_)
    for number, values in enumerate(drawn):
        fronts[number] = nondominated(values, maximise)
    spread = np.asarray((sample.counts >= 2).all(axis=1))
    return Side(rows, means, nondominated(means, maximise), spread, sample, draws, able, drawn, fronts)


def _filled(drawn: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.where(np.isnan(drawn), means, drawn)


def _not_below(values: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.maximum(values, least)


def _able(low: NDArray[np.float64], high: NDArray[np.float64], maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Points whose best is not beaten by the worst of another one, given bounds [points, objectives] of all draws.

    Exact: each of the others is dominated in every draw by one that is kept. Of thousands of points few are left.
    """
    import numpy as np

    up = np.asarray(maximise, dtype=bool)
    best, worst = np.where(up, high, -low), np.where(up, low, -high)
    able = np.asarray(np.isfinite(best).all(axis=1))
    for corner in worst[nondominated(worst, [True] * len(up))]:
        able &= ~(corner > best).all(axis=1)
    return able
