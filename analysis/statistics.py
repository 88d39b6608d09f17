"""Confidence over rounds: the round is the unit of repetition, so the interval is over rounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

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
