"""Draws a `RatiosInfo`. Holds no decision about the data."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from analysis.figures.bands import FULL_WIDTH_IN, wide_enough
from analysis.figures.cut_axis import name_cuts, position
from analysis.figures.ratios import RatioPanel, RatiosInfo
from analysis.figures.style import GREY, INK, PANEL_WIDTH_IN, theme, value_marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's again; the shapes say the same."""
_ROW_HEIGHT_IN = 1.35
_SIZE = 3.4


def draw_ratios(info: RatiosInfo) -> Figure:
    """A figure with a row per metric (and depth, where the panels need the whole width)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    most = max(len(panel.cuts) for panel in info.panels) * len(info.values)
    few = info.columns == 1 and most <= 8
    width_in = (
        PANEL_WIDTH_IN if few else max(2.0 * info.columns, wide_enough(most) if info.columns == 1 else FULL_WIDTH_IN)
    )
    longest = max(len(cut) for panel in info.panels for cut in panel.cuts)
    with theme():
        figure = Figure(figsize=(width_in, _ROW_HEIGHT_IN * info.rows + 0.9 + 0.06 * longest), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(info.rows, info.columns, squeeze=False, sharex="col")
        used = {(panel.row, panel.column) for panel in info.panels}
        for row in range(info.rows):
            for column in range(info.columns):
                if (row, column) not in used:
                    grid[row, column].set_visible(False)
        for panel in info.panels:
            ax = grid[panel.row, panel.column]
            _draw_panel(ax, panel, info)
            lowest = (panel.row + 1, panel.column) not in used
            name_cuts(ax, panel.cuts, width_in / info.columns - 0.6)
            ax.tick_params(axis="x", labelbottom=lowest)
            ax.tick_params(axis="y", labelleft=bool(panel.label))
        figure.legend(
            handles=_legend(info),
            loc="outside upper center",
            title=info.title or None,
            title_fontsize=8.5,
            ncols=4,
            frameon=False,
            handletextpad=0.4,
        )
        characters = int(72 * width_in / PANEL_WIDTH_IN)
        text = "\n".join(textwrap.fill(note, characters) for note in info.notes)
        figure.supxlabel(text, x=0.01, ha="left", fontsize=6.5, color=GREY, linespacing=1.3)
    return figure


def _draw_panel(ax: Axes, panel: RatioPanel, info: RatiosInfo) -> None:
    ax.set_title(panel.title, loc="left")
    if panel.label:
        ax.set_ylabel(panel.label)
    ax.set_yscale("log")
    low, high = info.limits(panel.row)
    ax.set_ylim(low, high)
    _ratio_ticks(ax, low, high)
    ax.axhline(1.0, color=INK, linewidth=0.9, zorder=2)
    for value in range(len(info.values)):
        colour = _colour(value)
        marks = [mark for mark in panel.marks if mark.value == value]
        xs = [position(mark.slot, value, len(info.values)) for mark in marks]
        bars = [(x, mark) for x, mark in zip(xs, marks, strict=True) if math.isfinite(mark.low)]
        ax.vlines(
            [x for x, _ in bars],
            [mark.low for _, mark in bars],
            [min(mark.high, 10 * high) for _, mark in bars],
            color=colour,
            linewidth=0.8,
            zorder=3,
        )
        for beyond in (False, True):
            chosen = [(x, mark.ratio) for x, mark in zip(xs, marks, strict=True) if mark.beyond is beyond]
            ax.plot(
                [x for x, _ in chosen],
                [ratio for _, ratio in chosen],
                marker=value_marker(value),
                markersize=_SIZE,
                linestyle="none",
                color=colour,
                markerfacecolor=colour if beyond else "white",
                markeredgewidth=0.8,
                zorder=4,
            )


def _ratio_ticks(ax: Axes, low: float, high: float) -> None:
    """Few plain numbers: a logarithmic axis would have none between 0.9 and 1.1."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    if high / low > 12:
        ax.yaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 300 else (1, 2, 5)))
    else:
        ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ax.yaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks if low <= tick <= high]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _colour(value: int) -> str:
    return _COLOURS[value % len(_COLOURS)]


def _legend(info: RatiosInfo) -> list[object]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], marker=value_marker(i), color=_colour(i), linestyle="none", markersize=4, label=value)
        for i, value in enumerate(info.values)
    ]
