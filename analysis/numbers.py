"""Numbers as people read them: rounded to what the measurement supports."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def alike(values: Sequence[float], digits: int = 4) -> tuple[str, ...]:
    """All values with as many decimals as the first needs for `digits` significant digits, but one; `-` for NaN.

    So that parts and their sum, the first, can be compared digit by digit.
    """
    decimals = max(1, _decimals(values[0], digits)) if math.isfinite(values[0]) else digits
    return tuple(f"{value:.{decimals}f}" if math.isfinite(value) else MISSING for value in values)


def with_factor(ratio: float, high: float) -> str:
    """`1.052 ±3.1%`: a ratio whose interval reaches from ratio / 1.031 to ratio x 1.031; `high` is its upper end.

    A NaN `high` (one round) reads `±n/a`, a NaN ratio `-`.
    """
    if not math.isfinite(ratio):
        return MISSING
    shown = f"{ratio:.3f}" if 0.1 <= ratio < 10 else significant(ratio, 3 if ratio < 0.1 else 4)
    if math.isnan(high):
        return f"{shown} ±{NO_INTERVAL}"
    percent = 100 * (high / ratio - 1)
    if percent >= 1000:
        return f"{shown} ±>999%"
    return f"{shown} ±{percent:.{0 if percent >= 10 else 1}f}%"


def _decimals(value: float, digits: int) -> int:
    if value == 0:
        return 0
    # Through scientific notation, because 9.996 has one whole digit but prints with two.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)
