"""What the figures of a comparison share: which points stand side by side, and how their cuts are called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.comparing.comparison import place_words
from analysis.operating_points import CHOICES, varying

if TYPE_CHECKING:
    import pandas as pd

FULL_WIDTH_IN = 7.2
"""The text width of a two-column page."""
DENSE_FROM = 25
"""Bars or marks side by side that need the full width."""
_WIDEST_IN, _BAR_IN = 18.0, 0.1


@dataclass(frozen=True)
class Band:
    """Operating points that differ in cut, depth and the compared axis only."""

    title: str
    """The model, then the values of what else varies in the run."""
    rows: tuple[dict[str, Any], ...]

    @property
    def cuts(self) -> list[str]:
        """The cuts in the order of the rows, as people call them."""
        return list(dict.fromkeys(place(row) for row in self.rows))

    @property
    def depths(self) -> list[int]:
        """Ascending."""
        return sorted({int(row["depth"]) for row in self.rows})


def place(row: dict[str, Any]) -> str:
    """`P3`, `remote`."""
    return place_words(str(row["split"]), str(row["placement"]))


def bands_of(points: pd.DataFrame, by: str) -> list[Band]:
    """The bands of points of one profile (or of all, where profiles are compared), in the order of the points."""
    axes = [axis for axis in varying(points, (*CHOICES, "granularity")) if axis != by]
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in points.to_dict("records"):
        key = (str(row["model"]), *(f"{axis.replace('_', ' ')} {row[axis]}" for axis in axes))
        found.setdefault(key, []).append({str(name): cell for name, cell in row.items()})
    return [Band(", ".join(key), tuple(rows)) for key, rows in found.items()]


def in_figures(bands: list[Band], n_values: int) -> list[list[Band]]:
    """Which bands share a figure: all of them while none is dense, otherwise each has its own."""
    if any(len(band.cuts) * n_values >= DENSE_FROM for band in bands):
        return [[band] for band in bands]
    return [bands]


def finite(value: object) -> float:
    """The number, NaN for anything else."""
    return float(value) if isinstance(value, int | float) else math.nan


def wide_enough(n_marks: int) -> float:
    """Width in inches of a figure with so many bars or marks side by side, so that they can be told apart."""
    return min(_WIDEST_IN, max(FULL_WIDTH_IN, 0.8 + _BAR_IN * n_marks))
