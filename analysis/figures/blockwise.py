"""Figure 2 of the paper: what every block of a model takes on each kind of device; a panel per model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.figures.frontier import LOG_FROM_RATIO, SECONDS_FROM_S, view
from analysis.paper.blocks import BlockTime

CELLS_NOTE = (
    "Taken from the cells at depth 1: block k is what a stage's compute time differs by between cut k - 1 and cut k, "
    "round by round, on the first host and, from the other side, on the second. Bars: 95 % t-intervals over rounds. "
    "A difference of two measurements may be negative; its interval says what it is worth."
)
PROFILE_NOTE = "Blocks timed one by one by pp-matrix profile: medians; bars: quartiles of the passes."


@dataclass(frozen=True)
class BlockMark:
    """One block on one kind of device, in the unit of the axis."""

    slot: int
    kind: int
    """Index in `BlockwiseInfo.kinds`."""
    y: float
    low: float
    """Ends of the bar; NaN where there is none."""
    high: float


@dataclass(frozen=True)
class BlockPanel:
    """One pair of axes."""

    title: str
    blocks: tuple[str, ...]
    """`1 features.0`, in the order of execution."""
    marks: tuple[BlockMark, ...]

    @property
    def kinds(self) -> tuple[int, ...]:
        """Indexes of the kinds that have a mark here."""
        return tuple(sorted({mark.kind for mark in self.marks}))

    def limits(self, *, log: bool) -> tuple[float, float]:
        """Of the axis of times: all values, and their bars as far as these do not dwarf the values."""
        values = [mark.y for mark in self.marks]
        halves = [max(mark.y - mark.low, mark.high - mark.y) for mark in self.marks]
        return view(values, halves, log=True) if log else view([*values, 0.0], [*halves, 0.0], log=False)


@dataclass(frozen=True)
class BlockwiseInfo:
    """Everything that the figure shows."""

    panels: tuple[BlockPanel, ...]
    kinds: tuple[str, ...]
    unit: str
    log_scale: bool
    title: str
    notes: tuple[str, ...]


def get_blockwise_info(times: Sequence[BlockTime], title: str, notes: Sequence[str] = ()) -> BlockwiseInfo:
    """The figure of block times; models of several batch sizes or engines have a panel for each.

    The axis is logarithmic where the kinds of device are so far apart that a linear one would hide one of them, and
    no value is at or below 0. Raises ValueError without times.
    """
    if not times:
        raise ValueError("no block times, no figure")
    values = [time.exec_s for time in times]
    unit, factor = ("s", 1.0) if max(values) >= SECONDS_FROM_S else ("ms", 1e3)
    kinds = tuple(dict.fromkeys(time.kind for time in times))
    panels = []
    for key in dict.fromkeys((time.model, time.batch_size, time.engine) for time in times):
        rows = [time for time in times if (time.model, time.batch_size, time.engine) == key]
        names = {time.block: f"{time.block} {time.name}" for time in rows}
        slots = {block: slot for slot, block in enumerate(sorted(names))}
        marks = tuple(
            BlockMark(
                slots[time.block],
                kinds.index(time.kind),
                time.exec_s * factor,
                time.exec_s_low * factor,
                time.exec_s_high * factor,
            )
            for time in rows
        )
        title_of = f"{key[0]}, batch {key[1]}, {key[2]}"
        panels.append(BlockPanel(title_of, tuple(names[block] for block in sorted(names)), marks))
    said = [CELLS_NOTE] if any(time.source == "cells" for time in times) else []
    said += [PROFILE_NOTE] if any(time.source == "profile" for time in times) else []
    gaps = _gaps(times)
    return BlockwiseInfo(tuple(panels), kinds, unit, _log(times), title, (*said, *gaps, *notes))


def _log(times: Sequence[BlockTime]) -> bool:
    by_kind: dict[str, list[float]] = {}
    for time in times:
        by_kind.setdefault(time.kind, []).append(time.exec_s)
    if any(value <= 0 for values in by_kind.values() for value in values):
        return False
    tops = [max(values) for values in by_kind.values()]
    return max(tops) / min(tops) >= LOG_FROM_RATIO


def _gaps(times: Sequence[BlockTime]) -> list[str]:
    """Which blocks are missing between the first and the last of a model."""
    notes = []
    for model in dict.fromkeys(time.model for time in times):
        blocks = {time.block for time in times if time.model == model}
        missing = [str(block) for block in range(1, max(blocks) + 1) if block not in blocks]
        if missing:
            notes.append(f"{model}: not measured: block {', '.join(missing)}.")
    single = [time for time in times if math.isnan(time.exec_s_high)]
    if single:
        notes.append(f"{len(single)} of {len(times)} values without an interval: one round.")
    return notes
