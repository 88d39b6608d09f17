"""The frontier as a picture: a panel per model, latency across, throughput up, the front as a staircase."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.operating_points import CHOICES, HIGH, varying

if TYPE_CHECKING:
    import pandas as pd

SECONDS_FROM_S = 2.0
"""Latencies are drawn in milliseconds where all are below this."""
LOG_FROM_RATIO = 30.0
NOTE_FAILURES = 3


@dataclass(frozen=True)
class Mark:
    """One point of a panel, in the units of the axes."""

    x: float
    y: float
    x_half: float
    """Half widths of the 95 % t-intervals; NaN where there is none."""
    y_half: float
    on_frontier: bool
    label: str
    depth: int | None = None
    position: float | None = None
    """Index of the first cut divided by that of cut N: 0 all remote, 1 all local."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    marks: tuple[Mark, ...]
    invalid: tuple[tuple[float, float], ...] = ()
    """Single rounds that broke a check, (x, y); in no average."""

    @property
    def staircase(self) -> list[tuple[float, float]]:
        """The front's points from left to right, each place once."""
        return sorted({(mark.x, mark.y) for mark in self.marks if mark.on_frontier})

    def values(self, axis: str) -> list[float]:
        """The `x` or `y` values of all points, the invalid ones last."""
        index = "xy".index(axis)
        return [(mark.x, mark.y)[index] for mark in self.marks] + [place[index] for place in self.invalid]


@dataclass(frozen=True)
class FrontierInfo:
    """Everything that a frontier figure shows."""

    panels: tuple[Panel, ...]
    x_label: str
    y_label: str
    x_maximised: bool = False
    title: str = ""
    notes: tuple[str, ...] = ()
    position_label: str = ""
    """What `Mark.position` is; empty where no mark has one."""

    @property
    def depths(self) -> list[int]:
        """All depths in the figure, ascending."""
        return sorted({mark.depth for panel in self.panels for mark in panel.marks if mark.depth is not None})

    def log_scale(self, axis: str) -> bool:
        """Whether the `x` or `y` values of a panel span so much that a linear axis would hide most of them."""
        spans = [panel.values(axis) for panel in self.panels]
        if any(value <= 0 for values in spans for value in values):
            return False
        return any(max(values) / min(values) >= LOG_FROM_RATIO for values in spans if values)


def get_frontier_info(
    points: pd.DataFrame, records: pd.DataFrame, title: str, notes: Sequence[str] = ()
) -> FrontierInfo:
    """The figure of marked operating points of one network condition.

    `points` come from `mark_frontier`, `records` are the `records_frame` rows of the same condition: of them the
    invalid rounds are drawn apart and the failed cells named in the notes, after `notes`.
    """
    valid = points[points["rounds"] > 0]
    invalid = records[(records["state"] == "invalid") & records[["latency_s", "throughput_img_s"]].notna().all(axis=1)]
    latencies = [*valid["latency_s"], *invalid["latency_s"]]
    unit, factor = ("s", 1.0) if max(latencies, default=0.0) >= SECONDS_FROM_S else ("ms", 1e3)
    front = valid[valid["on_frontier"]]
    named = varying(front, CHOICES)
    shared = [axis for axis in varying(points, CHOICES) if axis not in named]
    several_cuts = points["split_index"].str.contains("+", regex=False).any()
    panels = []
    for model in dict.fromkeys(points["model"]):
        rows = valid[valid["model"] == model].to_dict("records")
        rounds = invalid[invalid["model"] == model]
        marks = tuple(_mark({str(key): value for key, value in row.items()}, factor, named) for row in rows)
        apart = tuple(zip(rounds["latency_s"] * factor, rounds["throughput_img_s"], strict=True))
        panels.append(Panel(str(model), marks, apart))
    return FrontierInfo(
        panels=tuple(panels),
        x_label=f"latency per batch ({unit})",
        y_label="throughput (images/s)",
        title=title,
        notes=(*notes, *_notes(valid, records, front, shared)),
        position_label=f"position of the {'first ' if several_cuts else ''}cut",
    )


def _mark(row: dict[str, object], factor: float, named: Sequence[str]) -> Mark:
    latency, throughput = float(str(row["latency_s"])), float(str(row["throughput_img_s"]))
    return Mark(
        x=latency * factor,
        y=throughput,
        x_half=(float(str(row["latency_s" + HIGH])) - latency) * factor,
        y_half=float(str(row["throughput_img_s" + HIGH])) - throughput,
        on_frontier=bool(row["on_frontier"]),
        label=point_label(row, named),
        depth=int(str(row["depth"])),
        position=_position(str(row["split_index"]), row["n_cuts"]),
    )


def point_label(row: dict[str, object], named: Sequence[str] = ()) -> str:
    """`P3 ·D2`: the place of the cut, the depth, then the values of the `named` axes."""
    paper_name = row["split"] if row["split"] != row["split_index"] else None
    where = row["placement"] or paper_name or row["split_name"]
    values = [f"b{row[axis]}" if axis == "batch_size" else str(row[axis]) for axis in named]
    return " ".join([f"{where} ·D{row['depth']}", *values])


def _position(split_index: str, n_cuts: object) -> float | None:
    first = split_index.split("+")[0]
    if not first.isdigit() or not n_cuts:
        return None
    return int(first) / int(str(n_cuts))


def _notes(valid: pd.DataFrame, records: pd.DataFrame, front: pd.DataFrame, shared: Sequence[str]) -> tuple[str, ...]:
    """`shared`: axes that vary among all points but not on the front, so that no label has them."""
    notes = []
    if shared:
        values = ", ".join(f"{axis.replace('_', ' ')} {front[axis].iloc[0]}" for axis in shared)
        notes.append(f"All points of the frontier: {values}.")
    rounds = sorted({int(n) for n in valid["rounds"]})
    if rounds == [1]:
        notes.append("One round per point: no intervals.")
    elif rounds:
        span = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]}-{rounds[-1]}"
        notes.append(f"Means of {span} rounds; bars: 95 % t-intervals.")
    failed = records[records["state"] == "failed"]
    if len(failed):
        cells = failed.drop_duplicates("cell")
        names = [f"{row.model} {row.split} ({str(row.failure).partition(':')[0]})" for row in cells.itertuples()]
        more = f", and {len(names) - NOTE_FAILURES} more" if len(names) > NOTE_FAILURES else ""
        plural = "cell" if len(names) == 1 else "cells"
        notes.append(f"Failed: {len(names)} {plural}: {', '.join(names[:NOTE_FAILURES])}{more}.")
    return tuple(notes)


def wrapped_notes(info: FrontierInfo, characters: int) -> str:
    """The notes as lines of at most so many characters."""
    return "\n".join(textwrap.fill(note, characters) for note in info.notes)


def view(values: Sequence[float], halves: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Limits of an axis: all values with a margin, and their bars as far as these do not dwarf the values.

    With two rounds a t-interval is 12.7 standard errors wide; a picture of such bars would show nothing else.
    """
    scale = math.log10 if log else float
    spread = max(map(scale, values)) - min(map(scale, values)) or abs(scale(values[0])) * 0.1 or 1.0
    reach, margin = 0.3 * spread, 0.08 * spread
    bars = [half if math.isfinite(half) else 0.0 for half in halves]
    low = min(scale(max(v - b, v * 1e-3 if log else v - b)) for v, b in zip(values, bars, strict=True))
    high = max(scale(v + b) for v, b in zip(values, bars, strict=True))
    low = max(low, min(map(scale, values)) - reach) - margin
    high = min(high, max(map(scale, values)) + reach) + margin
    return (10**low, 10**high) if log else (low, high)
