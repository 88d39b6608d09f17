"""Delays, rates and losses as people write them, such as `200ms`, `5mbit` and `1%`."""

from __future__ import annotations

import re
from collections.abc import Mapping

_DELAY_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_RATE_BIT_S = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_NUMBER = re.compile(r"^(\d+(?:\.\d+)?)([a-z%]*)$")


def parse_delay_s(text: object) -> float:
    """`200ms`, `1.5s` or `50us` in seconds; raises ValueError saying how to write one."""
    return _quantity(text, _DELAY_S, "a delay is a number with us, ms or s, such as 200ms")


def parse_rate_bit_s(text: object) -> float:
    """`5mbit` (or bit, kbit, gbit; decimal) in bits per second; raises ValueError saying how to write one."""
    rate = _quantity(text, _RATE_BIT_S, "a rate is a number with bit, kbit, mbit or gbit (per second), such as 5mbit")
    if rate == 0:
        raise ValueError("a rate of zero lets nothing through; leave it out for no limit")
    return rate


def parse_loss_pct(text: object) -> float:
    """`1%` as percent; raises ValueError saying how to write one."""
    loss = _quantity(text, {"%": 1.0}, "a loss is a percentage such as 1%")
    if loss >= 100:
        raise ValueError("a loss of 100% or more lets nothing through")
    return loss


def _quantity(text: object, units: Mapping[str, float], how: str) -> float:
    match = _NUMBER.match(str(text).strip().lower()) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r}: {how}")
    return float(match[1]) * units[match[2]]
