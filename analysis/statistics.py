"""Confidence over rounds: the round is the unit of repetition, so the interval is over rounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval `mean - half_width .. mean + half_width`."""

    mean: float
    half_width: float
    """NaN where `n` is 1: one value says nothing about its own spread."""
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's t-interval for the mean of `values` (Student, "The probable error of a mean", 1908).

    half_width = t(n - 1, (1 + confidence) / 2) * s / sqrt(n), with s the sample standard deviation.
    Without values everything is NaN; with one value the half width is. Raises ValueError on a value that is
    not finite: such a value is not a measurement and must not reach an average.
    """
    # scipy.stats.t.ppf is this function behind half a second of imports.
    from scipy.special import stdtrit

    n = len(values)
    if any(not math.isfinite(value) for value in values):
        raise ValueError(f"not finite: {list(values)}")
    if n == 0:
        return Interval(math.nan, math.nan, 0)
    mean = float(statistics.mean(values))
    if n == 1:
        return Interval(mean, math.nan, 1)
    quantile = float(stdtrit(n - 1, (1 + confidence) / 2))
    return Interval(mean, quantile * statistics.stdev(values) / math.sqrt(n), n)


@dataclass(frozen=True)
class Intervals:
    """An `Interval` per group: arrays with one entry each."""

    mean: NDArray[np.float64]
    """NaN where `n` is 0."""
    half_width: NDArray[np.float64]
    """NaN where `n` is below 2."""
    n: NDArray[np.int64]


def t_intervals(
    values: NDArray[np.float64], groups: NDArray[np.int64], n_groups: int, confidence: float = CONFIDENCE
) -> Intervals:
    """`t_interval` of every group at once; `groups` has the number (from 0) of each value's group.

    Values that are not finite were not measured and are left out.
    """
    import numpy as np
    from scipy.special import stdtrit

    known = np.isfinite(values)
    values, groups = values[known], groups[known]
    n = np.bincount(groups, minlength=n_groups)
    # Distances from the group's first value: equal values then have exactly that mean and no spread.
    first = np.full(n_groups, np.nan)
    first[groups[::-1]] = values[::-1]
    distances = values - first[groups]
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.bincount(groups, distances, n_groups) / n
        squares = np.bincount(groups, (distances - shift[groups]) ** 2, n_groups)
        half_width = stdtrit(np.maximum(n - 1, 1), (1 + confidence) / 2) * np.sqrt(squares / (n - 1) / n)
    return Intervals(first + shift, np.where(n > 1, half_width, np.nan), n)


@dataclass(frozen=True)
class Ratio:
    """A geometric mean of ratios with its two-sided confidence interval `low .. high`."""

    mean: float
    low: float
    """NaN, as `high`, where `n` is 1."""
    high: float
    n: int


def ratio_interval(log_ratios: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """Geometric mean of paired ratios and its interval, from their natural logarithms.

    The paired t-interval of the differences of the logs, taken back by exp: what is additive there is a ratio here
    (Bland and Altman, "The use of transformation when comparing two means", BMJ 312:1153, 1996). The geometric mean
    makes a/b the inverse of b/a (Fleming and Wallace, "How not to lie with statistics", CACM 29(3), 1986).
    Without values everything is NaN. Raises ValueError on a value that is not finite.
    """
    interval = t_interval(log_ratios, confidence)
    return Ratio(math.exp(interval.mean), _exp(interval.low), _exp(interval.high), interval.n)


def _exp(value: float) -> float:
    # With two rounds an interval can be wider than a float's range.
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
