"""Where the latency goes: its parts per cut, in every variant that was measured. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.comparing.breakdown import PART_COLUMNS
from analysis.comparing.comparison import place_words
from analysis.figures.frontier import SECONDS_FROM_S
from analysis.operating_points import CHOICES, HIGH, varying
from analysis.report.quantities import count
from analysis.report.validity import depth_text

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("split", "split_index", "placement", "latency_s", "latency_s" + HIGH, *PART_COLUMNS)


@dataclass(frozen=True)
class Stack:
    """One bar."""

    cut: str
    parts: tuple[float, ...]
    """In the order of `analysis.comparing.breakdown.PARTS`."""
    latency: float
    half: float
    """Half width of the latency's 95 % t-interval; NaN where there is none."""


@dataclass(frozen=True)
class Stacks:
    """The bars of one variant, cuts ascending, in `unit` per batch."""

    name: str
    """`socket, batch 8, depth 1`: what tells it from the other variants of its chart."""
    unit: str
    bars: tuple[Stack, ...]
    left_out: int
    """Points with a valid round whose records lack a duration."""


def get_stacks(points: pd.DataFrame) -> list[Stacks]:
    """The variants of the operating points of one model and network; the one of the highest throughput first.

    A variant is a value of each choice and a depth. Points without a valid round are left out.
    """
    valid = points[points["rounds"] > 0]
    if valid.empty:
        return []
    named = varying(points, (*CHOICES, "depth"))
    # Plain lists: a frame's rows one by one are slow, and a large run has thousands.
    rows = {column: valid[column].tolist() for column in (*CHOICES, "depth", *_SHOWN)}
    keys = [tuple(map(_known, values)) for values in zip(*(rows[axis] for axis in (*CHOICES, "depth")), strict=True)]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    leading = keys[int(valid["throughput_img_s"].to_numpy().argmax())]
    # At the lowest depth nothing waits for a busy stage, so the parts say most there.
    order = sorted(groups, key=lambda key: (key[:-1] != leading[:-1], tuple(map(str, key[:-1])), key[-1] or 0))
    found = [_stacks(rows, groups[key], _name(key, named)) for key in order]
    return [stacks for stacks in found if stacks.bars]


def _known(value: Any) -> Any:
    """The value; None for all kinds of unknown, so that they are equal."""
    return None if value is None or value != value else value


def _name(key: Sequence[Any], named: Sequence[str]) -> str:
    values = dict(zip((*CHOICES, "depth"), key, strict=True))
    prefix = {"depth": "depth ", "batch_size": "batch "}
    words = (f"{prefix.get(axis, '')}{depth_text(values[axis]) if axis in prefix else values[axis]}" for axis in named)
    return ", ".join(words) or "all points"


def _stacks(rows: Mapping[str, Sequence[Any]], places: Sequence[int], name: str) -> Stacks:
    known = [place for place in places if all(math.isfinite(rows[column][place]) for column in PART_COLUMNS)]
    known.sort(key=lambda place: _cut_order(rows["split_index"][place]))
    slowest = max((rows["latency_s"][place] for place in known), default=0.0)
    unit, factor = ("s", 1.0) if slowest >= SECONDS_FROM_S else ("ms", 1e3)
    bars = tuple(
        Stack(
            cut=place_words(str(rows["split"][place]), str(rows["placement"][place])),
            parts=tuple(rows[column][place] * factor for column in PART_COLUMNS),
            latency=rows["latency_s"][place] * factor,
            half=(rows["latency_s" + HIGH][place] - rows["latency_s"][place]) * factor,
        )
        for place in known
    )
    return Stacks(name, unit, bars, len(places) - len(known))


def _cut_order(split_index: object) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in str(split_index).split("+"))


def breakdown_words(stacks: Sequence[Stacks]) -> tuple[str, ...]:
    """What a chart of these variants shows, in sentences; the numbers are of the first variant."""
    first = stacks[0]
    parts = ("computing", "serialising", "waiting for a busy stage or sender", "network and the rest")
    words = []
    for kind, pick in (("lowest", min), ("highest", max)):
        bar = pick(first.bars, key=lambda bar: bar.latency)
        # Of a latency that is not above 0 there are no shares.
        shares = [f"{name} {100 * part / bar.latency:.0f} %" for name, part in zip(parts, bar.parts, strict=True)]
        words.append(f"{first.name}, {kind} latency: {bar.cut}, {bar.latency:.4g} {first.unit}: {', '.join(shares)}.")
    left_out = sum(found.left_out for found in stacks)
    if left_out:
        words.append(f"{count(left_out, 'point')} without a bar: their records lack a duration of a stage.")
    return tuple(words)
