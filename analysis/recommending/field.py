"""The operating points that compete under one network, judged by their means and by draws of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.operating_points import HIGH, LOW
from analysis.recommending.criterion import DRAWN, Constraint, Criterion, all_hold, all_hold_in_draws
from analysis.recommending.recommended_point import Identity, identities

if TYPE_CHECKING:
    import pandas as pd

    from analysis.recommending.criterion import Flags, Floats

_CROWD, _CONTENDERS = 2000, 500


@dataclass(frozen=True)
class Field:
    """The operating points that compete under one network."""

    profile: str
    points: pd.DataFrame
    """Those with a mean latency and throughput, labelled 0, 1, ..., with `meets`, `breaks` (columns of the constraints
    that it breaks, joined by `+`), `p_meets` and `p_best` (NaN where it was not drawn, or has one valid round) and
    `loss` (infinite where it breaks a constraint)."""
    identities: tuple[Identity, ...]
    meets: Flags
    """Which meet all constraints by their means."""
    drawn: tuple[int, ...]
    """The rows that `draws` is of."""
    draws: Floats
    """[draws, drawn, (latency_s, throughput_img_s)]; NaN where a point has one valid round."""

    def losses(self, rows: Sequence[int], criterion: Criterion) -> Floats:
        """`Criterion.losses` among these rows only."""
        latency, throughput = (self.points[column].to_numpy(dtype=float)[list(rows)] for column in DRAWN)
        return criterion.losses(latency, throughput, self.meets[list(rows)])


def one_per_deployment(points: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Without points of one stage that differ from another one in the backend only; and the backends of those.

    Nothing crosses a link there, so they are one thing measured twice. The socket's stays, or the first by name; one
    without a valid round never does where another has some.
    """
    order = points.assign(
        _twin=[str(pair) for pair in zip(points["profile"], identities(points), strict=True)],
        _unmeasured=points["rounds"] == 0,
        _later=points["backend"] != "socket",
    ).sort_values(["_unmeasured", "_later", "backend"], kind="stable")
    dropped = order.index[order["one_stage"] & order.duplicated("_twin")]
    return points.drop(index=dropped), tuple(sorted(set(points.loc[dropped, "backend"])))


def contest(
    profile: str,
    points: pd.DataFrame,
    frame: pd.DataFrame,
    constraints: Sequence[Constraint],
    criterion: Criterion,
    draws: int,
) -> Field:
    """Judge the operating points of one network; `frame` has their records.

    Where more than 2,000 compete, the 500 that are nearest to the best by their means are drawn, with the constraints
    judged at the kind ends of their intervals.
    """
    import numpy as np

    from analysis.fronts.resampling import resample_means

    known = np.isfinite(points[list(DRAWN)].to_numpy(dtype=float)).all(axis=1) & (points["rounds"] > 0).to_numpy()
    there = points[known].reset_index(drop=True)
    meets = all_hold(constraints, there)
    drawn = _contenders(there, constraints, criterion)
    of = there.iloc[drawn]
    means = resample_means(of, frame, list(DRAWN), draws=draws) if drawn else np.empty((draws, 0, len(DRAWN)))
    p_meets, p_best = np.full(len(there), math.nan), np.full(len(there), math.nan)
    if drawn:
        kept = all_hold_in_draws(constraints, of, means)
        losses = criterion.losses(means[:, :, 0], means[:, :, 1], kept)
        best = losses.argmin(axis=1)[kept.any(axis=1)]
        repeated = np.isfinite(means).all(axis=(0, 2))
        p_meets[drawn] = np.where(repeated, kept.mean(axis=0), math.nan)
        p_best[drawn] = np.where(repeated, np.bincount(best, minlength=len(drawn)) / draws, math.nan)
    names = [constraint.column for constraint in constraints]
    broken = [~constraint.holds(there[constraint.column].to_numpy(dtype=float)) for constraint in constraints]
    breaks = ["+".join(name for name, flags in zip(names, broken, strict=True) if flags[i]) for i in range(len(there))]
    latency, throughput = (there[column].to_numpy(dtype=float) for column in DRAWN)
    loss = criterion.losses(latency, throughput, meets) if len(there) else np.empty(0)
    there = there.assign(meets=meets, breaks=breaks, p_meets=p_meets, p_best=p_best, loss=loss)
    return Field(profile, there, tuple(identities(there)), meets, tuple(drawn), means)


def _contenders(points: pd.DataFrame, constraints: Sequence[Constraint], criterion: Criterion) -> list[int]:
    """Rows to draw: all, or of very many the nearest to the best, constraints judged kindly."""
    import numpy as np

    if len(points) <= _CROWD:
        return list(range(len(points)))
    kind = points.assign(**{c.column: _kind_end(points, c) for c in constraints if c.column in DRAWN})
    latency, throughput = (points[column].to_numpy(dtype=float) for column in DRAWN)
    losses = criterion.losses(latency, throughput, all_hold(constraints, kind))
    return sorted(int(row) for row in np.argsort(losses, kind="stable")[:_CONTENDERS])


def _kind_end(points: pd.DataFrame, constraint: Constraint) -> Floats:
    end = points[constraint.column + (LOW if constraint.at_most else HIGH)]
    kind: Floats = end.fillna(points[constraint.column]).to_numpy(dtype=float)
    return kind
