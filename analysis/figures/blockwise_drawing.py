"""Draws a `BlockwiseInfo`. Holds no decision about the data."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from analysis.figures.bands import FULL_WIDTH_IN
from analysis.figures.blockwise import BlockPanel, BlockwiseInfo
from analysis.figures.cut_axis import name_cuts, position
from analysis.figures.style import GREY, INK, PANEL_WIDTH_IN, theme, value_marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which the common kinds of colour blindness leave apart; the markers do so in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_PANEL_HEIGHT_IN, _CHARACTER_IN = 1.7, 0.055
_MARK_SIZE = 4.0


def draw_blockwise(info: BlockwiseInfo) -> Figure:
    """A figure with a panel per model, one below the other, as wide as a page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    down = len(info.panels)
    names = max(len(name) for panel in info.panels for name in panel.blocks)
    with theme():
        size = (FULL_WIDTH_IN, (_PANEL_HEIGHT_IN + _CHARACTER_IN * names) * down + 1.0)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        for ax, panel in zip(figure.subplots(down, 1, squeeze=False)[:, 0], info.panels, strict=True):
            _draw_panel(ax, panel, info)
        figure.legend(
            handles=[
                Line2D(
                    [],
                    [],
                    marker=value_marker(index),
                    color=_COLOURS[index % len(_COLOURS)],
                    linestyle="none",
                    markersize=5,
                    label=kind,
                )
                for index, kind in enumerate(info.kinds)
            ],
            loc="outside upper center",
            title=info.title or None,
            title_fontsize=8.5,
            ncols=2,
            frameon=False,
        )
        text = "\n".join(textwrap.fill(note, int(72 * FULL_WIDTH_IN / PANEL_WIDTH_IN)) for note in info.notes)
        figure.supxlabel(text, x=0.01, ha="left", fontsize=6.5, color=GREY, linespacing=1.3)
    return figure


def _draw_panel(ax: Axes, panel: BlockPanel, info: BlockwiseInfo) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.set_title(panel.title, loc="left")
    ax.set_ylabel(f"time per batch ({info.unit})")
    for place, index in enumerate(panel.kinds):
        marks = [mark for mark in panel.marks if mark.kind == index]
        xs = [position(mark.slot, place, len(panel.kinds)) for mark in marks]
        ys = [mark.y for mark in marks]
        colour = _COLOURS[index % len(_COLOURS)]
        if not info.log_scale:
            ax.vlines(xs, 0, ys, color=colour, linewidth=2.2, alpha=0.35, zorder=2)
        barred = [(x, mark) for x, mark in zip(xs, marks, strict=True) if math.isfinite(mark.low + mark.high)]
        if barred:
            ax.errorbar(
                [x for x, _ in barred],
                [mark.y for _, mark in barred],
                yerr=[[mark.y - mark.low for _, mark in barred], [mark.high - mark.y for _, mark in barred]],
                fmt="none",
                ecolor=INK,
                elinewidth=0.8,
                zorder=3,
            )
        ax.plot(xs, ys, marker=value_marker(index), linestyle="none", color=colour, markersize=_MARK_SIZE, zorder=4)
    if info.log_scale:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        ax.axhline(0, color=INK, linewidth=0.8)
    ax.set_ylim(*panel.limits(log=info.log_scale))
    name_cuts(ax, panel.blocks, FULL_WIDTH_IN - 0.8)
