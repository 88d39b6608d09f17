"""What another network does to a front: which points enter or leave it, what keeping the old choice costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.comparing.comparison import place_words
from analysis.fronts.indicators import epsilon_factor, hypervolume
from analysis.fronts.resampling import DRAWS
from analysis.networks.matching import MATCHED, LeftOut, Matching, match_points, with_granularity
from analysis.networks.side import Side, side_of
from analysis.objectives import Objective, columns_of, directions
from analysis.operating_points import HIGH, LOW
from analysis.statistics import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

STAYS, ENTERS, LEAVES, ON_NEITHER = "stays", "enters", "leaves", ""
BASELINE, OTHER = "baseline_", "other_"
"""Prefixes of the columns that a matched point has twice."""
_SHARED = ("model", "split", "split_name", "placement", "n_cuts", *MATCHED)


@dataclass(frozen=True)
class Estimate:
    """A figure of the means, with the 95 % interval of the draws; its ends are NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Shift:
    """One model under the baseline network and under another one."""

    model: str
    baseline: str
    other: str
    objectives: tuple[Objective, ...]
    reference: tuple[float, ...]
    """Of both hypervolumes; one value per objective, in its unit."""
    points: pd.DataFrame
    """One row per matched point, in the order of the run: model, cut, backend and so on; for both networks, with the
    prefixes `baseline_` and `other_`, `cell`, `rounds`, each objective with the ends of its 95 % t-interval,
    `on_frontier` and `membership` (the part of the draws in which it is on the front; NaN with one round); then
    `shift` (`stays`, `enters`, `leaves` or empty), and `regret` with the ends of its 95 % interval, which only
    points on one of the two fronts have.
    """
    epsilon: Estimate
    """How much worse the front under the other network is: `epsilon_factor` of it against the baseline's; NaN unless
    all values are above 0."""
    hypervolume_ratio: Estimate
    """Hypervolume under the other network divided by that under the baseline."""
    hypervolumes: tuple[float, float]
    """Under the baseline, under the other."""
    left_out: tuple[LeftOut, ...]
    unknown_depths: int
    """Matched points whose depth nobody recorded."""

    def count(self, shift: str) -> int:
        """How many operating points stay, enter or leave."""
        return int((self.points["shift"] == shift).sum())

    def cuts(self, shift: str) -> list[str]:
        """The cuts that stay, enter or leave: those of any operating point of the two fronts."""
        old, new = (self._cuts_of(side) for side in (BASELINE, OTHER))
        if shift == ENTERS:
            return [cut for cut in new if cut not in old]
        return [cut for cut in old if (cut in new) == (shift == STAYS)]

    def _cuts_of(self, side: str) -> list[str]:
        front = self.points[self.points[side + "on_frontier"]]
        words = zip(front["split"], front["placement"], strict=True)
        return list(dict.fromkeys(place_words(str(split), str(where)) for split, where in words))


@dataclass(frozen=True)
class Apart:
    """A model of which nothing was measured alike under both networks."""

    model: str
    baseline: str
    other: str
    left_out: tuple[LeftOut, ...]


def shift_networks(
    points: pd.DataFrame,
    frame: pd.DataFrame,
    baseline: str,
    others: Sequence[str],
    objectives: Sequence[Objective],
    references: Mapping[str, Sequence[float]],
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[list[Shift], list[Apart]]:
    """What each of the profiles `others` does to the front of each model under `baseline`.

    Only points measured under both compete (`match_points`); the fronts are of the means. Rounds of different
    networks are different passes, and their random means independent (`RoundMeans`). A point with one round has no
    spread: it competes with its mean, has no membership, and what depends on it has no interval.

    `points` are operating points with a column per objective, `frame` their records, `references` the reference of
    the hypervolumes per model. A model without a common point is in the second list instead of the first; one that
    was measured under neither network is in none.
    """
    points = with_granularity(points.reset_index(drop=True), frame)
    shifts: list[Shift] = []
    apart: list[Apart] = []
    for model in dict.fromkeys(points["model"]):
        of_model = points[points["model"] == model]
        for other in others:
            if not of_model["profile"].isin([baseline, other]).any():
                continue
            matching = match_points(of_model, baseline, other)
            if not matching.baseline:
                apart.append(Apart(str(model), baseline, other, matching.left_out))
                continue
            old, new = (
                side_of(points.loc[list(labels)], frame, objectives, draws, seed)
                for labels in (matching.baseline, matching.other)
            )
            reference = tuple(references[model])
            shifts.append(_shift(str(model), (baseline, other), matching, old, new, tuple(objectives), reference))
    return shifts, apart


def regrets(values: NDArray[np.float64], front: NDArray[np.float64], maximise: Sequence[bool]) -> NDArray[np.float64]:
    """The smallest factor by which each row of `values` must improve, in every objective at once, to join `front`.

    1 for a point of the front; otherwise the largest, over the front's points q, of the smallest ratio, over the
    objectives, of how much better q is: up to that factor q dominates the improved point. A point that ties in an
    objective with all points that dominate it has 1 too: any improvement is enough. NaN for a row with a value that
    is not above 0, and for all rows if the front has one.
    """
    import numpy as np

    found = np.full(len(values), math.nan)
    able = (values > 0).all(axis=1)
    if not len(front) or not (front > 0).all():
        return found
    signs = np.where(np.asarray(maximise, dtype=bool), 1.0, -1.0)
    mine = (np.log(values[able]) * signs).T.copy()
    worst = np.zeros(mine.shape[1])
    for point in np.log(front) * signs:
        np.maximum(worst, (point[:, None] - mine).min(axis=0), out=worst)
    found[able] = np.exp(worst)
    return found


def _shift(
    model: str,
    networks: tuple[str, str],
    matching: Matching,
    old: Side,
    new: Side,
    objectives: tuple[Objective, ...],
    reference: tuple[float, ...],
) -> Shift:
    maximise = directions(objectives)
    hypervolumes, ratio = _hypervolume_ratio(old, new, reference, maximise)
    return Shift(
        model=model,
        baseline=networks[0],
        other=networks[1],
        objectives=objectives,
        reference=reference,
        points=_table(old, new, objectives),
        epsilon=_epsilon(old, new, maximise),
        hypervolume_ratio=ratio,
        hypervolumes=hypervolumes,
        left_out=matching.left_out,
        unknown_depths=matching.unknown_depths,
    )


def _table(old: Side, new: Side, objectives: Sequence[Objective]) -> pd.DataFrame:
    import numpy as np

    table = old.rows[list(_SHARED)].reset_index(drop=True)
    for prefix, side in ((BASELINE, old), (OTHER, new)):
        for column in ("cell", "rounds"):
            table[prefix + column] = side.rows[column].to_numpy()
        for name in columns_of(objectives):
            for column in (name, name + LOW, name + HIGH):
                # What is set, not measured, has no interval.
                known = column in side.rows.columns
                table[prefix + column] = side.rows[column].to_numpy(dtype=float) if known else math.nan
        table[prefix + "on_frontier"] = side.front
        table[prefix + "membership"] = side.membership
    words = {(True, True): STAYS, (False, True): ENTERS, (True, False): LEAVES, (False, False): ON_NEITHER}
    table["shift"] = [words[bool(a), bool(b)] for a, b in zip(old.front, new.front, strict=True)]
    maximise = directions(objectives)
    table["regret"] = regrets(new.means, new.means[new.front], maximise)
    shown = np.flatnonzero(old.front | new.front)
    for suffix, ends in zip((LOW, HIGH), _regret_ends(new, shown, maximise), strict=True):
        of_all = np.full(len(table), math.nan)
        of_all[shown] = ends
        table["regret" + suffix] = of_all
    return table


def _regret_ends(side: Side, shown: NDArray[np.intp], maximise: Sequence[bool]) -> NDArray[np.float64]:
    """The ends [2, shown] of the 95 % intervals of the regrets of the points `shown`."""
    import numpy as np

    if not shown.size or not side.front_has_spread:
        return np.full((2, shown.size), math.nan)
    pairs = zip(side.for_ratios(shown), side.fronts_for_ratios(), strict=True)
    drawn = [regrets(values, front, maximise) for values, front in pairs]
    return np.where(side.spread[shown], _ends(np.array(drawn)), math.nan)


def _epsilon(old: Side, new: Side, maximise: Sequence[bool]) -> Estimate:
    import numpy as np

    before, after = (side.means[side.front] for side in (old, new))
    if not (len(before) and len(after) and (before > 0).all() and (after > 0).all()):
        return Estimate(math.nan)
    value = epsilon_factor(after, before, maximise)
    positive = all((side.means[side.able] > 0).all() for side in (old, new))
    if not (positive and old.front_has_spread and new.front_has_spread):
        return Estimate(value)
    pairs = zip(old.fronts_for_ratios(), new.fronts_for_ratios(), strict=True)
    low, high = _ends(np.array([epsilon_factor(after, before, maximise) for before, after in pairs]))
    return Estimate(value, float(low), float(high))


def _hypervolume_ratio(
    old: Side, new: Side, reference: Sequence[float], maximise: Sequence[bool]
) -> tuple[tuple[float, float], Estimate]:
    import numpy as np

    before, after = (hypervolume(side.means[side.front], reference, maximise) for side in (old, new))
    ratio = after / before if before > 0 else math.nan
    if math.isnan(ratio) or not (old.front_has_spread and new.front_has_spread):
        return (before, after), Estimate(ratio)
    first, second = (
        np.array([hypervolume(front, reference, maximise) for front in side.fronts()]) for side in (old, new)
    )
    # Where nothing of the baseline is better than the reference in a draw, the other network is infinitely better.
    ratios = np.divide(second, first, out=np.full(len(first), math.inf), where=first > 0)
    low, high = _ends(ratios)
    return (before, after), Estimate(ratio, float(low), float(high))


def _ends(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2.5 % and 97.5 % quantiles over the first axis; NaN where a draw is."""
    import numpy as np

    tail = (1 - CONFIDENCE) / 2
    ends: NDArray[np.float64] = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return ends
