"""Fronts with what is not sure about them: who is on them, where they run, how much they cover. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.fronts.dominance import frontier_keys, nondominated
from analysis.fronts.indicators import (
    default_reference,
    dominance_ranks,
    hypervolume,
    knee_points,
    utopia_distances,
)
from analysis.fronts.resampling import DRAWS, RoundMeans
from analysis.objectives import DEFAULT_OBJECTIVES, Objective, columns_of, directions, numeric

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MARKS = ("on_frontier", "membership", "dominance_rank", "utopia_distance", "knee")
"""The columns that `mark_fronts` adds, in order."""
ATTAINED_PCT = (97.5, 50.0, 2.5)
"""In how many of the draws the low, median and high line of an `Attainment` are attained."""
_DRAWS_AT_ONCE = 100
_RIVALS = 512
_HALF_OF_REST = 0.025


@dataclass(frozen=True)
class Attainment:
    """Where a front of two objectives runs: staircases [k, 2] in the units of the data, the first objective ascending.

    A place is attained in a draw if a point of the draw's front is at least as good in both objectives. `low` bounds
    what is attained in 97.5 % of the draws, `median` in 50 %, `high` in 2.5 % (Grunert da Fonseca, Fonseca and Hall,
    "Inferential performance assessment of stochastic optimisers and the attainment function", EMO 2001).
    """

    low: NDArray[np.float64]
    median: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Front:
    """One front: all operating points that compete, and what is known of the best of them."""

    key: dict[str, str]
    """`model`, `profile` and the column that fronts are told apart by."""
    objectives: tuple[Objective, ...]
    index: list[int]
    """Labels in `Fronts.points` of all points that compete, the dominated and the invalid too."""
    reference: tuple[float, ...]
    """What the hypervolume is measured against: one per model. NaN where nothing is valid."""
    reference_words: str
    hypervolume: float
    """Of the means; NaN without a valid point."""
    hypervolume_low: float
    """Between this and `hypervolume_high` lie 95 % of the draws' hypervolumes; NaN where no point has two rounds."""
    hypervolume_high: float
    attainment: Attainment | None
    """None unless there are two objectives and a point with two rounds."""


@dataclass(frozen=True)
class Fronts:
    """All fronts of a run."""

    points: pd.DataFrame
    """The operating points with `MARKS`: `on_frontier` (bool), `membership` (share of draws in which the point is on
    the front, NaN with fewer than two rounds), `dominance_rank` (1: the front; NaN: not ranked), `utopia_distance`
    and `knee` (bool)."""
    fronts: tuple[Front, ...]
    draws: int


def mark_fronts(
    points: pd.DataFrame,
    frame: pd.DataFrame,
    by: str = "profile",
    objectives: Sequence[Objective] = DEFAULT_OBJECTIVES,
    reference: Sequence[float] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Fronts:
    """The front per model, profile and value of `by`, of the mean values and of `draws` random means.

    `points` are operating points with the objectives' columns, `frame` the records that they are means of. Profiles
    are never mixed in one front: the network is a condition, not a choice. A point that lacks an objective is on no
    front and evicts nobody. One with a single valid round has no membership of its own; in the draws of the others
    it stands at its value. `reference` replaces the default of `indicators.default_reference`, which is taken over
    all valid points of a model, so that its fronts compare. Raises ValueError with fewer than two objectives or where
    the reference has not one value per objective.
    """
    import numpy as np

    objectives = tuple(objectives)
    if len(objectives) < 2:
        raise ValueError("a front needs two objectives or more")
    if reference is not None and len(reference) != len(objectives):
        raise ValueError(f"a reference of {len(reference)} values for {len(objectives)} objectives")
    columns, maximise = columns_of(objectives), directions(objectives)
    values = numeric(points, columns)
    sample = RoundMeans.of(points, frame, columns, draws, seed)
    low, high = sample.bounds()
    marked = _Marks.empty(len(points))
    fronts = []
    keys = frontier_keys(by)
    grouping = points.groupby(keys, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    models = points["model"].to_numpy(dtype=object)
    for number in range(int(grouping.max(initial=-1)) + 1):
        rows = np.flatnonzero(grouping == number)
        first = points.iloc[int(rows[0])]
        of_model = values[models == first["model"]]
        place, words = default_reference(of_model, objectives) if reference is None else _given(reference, objectives)
        competing = rows[np.isfinite(values[rows]).all(axis=1)]
        marked.mark(competing, values[competing], maximise)
        over = _over_draws(sample, competing, (low, high), maximise, place, draws)
        marked.membership[competing] = over.membership
        fronts.append(
            Front(
                key={key: str(first[key]) for key in keys},
                objectives=objectives,
                index=points.index[rows].tolist(),
                reference=place,
                reference_words=words,
                hypervolume=hypervolume(values[competing], place, maximise) if competing.size else math.nan,
                hypervolume_low=over.hypervolume_low,
                hypervolume_high=over.hypervolume_high,
                attainment=over.attainment,
            )
        )
    return Fronts(_with_marks(points, marked), tuple(fronts), draws)


@dataclass(frozen=True)
class _Marks:
    on_frontier: NDArray[np.bool_]
    membership: NDArray[np.float64]
    dominance_rank: NDArray[np.float64]
    utopia_distance: NDArray[np.float64]
    knee: NDArray[np.bool_]

    @classmethod
    def empty(cls, n: int) -> _Marks:
        import numpy as np

        no, unknown = np.zeros(n, dtype=np.bool_), np.full(n, np.nan)
        return cls(no, unknown, unknown.copy(), unknown.copy(), no.copy())

    def mark(self, rows: NDArray[np.intp], values: NDArray[np.float64], maximise: Sequence[bool]) -> None:
        """What the means alone say of points that all have a value of every objective."""
        self.on_frontier[rows] = front = nondominated(values, maximise)
        self.dominance_rank[rows] = dominance_ranks(values, maximise)
        self.utopia_distance[rows] = utopia_distances(values, front, maximise)
        self.knee[rows] = knee_points(values, front, maximise)


def _with_marks(points: pd.DataFrame, marks: _Marks) -> pd.DataFrame:
    import pandas as pd

    rest = points.drop(columns=[column for column in MARKS if column in points.columns])
    added = pd.DataFrame({name: getattr(marks, name) for name in MARKS}, index=points.index)
    place = list(rest.columns).index("note") + 1
    return pd.concat([rest.iloc[:, :place], added, rest.iloc[:, place:]], axis=1)


def _given(reference: Sequence[float], objectives: Sequence[Objective]) -> tuple[tuple[float, ...], str]:
    values = tuple(float(value) for value in reference)
    named = (f"{o.column} {value:g}" for o, value in zip(objectives, values, strict=True))
    return values, ", ".join(named) + " (given)"


@dataclass(frozen=True)
class _OverDraws:
    membership: NDArray[np.float64]
    hypervolume_low: float
    hypervolume_high: float
    attainment: Attainment | None


def _over_draws(
    sample: RoundMeans,
    rows: NDArray[np.intp],
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
    maximise: Sequence[bool],
    reference: Sequence[float],
    draws: int,
) -> _OverDraws:
    """What the draws say of the points at `rows`, which all have a value of every objective."""
    import moocore
    import numpy as np

    known: NDArray[np.bool_] = np.logical_and.reduce(sample.counts[rows] >= 2, axis=1)
    membership = np.where(known, 0.0, np.nan)
    if not known.any():
        return _OverDraws(membership, math.nan, math.nan, None)
    sign = np.where(np.asarray(maximise), -1.0, 1.0)
    nadir = (np.asarray(reference) * sign).tolist()

    def blocks(places: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
        """Draws of the points at `places` among `rows`, [draws, places, objectives], less is better."""
        for start in range(0, draws, _DRAWS_AT_ONCE):
            block = sample.block(rows[places], start, min(draws, start + _DRAWS_AT_ONCE))
            yield np.where(np.isnan(block), sample.means[rows[places]], block) * sign

    # First by what no draw can exceed, then by what these draws are.
    hopeful = np.flatnonzero(~_never_on_front(bounds[0][rows], bounds[1][rows], maximise))
    extremes = [(block.min(axis=0), block.max(axis=0)) for block in blocks(hopeful)]
    low, high = np.min([least for least, _ in extremes], axis=0), np.max([most for _, most in extremes], axis=0)
    hopeful = hopeful[~_never_on_front(low, high, [False] * len(maximise))]
    times = np.zeros(len(hopeful))
    volumes, lines = [], []
    for block in blocks(hopeful):
        for values in block:
            # All are finite, so this is `nondominated` and `hypervolume` without their checks, which take longer.
            front = moocore.is_nondominated(values, keep_weakly=True)
            times += front
            lines.append(values[front])
            volumes.append(moocore.hypervolume(lines[-1], ref=nadir))
    membership[hopeful] = np.where(known[hopeful], times / draws, np.nan)
    ends = np.quantile(volumes, [_HALF_OF_REST, 1 - _HALF_OF_REST])
    return _OverDraws(membership, float(ends[0]), float(ends[1]), _attainment(lines, sign) if len(sign) == 2 else None)


def _never_on_front(low: NDArray[np.float64], high: NDArray[np.float64], maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Points that another one dominates in every draw: its worst dominates their best. [points]"""
    import numpy as np

    up = np.asarray(maximise)
    best: NDArray[np.float64] = np.where(up, -high, low)
    worst: NDArray[np.float64] = np.where(up, -low, high)
    # A part of the rivals is enough: fewer points are left out then, never a wrong one.
    rivals: NDArray[np.float64] = np.unique(worst[nondominated(worst, [False] * len(maximise))], axis=0)
    rivals = rivals[np.linspace(0, len(rivals) - 1, min(len(rivals), _RIVALS)).astype(int)]
    never = np.zeros(len(best), dtype=np.bool_)
    for rival in rivals:
        never |= (rival <= best).all(axis=1) & (rival < best).any(axis=1)
    return never


def _attainment(lines: Sequence[NDArray[np.float64]], sign: NDArray[np.float64]) -> Attainment:
    """What the fronts of the draws attain together; theirs are multiplied by `sign`, so that less is better."""
    import moocore
    import numpy as np

    # The rows of a set must stand together.
    sets = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    found = moocore.eaf(np.concatenate(lines), sets, percentiles=sorted(ATTAINED_PCT))
    low, median, high = (found[np.isclose(found[:, 2], percent)][:, :2] * sign for percent in ATTAINED_PCT)
    return Attainment(*(line[np.lexsort((line[:, 1], line[:, 0]))] for line in (low, median, high)))
