"""Quantities in words: a number with the unit that suits its size."""

from __future__ import annotations

import math
from numbers import Real

from analysis.numbers import MISSING, significant, with_uncertainty

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))


def number(value: object) -> float:
    """`value` as a float, NaN for anything that is not a number."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    return float(value)


def quantity(value: object, unit: str) -> str:
    """`44.3 Gbit/s`: three significant digits and a decimal prefix; `-` where `value` is no finite number."""
    amount = number(value)
    if not math.isfinite(amount):
        return MISSING
    if amount == 0:
        return f"0 {unit}"
    factor, prefix = next(((f, p) for f, p in _PREFIXES if abs(amount) >= f), _PREFIXES[-1])
    return f"{significant(amount / factor)} {prefix}{unit}"


def duration(value_s: object) -> str:
    """`200 ms`; seconds stay seconds however many they are."""
    amount = number(value_s)
    return f"{significant(amount)} s" if abs(amount) >= 1 else quantity(amount, "s")


def count(n: int, noun: str) -> str:
    """`1 record`, `1,234 records`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def percent(share: object) -> str:
    """`87 %` of 0.87; `n/a` where it is not known, and never 0 or 100 for what is not exactly that."""
    part = number(share)
    if math.isnan(part):
        return "n/a"
    if 0 < part < 0.005:
        return "<1 %"
    if 0.995 <= part < 1:
        return ">99 %"
    return f"{100 * part:.0f} %"


def measured(mean: object, high: object, unit: str, factor: float = 1.0) -> str:
    """`226.1 ± 3.4 ms` from a mean and the upper end of its interval, both times `factor`; `-` without a mean."""
    centre = number(mean) * factor
    text = with_uncertainty(centre, number(high) * factor - centre)
    return text if text == MISSING else f"{text} {unit}"
