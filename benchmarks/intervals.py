"""Middle values with 95 % intervals over blocks and rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from analysis.statistics import CONFIDENCE, t_interval


@dataclass(frozen=True)
class Middle:
    """A middle value with its two-sided 95 % interval; NaN ends where there are too few values for one."""

    value: float
    low: float
    high: float
    n: int


def median_interval(values: Sequence[float]) -> Middle:
    """The median with the interval between two order statistics that holds the true one in at least 95 %.

    Free of any assumption about the distribution: the number of values below the true median is binomial(n, 1/2)
    (W. R. Thompson, Annals of Mathematical Statistics 7, 1936). Below 6 values there is none.
    """
    ordered = sorted(values)
    n = len(ordered)
    rank, below = 0, 0.5**n  # rank of the lower end, counted from 1 (0: none), and P(binomial <= rank)
    while 2 * below <= 1 - CONFIDENCE:
        rank += 1
        below += math.comb(n, rank) * 0.5**n
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank else (math.nan, math.nan)
    return Middle(median(ordered), low, high, n)


def ratio_interval(ratios: Sequence[float]) -> Middle:
    """Geometric mean of paired ratios with Student's t-interval of their logarithms."""
    found = t_interval([math.log(ratio) for ratio in ratios])
    return Middle(math.exp(found.mean), math.exp(found.low), math.exp(found.high), found.n)
