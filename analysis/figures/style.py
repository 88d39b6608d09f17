"""How every figure looks, and how it is written: the same bytes for the same data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL_WIDTH_IN, PANEL_HEIGHT_IN = 3.5, 2.7
"""A panel is as wide as a column of a two-column page."""
INK, GREY, FAINT = "#222222", "#777777", "#bbbbbb"
PNG_DPI = 300
_VALUE_MARKERS = "osDPh*pdX"


def value_marker(index: int) -> str:
    """What tells compared values apart besides their colour."""
    return _VALUE_MARKERS[index % len(_VALUE_MARKERS)]


@contextmanager
def theme() -> Iterator[None]:
    """Matplotlib's settings for as long as a figure is drawn or written."""
    import matplotlib as mpl
    import seaborn as sns

    settings: Any = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper"),
        "font.size": 8,
        "axes.labelsize": 8,
        "axes.titlesize": 8.5,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "legend.fontsize": 7.5,
        "axes.grid": True,
        "grid.color": "#ececec",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.linewidth": 0.8,
        **{f"{axis}tick.major.{key}": value for axis in "xy" for key, value in (("width", 0.8), ("size", 3.0))},
        **{f"{axis}tick.minor.{key}": value for axis in "xy" for key, value in (("width", 0.6), ("size", 2.0))},
        "axes.edgecolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        # Names are the user's: a dollar sign in one is no formula.
        "text.parse_math": False,
        # Seeds the ids of an SVG, which are random otherwise.
        "svg.hashsalt": "paretopipe",
    }
    with mpl.rc_context(settings):
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png and `stem`.svg (making the directory) and return their paths. Raises OSError."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg = (stem.with_name(stem.name + suffix) for suffix in (".png", ".svg"))
    with theme():
        figure.savefig(png, dpi=PNG_DPI)
        figure.savefig(svg, metadata={"Date": None})
    return [png, svg]
