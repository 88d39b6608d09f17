"""Two means of samples that are not paired and may scatter differently (Welch 1947), for many pairs at once. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.statistics import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FALSE_DISCOVERIES = 0.05
"""Expected share, of the differences that are called one, that are none."""


@dataclass(frozen=True)
class Moments:
    """Mean, sample variance and number of values of each sample; a variance is NaN below two values."""

    mean: Floats
    variance: Floats
    n: Floats


@dataclass(frozen=True)
class Welch:
    """Second mean minus first, with what is needed to judge it; NaN where a sample has fewer than two values."""

    difference: Floats
    error: Floats
    """Standard error of the difference."""
    freedom: Floats
    """Degrees of freedom by Welch and Satterthwaite."""

    @property
    def half_width(self) -> Floats:
        """Half the 95 % interval of the difference."""
        from scipy.special import stdtrit

        half: Floats = stdtrit(self.freedom, (1 + CONFIDENCE) / 2) * self.error
        return half

    def p_above(self, limit: float) -> Floats:
        """p of one-sided tests: how likely so large a difference would be if it were `limit` in truth."""
        return self._p(limit - self.difference)

    def p_differs(self) -> Floats:
        """p of two-sided tests against no difference."""
        return 2 * self._p(-abs(self.difference))

    def _p(self, distance: Floats) -> Floats:
        import numpy as np
        from scipy.special import stdtr

        with np.errstate(divide="ignore", invalid="ignore"):
            # Without any scatter (declared times) a difference is sure, and none is none.
            quantile = np.where((self.error == 0) & (distance == 0), 0.0, distance / self.error)
        p: Floats = stdtr(self.freedom, quantile)
        return p


def welch(first: Moments, second: Moments) -> Welch:
    """Difference of two means (Welch, "The generalization of 'Student's' problem ...", Biometrika 34:28, 1947).

    error² = s1²/n1 + s2²/n2; freedom = error⁴ / (s1⁴/(n1² (n1 - 1)) + s2⁴/(n2² (n2 - 1))) (Satterthwaite, Biometrics
    Bulletin 2:110, 1946); without any scatter n1 + n2 - 2.
    """
    import numpy as np

    of_first, of_second = first.variance / first.n, second.variance / second.n
    squared = of_first + of_second
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = squared**2 / (of_first**2 / (first.n - 1) + of_second**2 / (second.n - 1))
    freedom = np.where(squared == 0, first.n + second.n - 2, freedom)
    return Welch(second.mean - first.mean, np.sqrt(squared), freedom)


def adjusted(p: Floats) -> Floats:
    """p-values adjusted for their number (Benjamini and Hochberg, J. R. Statist. Soc. B 57:289, 1995); NaN stays NaN.

    Of those below `FALSE_DISCOVERIES` no larger share is expected to be false, for tests that are independent or depend
    positively on each other (Benjamini and Yekutieli, Annals of Statistics 29:1165, 2001), as cells of one round do.
    """
    import numpy as np
    from scipy.stats import false_discovery_control

    out = np.full(len(p), math.nan)
    known = np.isfinite(p)
    if known.any():
        out[known] = false_discovery_control(np.clip(p[known], 0.0, 1.0))
    return out
