"""Draws a `FrontierInfo`. Holds no decision about the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from analysis.figures.frontier import FrontierInfo, Mark, Panel, view, wrapped_notes
from analysis.figures.label_text import LOOK, page_spots, text_size
from analysis.figures.labels import Box, Point, leader_end, place_labels
from analysis.figures.staircase import between
from analysis.figures.style import FAINT, GREY, INK, PANEL_HEIGHT_IN, PANEL_WIDTH_IN, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MARKERS = "osD^vPh*<>"
_MARK_SIZE = 5.5
_FAINT_SIZE = 3.8
_INVALID_SIZE = 5.1
_KNEE_SIZE = 10.0
_LEADER_FROM_PT = 12.0
_BAND = "#d9dde6"
_IMAGE_DPI = 200
"""Of an image within the SVG."""
_IMAGE_FROM = 1000
"""From so many dominated points on they are an image within the SVG: as shapes they make it megabytes."""


def draw_frontier(info: FrontierInfo) -> Figure:
    """A figure with a panel per model (or group, or pair of objectives), each as wide as a column of a paper."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    across = min(info.columns, len(info.panels))
    down = math.ceil(len(info.panels) / across)
    with theme():
        # Without its lightest end, which is hard to see on white.
        colours = ListedColormap(colormaps["viridis"](range(218)))
        size = (PANEL_WIDTH_IN * across, PANEL_HEIGHT_IN * down + 0.75)
        figure = Figure(figsize=size, layout="constrained", dpi=_IMAGE_DPI)
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, across, squeeze=False)
        axes = list(grid.flat)
        for ax in axes[len(info.panels) :]:
            ax.remove()
        axes = axes[: len(info.panels)]
        markers = {depth: _MARKERS[i % len(_MARKERS)] for i, depth in enumerate(info.depths)}
        for ax, panel in zip(axes, info.panels, strict=True):
            _draw_panel(ax, panel, info, markers, colours)
        if info.position_label:
            bar = figure.colorbar(
                ScalarMappable(cmap=colours),
                ax=axes,
                aspect=28,
                pad=0.02,
                fraction=0.04,
                shrink=max(1 / down, 0.4),
                anchor=(0, 1),
            )
            bar.set_ticks([0, 0.5, 1], labels=["all\nremote", "half", "all\nlocal"])
            bar.set_label(info.position_label, labelpad=-4)
            bar.outline.set_visible(False)
        figure.legend(
            handles=_legend(info, markers),
            loc="outside upper center",
            title=info.title or None,
            title_fontsize=8.5,
            ncols=3 * across,
            frameon=False,
            handletextpad=0.4,
        )
        if info.notes:
            text = wrapped_notes(info, 72 * across)
            figure.supxlabel(text, x=0.01, ha="left", fontsize=6.5, color=GREY, linespacing=1.3)
        # The layout must be final before a label can be measured against the points.
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
        for ax, panel in zip(axes, info.panels, strict=True):
            _label_panel(ax, panel, info.x_maximised, to_points=72.0 / figure.dpi)
    return figure


def _draw_panel(ax: Axes, panel: Panel, info: FrontierInfo, markers: dict[int, str], colours: Colormap) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_title(panel.title, loc="left")
    ax.set_xlabel(info.axis_label("x", panel))
    ax.set_ylabel(info.axis_label("y", panel))
    for name, side in (("x", ax.xaxis), ("y", ax.yaxis)):
        if info.log_scale(name, panel):
            ax.set(**{f"{name}scale": "log"})
            side.set_major_locator(LogLocator(subs=(1, 2, 5)))
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            side.set_minor_formatter(NullFormatter())
    if stairs := panel.staircase:
        step = "steps-pre" if info.x_maximised else "steps-post"
        ax.plot(*zip(*stairs, strict=True), drawstyle=step, color=INK, linewidth=1.0, zorder=2)
    if not panel.marks:
        ax.text(0.5, 0.5, "no valid round", transform=ax.transAxes, ha="center", color=GREY)
    for strong in (False, True):
        marks = [mark for mark in panel.marks if mark.on_frontier is strong]
        _draw_marks(ax, marks, markers, colours, strong=strong, bars=strong or panel.dominated_bars)
    if knees := [mark for mark in panel.marks if mark.knee]:
        across, up = [mark.x for mark in knees], [mark.y for mark in knees]
        ax.scatter(across, up, s=_KNEE_SIZE**2, facecolors="none", edgecolors=INK, linewidths=0.9, zorder=5)
    if panel.invalid:
        xs, ys = zip(*panel.invalid, strict=True)
        ax.scatter(
            xs,
            ys,
            marker="X",
            s=_INVALID_SIZE**2,
            facecolors="none",
            edgecolors=GREY,
            linewidths=0.7,
            zorder=2.5,
            rasterized=len(xs) >= _IMAGE_FROM,
        )
    for axis, limit in (("x", ax.set_xlim), ("y", ax.set_ylim)):
        values = panel.values(axis)
        halves = [mark.x_half if axis == "x" else mark.y_half for mark in panel.marks] + [0.0] * len(panel.invalid)
        if values:
            limit(*view(values, halves, log=info.log_scale(axis, panel)))
    _draw_band(ax, panel, info)


def _draw_band(ax: Axes, panel: Panel, info: FrontierInfo) -> None:
    """The band and its median, out to the worse ends of the axes, which are final."""
    import numpy as np
    from matplotlib.collections import PolyCollection

    if panel.band is None:
        return
    worst_x = ax.get_xlim()[0 if info.x_maximised else 1]
    worst_y = ax.get_ylim()[0 if info.y_maximised else 1]
    lines = (panel.band.low, panel.band.median, panel.band.high)
    low, median, high = (line.edge(worst_x, worst_y, x_maximised=info.x_maximised) for line in lines)
    if outline := between(low, high):
        shade = PolyCollection([np.array(outline)], facecolors=_BAND, edgecolors="none", zorder=1)
        ax.add_collection(shade, autolim=False)
    if median:
        ax.plot(*np.array(median).T, color=GREY, linewidth=0.9, linestyle=":", zorder=1.5)


def _draw_marks(
    ax: Axes,
    marks: Sequence[Mark],
    markers: dict[int, str],
    colours: Colormap,
    *,
    strong: bool,
    bars: bool,
) -> None:
    """Marks of the front (strong) or dominated ones (light): one collection per depth, bars below."""
    import numpy as np
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    by_depth: dict[int | None, list[Mark]] = {}
    for mark in marks:
        by_depth.setdefault(mark.depth, []).append(mark)
    look: dict[str, Any] = {"alpha": 1.0 if strong else 0.3, "zorder": 4 if strong else 3}
    image = not strong and len(marks) >= _IMAGE_FROM
    for depth, group in by_depth.items():
        places = np.array([(mark.x, mark.y) for mark in group])
        positions = np.array([math.nan if mark.position is None else mark.position for mark in group])
        plain = np.array(to_rgba(INK if strong else GREY))
        fills = np.where(np.isnan(positions)[:, None], plain, colours(np.nan_to_num(positions)))
        halves = np.array([(mark.x_half, mark.y_half) for mark in group])
        for axis in (0, 1) if bars else ():
            known = np.flatnonzero(np.isfinite(halves[:, axis]))
            reach = np.zeros((len(known), 2))
            reach[:, axis] = halves[known, axis]
            ends = np.stack([places[known] - reach, places[known] + reach], axis=1)
            width, ink = (0.9, INK) if strong else (0.5, fills[known])
            ax.add_collection(LineCollection(list(ends), colors=ink, linewidths=width, **look), autolim=False)
        ax.scatter(
            places[:, 0],
            places[:, 1],
            s=(_MARK_SIZE if strong else _FAINT_SIZE) ** 2,
            c=fills,
            marker=markers[depth] if depth is not None else "o",
            edgecolors=INK if strong else "none",
            linewidths=0.8 if strong else 0.0,
            rasterized=image,
            **look,
        )
        doubtful = np.array([mark.doubtful for mark in group])
        if not strong and doubtful.any():
            ax.scatter(
                places[doubtful, 0],
                places[doubtful, 1],
                s=(_FAINT_SIZE + 1) ** 2,
                marker=markers[depth] if depth is not None else "o",
                facecolors="none",
                edgecolors=INK,
                linewidths=0.5,
                zorder=3.5,
            )


def _legend(info: FrontierInfo, markers: dict[int, str]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    def handle(label: str, marker: str, **style: object) -> Line2D:
        look: dict[str, object] = {"linestyle": "none", "color": INK, "markersize": 5} | style
        return Line2D([], [], marker=marker, label=label, **look)  # type: ignore[arg-type]

    marks = [mark for panel in info.panels for mark in panel.marks]
    line = "-" if any(panel.staircase for panel in info.panels) else "none"
    handles = [handle("frontier", "o", linestyle=line, linewidth=1.0)]
    if any(not mark.on_frontier for mark in marks):
        handles.append(handle("dominated", "o", color=FAINT, markersize=_FAINT_SIZE))
    if any(mark.doubtful and not mark.on_frontier for mark in marks):
        handles.append(handle("on it in 5-95 % of draws", "o", markerfacecolor="none", markeredgewidth=0.5))
    if any(panel.invalid for panel in info.panels):
        handles.append(handle("invalid round", "X", markerfacecolor="none", markeredgecolor=GREY, markeredgewidth=0.7))
    if any(mark.knee for mark in marks):
        handles.append(handle("knee", "o", markerfacecolor="none", markersize=_KNEE_SIZE * 0.8, markeredgewidth=0.9))
    handles += [handle(f"depth {depth}", marker, markerfacecolor="none") for depth, marker in markers.items()]
    return handles


def _label_panel(ax: Axes, panel: Panel, x_maximised: bool, to_points: float) -> None:
    """Name the front's points; a label that has no free place is left out and counted above."""
    front, named = panel.nameable, panel.named
    if not named:
        return
    spots = page_spots(ax, [(mark.x, mark.y) for mark in named], to_points)
    others = page_spots(ax, [(mark.x, mark.y) for mark in front], to_points)
    dominated = [(mark.x, mark.y) for mark in panel.marks if not mark.on_frontier]
    faint = [Box.around(spot, _FAINT_SIZE, _FAINT_SIZE) for spot in page_spots(ax, dominated, to_points)]
    apart = [Box.around(spot, _INVALID_SIZE, _INVALID_SIZE) for spot in page_spots(ax, panel.invalid, to_points)]
    sizes = [text_size(ax, mark.caption, to_points) for mark in named]
    centres = place_labels(
        spots,
        sizes,
        Box(*(float(side) * to_points for side in ax.bbox.extents)),
        marks=[Box.around(spot, _MARK_SIZE + 1, _MARK_SIZE + 1) for spot in others],
        strokes=[
            *_stairs(page_spots(ax, panel.staircase, to_points), x_maximised),
            *_bars(ax, named, to_points),
            *apart,
        ],
        faint=faint,
    )
    leaders = []
    for mark, spot, size, centre in zip(named, spots, sizes, centres, strict=True):
        if centre is not None:
            _write_label(ax, mark, (centre[0] - spot[0], centre[1] - spot[1]))
            if math.dist(centre, spot) > _LEADER_FROM_PT:
                leaders.append([spot, leader_end(spot, centre, size)])
    _draw_leaders(ax, leaders, to_points)
    if left_out := centres.count(None) + len(front) - len(named):
        words = f"{left_out} label{'s' if left_out > 1 else ''} left out"
        ax.text(1.0, 1.02, words, transform=ax.transAxes, ha="right", fontsize=6, color=GREY)


def _stairs(spots: Sequence[Point], x_maximised: bool) -> list[Box]:
    """The lines of the staircase through `spots`, as thin boxes."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(spots):
        low, high = sorted((y1, y2))
        corner_x, corner_y = (x1, y2) if x_maximised else (x2, y1)
        boxes += [Box(x1, corner_y - 0.5, x2, corner_y + 0.5), Box(corner_x - 0.5, low, corner_x + 0.5, high)]
    return boxes


def _bars(ax: Axes, marks: Sequence[Mark], to_points: float) -> list[Box]:
    """The error bars, as thin boxes."""
    boxes = []
    for mark in marks:
        reaches = [(mark.x_half, 0.0), (0.0, mark.y_half)]
        for dx, dy in reaches:
            if math.isfinite(dx + dy):
                ends = [(mark.x - dx, mark.y - dy), (mark.x + dx, mark.y + dy)]
                (left, bottom), (right, top) = page_spots(ax, ends, to_points)
                boxes.append(Box(left - 0.5, bottom - 0.5, right + 0.5, top + 0.5))
    return boxes


def _write_label(ax: Axes, mark: Mark, offset: Point) -> None:
    label = ax.annotate(
        mark.caption,
        (mark.x, mark.y),
        xytext=offset,
        **LOOK,
        zorder=6,
    )
    label.set_in_layout(False)


def _draw_leaders(ax: Axes, lines: Sequence[Sequence[Point]], to_points: float) -> None:
    """Thin lines below the marks, from a point to a label that is not right beside it; places in points."""
    import numpy as np
    from matplotlib.collections import LineCollection

    if lines:
        ends = ax.transData.inverted().transform(np.array(lines).reshape(-1, 2) / to_points).reshape(-1, 2, 2)
        leaders = LineCollection(list(ends), colors=GREY, linewidths=0.5, zorder=3.9)
        ax.add_collection(leaders, autolim=False)
