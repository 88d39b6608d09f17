"""Whether rounds tell two operating points apart, and how many would. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.recommending.criterion import Criterion, Scale
from analysis.statistics import CONFIDENCE, Interval, t_interval

if TYPE_CHECKING:
    from analysis.recommending.criterion import Floats

POWER = 0.8
MOST_ROUNDS = 100
PRACTICAL = 0.05
"""What counts as equal in practice: 5 %, or 5 % of the front's span."""


@dataclass(frozen=True)
class Apart:
    """Two operating points compared in the rounds that are valid in both."""

    difference: Interval
    """Of the scores, second minus first: above 0 the first is better. Logarithms of a factor, or parts of the span."""
    criterion: Criterion
    """Whose scores they are."""
    rounds_needed: int | None
    """Rounds that would tell them apart if the difference is as observed; None if more than MOST_ROUNDS."""
    rounds_to_narrow: int | None
    """Rounds after which the interval is no wider than ± PRACTICAL; None if more than MOST_ROUNDS."""

    @property
    def known(self) -> bool:
        """Whether there is an interval: two rounds or more."""
        return self.difference.n > 1

    @property
    def told_apart(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.known and not self.difference.low <= 0 <= self.difference.high

    @property
    def equal_in_practice(self) -> bool:
        """Whether the whole interval is within ± PRACTICAL."""
        return self.known and max(abs(self.difference.low), abs(self.difference.high)) <= practical(
            self.criterion.of_factors
        )

    @property
    def worth_measuring(self) -> int | None:
        """Rounds of a run that would settle it; None if nothing is open or no number up to MOST_ROUNDS would.

        That is `rounds_needed`, or where these are too many and the two may yet differ in practice `rounds_to_narrow`.
        """
        if not self.known or self.told_apart:
            return None
        return self.rounds_needed or (None if self.equal_in_practice else self.rounds_to_narrow)


def practical(of_factors: bool) -> float:
    """PRACTICAL in units of scores: as the logarithm of a factor, or as it is."""
    return math.log1p(PRACTICAL) if of_factors else PRACTICAL


def tell_apart(
    first: Mapping[int, tuple[float, float]],
    second: Mapping[int, tuple[float, float]],
    criterion: Criterion,
    scale: Scale,
) -> Apart:
    """Compare two points from their valid rounds: round -> (latency_s, throughput_img_s).

    A round is one pass over all cells under a network, so what was slow in it was slow for both: the interval is the
    paired t-interval of the differences of the scores, `scale` being held fixed.
    """
    import numpy as np

    both = sorted(first.keys() & second.keys())
    scores = []
    for rounds in (first, second):
        values = np.array([rounds[number] for number in both], dtype=float).reshape(-1, 2)
        scores.append(criterion.scores(values[:, 0], values[:, 1], scale))
    differences = [float(value) for value in scores[1] - scores[0]]
    interval = t_interval(differences)
    sd = float(np.std(differences, ddof=1)) if len(differences) > 1 else float("nan")
    return Apart(
        interval,
        criterion,
        rounds_for_power(interval.mean, sd),
        rounds_for_width(practical(criterion.of_factors), sd),
    )


def rounds_for_power(difference: float, sd: float, power: float = POWER, most: int = MOST_ROUNDS) -> int | None:
    """Pairs of rounds after which a t-test tells `difference` from 0 with probability `power`; None if above `most`.

    The smallest n with n >= (sd / difference)^2 (t(n - 1, 0.975) + t(n - 1, power))^2, sd being that of the paired
    differences (Zar, "Biostatistical Analysis": sample size for a test of a mean). It takes the observed difference
    for the true one.
    """
    if not abs(difference) > 0:
        return None
    return _fewest(lambda both, one: (both + one) * sd / abs(difference), power, most)


def rounds_for_width(half_width: float, sd: float, most: int = MOST_ROUNDS) -> int | None:
    """Pairs of rounds whose 95 % t-interval is no wider than ± `half_width`; None if above `most`.

    The smallest n with t(n - 1, 0.975) sd / sqrt(n) <= half_width, the sd being taken as it was observed.
    """
    return _fewest(lambda both, _: both * sd / half_width, POWER, most)


def _fewest(root: Callable[[Floats, Floats], Floats], power: float, most: int) -> int | None:
    """The smallest n from 2 with sqrt(n) >= root(two-sided quantile, quantile of the power)."""
    import numpy as np
    from scipy.special import stdtrit

    rounds = np.arange(2, most + 1)
    both, one = (np.asarray(stdtrit(rounds - 1, part), dtype=np.float64) for part in ((1 + CONFIDENCE) / 2, power))
    enough = np.sqrt(rounds) >= root(both, one)
    return int(rounds[enough][0]) if enough.any() else None
