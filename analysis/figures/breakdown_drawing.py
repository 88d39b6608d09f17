"""Draws a `BreakdownInfo`. Holds no decision about the data."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from analysis.comparing.breakdown import PARTS
from analysis.figures.bands import FULL_WIDTH_IN, wide_enough
from analysis.figures.breakdown import BreakdownInfo, BreakdownPanel
from analysis.figures.cut_axis import SLOT_WIDTH, name_cuts, position
from analysis.figures.style import GREY, INK, PANEL_WIDTH_IN, theme, value_marker

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which the common kinds of colour blindness leave apart; the hatches do so in print.
_LOOKS = {
    "compute": ("#0072B2", ""),
    "serialize": ("#E69F00", "xxxxx"),
    "queue": ("#C8C8C8", "....."),
    "network": ("#D55E00", "/////"),
}
_STAGE_MARKERS = "^v<>"
_STRIP_SIZE, _VALUE_SIZE = 2.8, 3.0
_PANEL_HEIGHT_IN, _STRIP_HEIGHT_IN = 2.0, 0.55
_NAME_PT, _CHARACTER_PT = 6.5, 3.9
_NAMES_IN = 0.05
"""Height per character of the names below a panel, which may stand upright."""


def draw_breakdown(info: BreakdownInfo) -> Figure:
    """A figure with a row per panel, or several beside each other where they have few bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    strips = info.has("cpu_pct") or info.has("gpu_pct")
    down = math.ceil(len(info.panels) / info.columns)
    small = info.columns == 1 and info.named
    most_bars = max(len(panel.bars) for panel in info.panels)
    width_in = PANEL_WIDTH_IN if small else max(FULL_WIDTH_IN, wide_enough(most_bars) if info.columns == 1 else 0)
    names = max(len(name) for panel in info.panels for name in (*panel.cuts, *(info.values if info.named else ())))
    height_in = (_PANEL_HEIGHT_IN + _STRIP_HEIGHT_IN * strips + _NAMES_IN * names) * down + 0.9
    with theme():
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        each = 1 + strips
        grid = figure.add_gridspec(each * down, info.columns, height_ratios=[3.6, 1][:each] * down)
        for index, panel in enumerate(info.panels):
            row, column = divmod(index, info.columns)
            ax = figure.add_subplot(grid[each * row, column])
            _draw_bars(ax, panel, info)
            ax.set_title(panel.title, loc="left")
            lowest = ax
            if strips:
                lowest = figure.add_subplot(grid[each * row + 1, column], sharex=ax)
                _draw_strip(lowest, panel, info, labelled=column == 0)
            if column == 0:
                ax.set_ylabel(f"latency ({info.unit})")
            _name_bars(lowest, panel, info, width_in / info.columns - 0.6)
            if strips:
                ax.tick_params(axis="x", which="both", length=0, labelbottom=False)
        figure.legend(
            handles=_legend(info),
            loc="outside upper center",
            title=info.title or None,
            title_fontsize=8.5,
            ncols=3 if small else 4,
            frameon=False,
            handletextpad=0.5,
        )
        characters = int(72 * width_in / PANEL_WIDTH_IN)
        text = "\n".join(textwrap.fill(note, characters) for note in info.notes)
        figure.supxlabel(text, x=0.01, ha="left", fontsize=6.5, color=GREY, linespacing=1.3)
    return figure


def _draw_bars(ax: Axes, panel: BreakdownPanel, info: BreakdownInfo) -> None:
    n = len(info.values)
    ax.grid(visible=False, axis="x")
    known = [bar for bar in panel.bars if bar.known]
    xs = [position(bar.slot, bar.value, n) for bar in known]
    edges = [bar.edges for bar in known]
    for i, part in enumerate(PARTS):
        colour, hatch = _LOOKS[part]
        ax.bar(
            xs,
            [edge[i][1] - edge[i][0] for edge in edges],
            bottom=[edge[i][0] for edge in edges],
            width=0.92 * SLOT_WIDTH / n,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.0,
        )
    halves = [bar.half for bar in known]
    if not all(map(math.isnan, halves)):
        ax.errorbar(xs, [bar.latency for bar in known], yerr=halves, fmt="none", ecolor=INK, elinewidth=0.8)
    below: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "linestyle": "none", "zorder": 5}
    if not info.named:
        for value in range(n):
            here = [position(bar.slot, bar.value, n) for bar in panel.bars if bar.value == value]
            if here:
                ax.plot(
                    here, [-0.035] * len(here), marker=value_marker(value), color=INK, markersize=_VALUE_SIZE, **below
                )
    absent = [position(bar.slot, bar.value, n) for bar in panel.bars if math.isnan(bar.latency)]
    if absent:  # an unclipped artist without data upsets the layout
        ax.plot(absent, [0.04] * len(absent), marker="x", color=GREY, markersize=4, **below)
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set_ylim(*panel.limits())


def _draw_strip(ax: Axes, panel: BreakdownPanel, info: BreakdownInfo, *, labelled: bool) -> None:
    """CPU (filled) and GPU (hollow) of every stage."""
    n = len(info.values)
    highest = 100.0
    for stage in sorted({*info.stages("cpu_pct"), *info.stages("gpu_pct")}):
        bars = [bar for bar in panel.bars if stage < len(bar.cpu_pct)]
        xs = [position(bar.slot, bar.value, n) for bar in bars]
        look: dict[str, Any] = {"marker": _STAGE_MARKERS[stage % len(_STAGE_MARKERS)], "linestyle": "none"}
        look |= {"markersize": _STRIP_SIZE, "color": INK if stage % 2 == 0 else GREY, "markeredgewidth": 0.6}
        cpu, gpu = [bar.cpu_pct[stage] for bar in bars], [bar.gpu_pct[stage] for bar in bars]
        ax.plot(xs, cpu, **look)
        ax.plot(xs, gpu, markerfacecolor="none", **look)
        highest = max([highest, *(percent for percent in (*cpu, *gpu) if math.isfinite(percent))])
    ax.set_ylim(-0.12 * highest, 1.12 * highest)
    ax.set_yticks([0, 100] if highest < 150 else [0, 100 * round(highest / 100)])
    if labelled:
        ax.set_ylabel("busy (%)" if info.has("gpu_pct") else "CPU (%)")


def _name_bars(ax: Axes, panel: BreakdownPanel, info: BreakdownInfo, width_in: float) -> None:
    if not info.named:
        name_cuts(ax, panel.cuts, width_in)
        return
    upright = len(panel.bars) * max(map(len, info.values)) * _CHARACTER_PT > 0.9 * 72 * width_in
    # The middle bar of an odd number stands where its cut's name does: without this its name is left out.
    ax.xaxis.remove_overlapping_locs = False
    ax.set_xticks(
        [position(bar.slot, bar.value, len(info.values)) for bar in panel.bars],
        [info.values[bar.value] for bar in panel.bars],
        minor=True,
        rotation=90 if upright else 0,
        fontsize=_NAME_PT,
    )
    ax.tick_params(axis="x", which="minor", length=0, pad=3)
    name_cuts(ax, panel.cuts, width_in, pad=6 + (max(map(len, info.values)) * _CHARACTER_PT if upright else _NAME_PT))


def _legend(info: BreakdownInfo) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0, label=part)
        for part, (colour, hatch) in _LOOKS.items()
    ]
    look: dict[str, Any] = {"linestyle": "none", "markersize": 4}
    if not info.named:
        handles += [
            Line2D([], [], marker=value_marker(index), color=INK, label=value, **look)
            for index, value in enumerate(info.values)
        ]
    for kind, hollow in (("cpu_pct", False), ("gpu_pct", True)):
        if info.has(kind):
            handles += [
                Line2D(
                    [],
                    [],
                    marker=_STAGE_MARKERS[stage % len(_STAGE_MARKERS)],
                    color=INK if stage % 2 == 0 else GREY,
                    markerfacecolor="none" if hollow else None,
                    label=f"{kind[:3].upper()}, stage {stage + 1}",
                    **look,
                )
                for stage in info.stages(kind)
            ]
    return handles
