"""Quantities in running text: times, rates, probabilities, counts. Pure."""

from __future__ import annotations

import math

from analysis.numbers import MISSING, with_uncertainty
from analysis.statistics import Interval


def latency_words(interval: Interval) -> str:
    """`105.2 ± 1.3 ms`; in seconds from 10 s on."""
    if not math.isfinite(interval.mean):
        return MISSING
    factor, unit = (1.0, "s") if interval.mean >= 10 else (1e3, "ms")
    return f"{with_uncertainty(interval.mean * factor, interval.half_width * factor)} {unit}"


def throughput_words(interval: Interval) -> str:
    """`152.1 ± 1.9 images/s`."""
    return f"{with_uncertainty(interval.mean, interval.half_width)} images/s"


def seconds_words(value: float) -> str:
    """A bound in seconds as it was given: `500 ms`, `12 s`."""
    return f"{plain(value)} s" if value >= 10 else f"{plain(value * 1e3)} ms"


def plain(value: float) -> str:
    """As it was given, without needless zeros."""
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"


def probability_words(value: float) -> str:
    """`0.83`; `above 0.99` and `below 0.01` where two digits would say certain."""
    if value >= 0.995:
        return "above 0.99"
    return "below 0.01" if value < 0.005 else f"{value:.2f}"


def percent_words(part: float) -> str:
    """`95 %` of 0.95."""
    return f"{100 * part:.0f} %"


def counted(number: int, noun: str, plural: str = "s") -> str:
    """`1 round`, `5 rounds`."""
    return f"{number} {noun}{'' if number == 1 else plural}"
