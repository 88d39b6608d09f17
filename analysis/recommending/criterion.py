"""What an operating point must satisfy, and which of those that do is best. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

LATENCY, THROUGHPUT, NETWORK = "latency_s", "throughput_img_s", "bytes_per_batch"
DRAWN = (LATENCY, THROUGHPUT)
"""Columns whose means are uncertain; the bytes that cross follow from the cut and the batch."""
KNEE, WEIGHTS, BY_LATENCY, BY_THROUGHPUT, BARGAIN = "knee", "weights", "latency", "throughput", "bargain"
_TIE_BREAK = 1e-9
NEGLIGIBLE = 1e-6
"""A loss up to this is no more than the tie-break."""


@dataclass(frozen=True)
class Constraint:
    """A bound on a column of the operating points."""

    column: str
    limit: float
    at_most: bool

    def holds(self, values: Floats) -> Flags:
        """Which values keep the bound; one that is not a number keeps none."""
        return values <= self.limit if self.at_most else values >= self.limit

    def excess(self, values: Floats) -> Floats:
        """By which factor each value breaks the bound: 1 where it holds, infinite where no factor would help."""
        import numpy as np

        with np.errstate(divide="ignore", invalid="ignore"):
            factor = values / self.limit if self.at_most else self.limit / values
        factor = np.where(np.isfinite(factor) & (factor > 0), factor, np.inf)
        return np.where(self.holds(values), 1.0, factor)


def all_hold(constraints: Sequence[Constraint], points: pd.DataFrame) -> Flags:
    """Which operating points keep all bounds, by their means."""
    import numpy as np

    meets = np.ones(len(points), dtype=np.bool_)
    for constraint in constraints:
        meets &= constraint.holds(points[constraint.column].to_numpy(dtype=float))
    return meets


def all_hold_in_draws(constraints: Sequence[Constraint], points: pd.DataFrame, draws: Floats) -> Flags:
    """Which keep all bounds in each draw: [draws, points]; `draws` is [draws, points, DRAWN].

    A point that could not be drawn (NaN) keeps none, so it never competes.
    """
    import numpy as np

    meets = np.ones(draws.shape[:2], dtype=np.bool_)
    meets &= np.isfinite(draws).all(axis=2)
    for constraint in constraints:
        if constraint.column in DRAWN:
            meets &= constraint.holds(draws[:, :, DRAWN.index(constraint.column)])
        else:
            meets &= constraint.holds(points[constraint.column].to_numpy(dtype=float))
    return meets


@dataclass(frozen=True)
class Scale:
    """What latencies and throughputs are measured against; each array is [..., 1]."""

    best_latency_s: Floats
    best_throughput_img_s: Floats
    latency_span_s: Floats
    """From the best latency to that of the point with the best throughput."""
    throughput_span_img_s: Floats


@dataclass(frozen=True)
class Criterion:
    """How points that meet all constraints are ranked.

    `throughput`: more is better. `latency`: less is better. `weights`: the smallest weighted Chebyshev distance to the
    ideal (the best latency with the best throughput) of the logarithms of both ratios to it, so of factors (Steuer and
    Choo, Mathematical Programming 26:326, 1983). `knee`: the largest distance from the line through the ends of the
    front towards the ideal, both axes in units of the span between these ends (Das, Structural Optimization 18:107,
    1999). Equal points go to the higher throughput per latency, which is a rule of its own, too: `bargain`.
    """

    rule: str
    weights: tuple[float, float] = (1.0, 1.0)
    """Of latency and throughput; the larger one is 1."""

    @property
    def of_factors(self) -> bool:
        """Whether scores are logarithms of factors; the knee's are parts of the front's span."""
        return self.rule != KNEE

    def scale(self, latency_s: Floats, throughput_img_s: Floats, meets: Flags) -> Scale:
        """What the points [..., points] that meet the constraints span; without one it is not finite."""
        import numpy as np

        latency = np.where(meets, latency_s, np.inf)
        throughput = np.where(meets, throughput_img_s, -np.inf)
        low = latency.min(axis=-1, keepdims=True)
        high = throughput.max(axis=-1, keepdims=True)
        # The other ends of the front: what comes with the best latency, and with the best throughput.
        slow = np.where(throughput == high, latency, np.inf).min(axis=-1, keepdims=True)
        little = np.where(latency == low, throughput, -np.inf).max(axis=-1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return Scale(low, high, slow - low, high - little)

    def scores(self, latency_s: Floats, throughput_img_s: Floats, scale: Scale) -> Floats:
        """Less is better; [..., points]. Natural logarithms of factors, or parts of the span (see `of_factors`)."""
        import numpy as np

        slower, fewer = _factors(latency_s, throughput_img_s, scale)
        if self.rule == BY_THROUGHPUT:
            return fewer
        if self.rule == BY_LATENCY:
            return slower
        if self.rule == BARGAIN:
            return slower + fewer
        if self.rule == WEIGHTS:
            return np.maximum(self.weights[0] * slower, self.weights[1] * fewer)
        # One point that is best at both is the whole front: its own values are the unit then.
        latency_unit = np.where(scale.latency_span_s > 0, scale.latency_span_s, scale.best_latency_s)
        throughput_unit = np.where(
            scale.throughput_span_img_s > 0, scale.throughput_span_img_s, scale.best_throughput_img_s
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            x = (latency_s - scale.best_latency_s) / latency_unit
            y = (scale.best_throughput_img_s - throughput_img_s) / throughput_unit
        return np.asarray(x + y, dtype=np.float64)

    def losses(self, latency_s: Floats, throughput_img_s: Floats, meets: Flags) -> Floats:
        """How far each point [..., points] is behind the best of those that meet the constraints; infinite for others.

        0 for the best, but for a billionth of a tie-break: the smallest value is the choice. All infinite where no
        point meets them.
        """
        import numpy as np

        scale = self.scale(latency_s, throughput_img_s, meets)
        slower, fewer = _factors(latency_s, throughput_img_s, scale)
        with np.errstate(invalid="ignore"):
            scores = self.scores(latency_s, throughput_img_s, scale) + _TIE_BREAK * (slower + fewer)
            scores = np.where(meets, scores, np.inf)
            least = scores.min(axis=-1, keepdims=True)
            return np.where(meets, scores - np.where(np.isfinite(least), least, 0.0), np.inf)


def _factors(latency_s: Floats, throughput_img_s: Floats, scale: Scale) -> tuple[Floats, Floats]:
    """Logarithms of latency / best latency and of best throughput / throughput.

    Draws of means over two rounds have tails that reach below zero: they count as next to nothing, so that they stay
    the smallest.
    """
    import numpy as np

    tiny = np.finfo(np.float64).tiny
    with np.errstate(invalid="ignore"):
        slower = np.log(np.maximum(latency_s, tiny)) - np.log(np.maximum(scale.best_latency_s, tiny))
        fewer = np.log(np.maximum(scale.best_throughput_img_s, tiny)) - np.log(np.maximum(throughput_img_s, tiny))
    return slower, fewer
