"""What the drawings with placed labels share: where things are on the page, and how a label looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.figures.labels import Point
from analysis.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_PT = 7.0
LOOK: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "center",
    "va": "center",
    "fontsize": LABEL_PT,
    "color": INK,
    "bbox": {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.7, "edgecolor": "none"},
}
"""Of `Axes.annotate`, for a label beside its point."""


def page_spots(ax: Axes, places: Sequence[Point], to_points: float) -> list[Point]:
    """Where data coordinates are on the page, in points."""
    if not places:
        return []
    return [(float(x) * to_points, float(y) * to_points) for x, y in ax.transData.transform(list(places))]


def text_size(ax: Axes, label: str, to_points: float) -> tuple[float, float]:
    """Width and height of a label with a little room, in points."""
    text = ax.text(0, 0, label, fontsize=LABEL_PT)
    extent = text.get_window_extent()
    text.remove()
    return extent.width * to_points + 2, extent.height * to_points + 1
