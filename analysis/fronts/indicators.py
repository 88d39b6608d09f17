"""Numbers that say how good a front is, and which of its points stand out. Pure; `values` are [points, objectives]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.objectives import Objective

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REFERENCE_FACTOR = 1.1
_MARGIN = 0.1
_ROUNDING = 1e-12
"""Distances in parts of the front's span are equal if they differ by less."""


def hypervolume(values: NDArray[np.float64], reference: Sequence[float], maximise: Sequence[bool]) -> float:
    """The volume between the front of `values` and `reference`, in the product of the objectives' units.

    Zitzler and Thiele, "Multiobjective evolutionary algorithms: a comparative case study and the strength Pareto
    approach", IEEE Trans. Evolutionary Computation 3(4), 1999. Points that are not better than the reference in
    every objective, or not finite, add nothing.
    """
    import moocore
    import numpy as np

    up = np.asarray(maximise)
    better = np.where(up, values > np.asarray(reference), values < np.asarray(reference)).all(axis=1)
    inside = values[better & np.isfinite(values).all(axis=1)]
    if not len(inside):
        return 0.0
    return float(moocore.hypervolume(inside, ref=list(reference), maximise=list(maximise)))


def default_reference(values: NDArray[np.float64], objectives: Sequence[Objective]) -> tuple[tuple[float, ...], str]:
    """A reference point that all rows with a value of every objective are better than, and the rule in words.

    Per objective: 1.1 x the worst value where it is minimised and that is above 0; 0 where it is maximised and no
    value is below 0; otherwise the worst value and a tenth of the span beyond it. NaN without such a row.
    """
    import numpy as np

    whole = values[np.isfinite(values).all(axis=1)]
    if not len(whole):
        return (math.nan,) * len(objectives), "none: no valid point"
    place, words = [], []
    for column, objective in zip(whole.T, objectives, strict=True):
        least, most = float(column.min()), float(column.max())
        if objective.maximise and least >= 0:
            value, rule = 0.0, ""
        elif not objective.maximise and most > 0:
            value, rule = REFERENCE_FACTOR * most, f" ({REFERENCE_FACTOR:g} x the worst)"
        else:
            beyond = _MARGIN * (most - least)
            value = least - beyond if objective.maximise else most + beyond
            rule = " (the worst and a tenth of the span)"
        place.append(value)
        words.append(f"{objective.column} {value:.4g}{rule}")
    return tuple(place), ", ".join(words)


def dominance_ranks(values: NDArray[np.float64], maximise: Sequence[bool]) -> NDArray[np.float64]:
    """1 for the front, 2 for the front of what is left without it, and so on; NaN for a row that is not finite.

    Nondominated sorting: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Trans.
    Evolutionary Computation 6(2), 2002.
    """
    import moocore
    import numpy as np

    ranks = np.full(len(values), np.nan)
    finite = np.isfinite(values).all(axis=1)
    if finite.any():
        ranks[finite] = moocore.pareto_rank(values[finite], maximise=list(maximise)) + 1.0
    return ranks


def utopia_distances(
    values: NDArray[np.float64], front: NDArray[np.bool_], maximise: Sequence[bool]
) -> NDArray[np.float64]:
    """Euclidean distance of each row to the ideal point, which has the best value of the front in every objective.

    Each objective is divided by what the `front` (one bool per row) spans of it: 0 is the ideal, 1 the front's worst.
    Zeleny, "Compromise programming", in Cochrane and Zeleny (eds.), Multiple Criteria Decision Making, 1973. A row
    off the ideal in an objective of which the front has one value only has no distance (NaN).
    """
    import numpy as np

    losses = normalised_losses(values, front, maximise)
    distances: NDArray[np.float64] = np.sqrt((losses**2).sum(axis=1))
    return distances


def knee_points(values: NDArray[np.float64], front: NDArray[np.bool_], maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Which row of the front is its knee: the one furthest, towards the ideal, from the plane through the extremes.

    Distances are taken after normalisation as in `utopia_distances`, from the plane on which the normalised losses
    add up to 1; with two objectives that is the line through the front's ends (Das, "On characterizing the 'knee' of
    the Pareto curve based on Normal-Boundary Intersection", Structural Optimization 18, 1999). No row where none lies
    between plane and ideal, so with fewer than three places on the front; several where they are equally far, but for
    rounding.
    """
    import numpy as np

    knees = np.zeros(len(values), dtype=np.bool_)
    rows = np.flatnonzero(front)
    if not len(rows):
        return knees
    losses = normalised_losses(values, front, maximise)[rows]
    if (losses == 0).all(axis=0).any():
        # The front has one value of an objective: there is nothing to trade.
        return knees
    depths = (1 - losses.sum(axis=1)) / math.sqrt(values.shape[1])
    deepest = depths.max()
    if deepest > _ROUNDING:
        knees[rows[depths >= deepest - _ROUNDING]] = True
    return knees


def normalised_losses(
    values: NDArray[np.float64], front: NDArray[np.bool_], maximise: Sequence[bool]
) -> NDArray[np.float64]:
    """Per row and objective how far it is from the front's best, in units of the front's span: less is better.

    0 at the best, 1 at the front's worst; where the front has one value only, 0 at it and NaN elsewhere.
    """
    import numpy as np

    signed = np.where(np.asarray(maximise), -values, values)
    if not front.any():
        return np.full_like(signed, np.nan)
    best, worst = signed[front].min(axis=0), signed[front].max(axis=0)
    span = worst - best
    losses = (signed - best) / np.where(span > 0, span, np.nan)
    normalised: NDArray[np.float64] = np.where((span == 0) & (signed == best), 0.0, losses)
    return normalised


def epsilon_factor(values: NDArray[np.float64], others: NDArray[np.float64], maximise: Sequence[bool]) -> float:
    """By which factor `values` must improve in every objective to be as good as `others` everywhere; 1 where they are.

    The multiplicative epsilon indicator: the largest, over the rows of `others`, of the smallest, over `values`, of
    the largest factor by which an objective falls behind. Below 1 where `values` are better throughout. Zitzler,
    Thiele, Laumanns, Fonseca and Grunert da Fonseca, "Performance assessment of multiobjective optimizers", IEEE
    Trans. Evolutionary Computation 7(2), 2003. Raises ValueError unless all values are above 0 and both have a row.
    """
    import moocore
    import numpy as np

    for rows in (values, others):
        if not len(rows) or not (np.isfinite(rows).all() and (rows > 0).all()):
            raise ValueError("an epsilon factor needs values above 0")
    return float(moocore.epsilon_mult(values, ref=others, maximise=list(maximise)))
