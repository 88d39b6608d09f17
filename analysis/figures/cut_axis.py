"""The axis of cuts: their names, as many as fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHARACTER_IN, _LINE_IN = 0.062, 0.1
"""Width of a character and height of a line of tick labels."""
SLOT_WIDTH = 0.8
"""Part of the room of a cut that its marks fill."""


def name_cuts(ax: Axes, cuts: Sequence[str], width_in: float, pad: float = 3.0) -> None:
    """Label an axis whose positions 0, 1, ... are the cuts; upright where they are many, then every second or so."""
    lying = max(map(len, cuts)) * _CHARACTER_IN * len(cuts) <= 0.9 * width_in
    step = 1 if lying else max(1, math.ceil(len(cuts) * _LINE_IN / width_in))
    shown = range(0, len(cuts), step)
    ax.set_xticks(list(shown), [cuts[i] for i in shown], rotation=0 if lying else 90)
    ax.tick_params(axis="x", which="major", length=0, pad=pad)
    ax.set_xlim(-0.6, len(cuts) - 0.4)
    ax.grid(visible=False, axis="x")


def position(slot: int, value: int, n_values: int) -> float:
    """Where the mark of a value is in the room of a cut."""
    return slot + SLOT_WIDTH * ((value + 0.5) / n_values - 0.5)
