"""Numbers as people read them: rounded to what the measurement supports."""

from __future__ import annotations

import math

NO_INTERVAL = "n/a"
MISSING = "-"


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits in fixed notation; whole digits are never zeroed; `-` for NaN."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:.{_decimals(value, digits)}f}"


def with_uncertainty(mean: float, half_width: float) -> str:
    """`226.1 ± 3.4`: the half width to two significant digits, the mean to the same decimal place.

    No more than five significant digits of the mean are shown. A NaN half width (one round) reads `± n/a`,
    a NaN mean (no valid round) `-`.
    """
    if not math.isfinite(mean):
        return MISSING
    if not math.isfinite(half_width):
        return f"{significant(mean, 4)} ± {NO_INTERVAL}"
    decimals = _decimals(mean, 5 if half_width else 4)
    if half_width:
        decimals = min(decimals, _decimals(half_width, 2))
    return f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def _decimals(value: float, digits: int) -> int:
    if value == 0:
        return 0
    # Through scientific notation, because 9.996 has one whole digit but prints with two.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)
