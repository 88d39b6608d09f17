"""Draws a `FrontierInfo`. Holds no decision about the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from analysis.figures.frontier import FrontierInfo, Mark, Panel, view, wrapped_notes
from analysis.figures.labels import Box, Point, place_labels
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
_LABEL_SIZE = 7.0
_LEADER_FROM_PT = 12.0


def draw_frontier(info: FrontierInfo) -> Figure:
    """A figure with a panel per model (or group), at most two side by side, each as wide as a column of a paper."""
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    across = min(2, len(info.panels))
    down = math.ceil(len(info.panels) / across)
    with theme():
        colours = ListedColormap(sns.color_palette("viridis", 256)[:218])
        figure = Figure(figsize=(PANEL_WIDTH_IN * across, PANEL_HEIGHT_IN * down + 0.75), layout="constrained")
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
            text = wrapped_notes(info, 78 * across)
            figure.supxlabel(text, x=0.01, ha="left", fontsize=6.5, color=GREY, linespacing=1.3)
        # The layout must be final before a label can be measured against the points.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for ax, panel in zip(axes, info.panels, strict=True):
            _label_panel(ax, panel, info.x_maximised, to_points=72.0 / figure.dpi)
    return figure


def _draw_panel(ax: Axes, panel: Panel, info: FrontierInfo, markers: dict[int, str], colours: Colormap) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_title(panel.title, loc="left")
    ax.set_xlabel(info.x_label)
    ax.set_ylabel(info.y_label)
    for name, side in (("x", ax.xaxis), ("y", ax.yaxis)):
        if info.log_scale(name):
            ax.set(**{f"{name}scale": "log"})
            side.set_major_locator(LogLocator(subs=(1, 2, 5)))
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            side.set_minor_formatter(NullFormatter())
    if panel.marks:
        step = "steps-pre" if info.x_maximised else "steps-post"
        stairs = panel.staircase
        ax.plot(*zip(*stairs, strict=True), drawstyle=step, color=INK, linewidth=1.0, zorder=2)
    else:
        ax.text(0.5, 0.5, "no valid round", transform=ax.transAxes, ha="center", color=GREY)
    for strong in (False, True):
        marks = [mark for mark in panel.marks if mark.on_frontier is strong]
        _draw_marks(ax, marks, markers, colours, strong=strong)
    if panel.invalid:
        xs, ys = zip(*panel.invalid, strict=True)
        ax.scatter(
            xs, ys, marker="X", s=_INVALID_SIZE**2, facecolors="none", edgecolors=GREY, linewidths=0.7, zorder=2.5
        )
    for axis, limit in (("x", ax.set_xlim), ("y", ax.set_ylim)):
        values = panel.values(axis)
        halves = [getattr(mark, f"{axis}_half") for mark in panel.marks] + [0.0] * len(panel.invalid)
        if values:
            limit(*view(values, halves, log=info.log_scale(axis)))


def _draw_marks(ax: Axes, marks: Sequence[Mark], markers: dict[int, str], colours: Colormap, *, strong: bool) -> None:
    """Marks of the front (strong) or dominated ones (light): one collection per depth, bars below."""
    by_depth: dict[int | None, list[Mark]] = {}
    for mark in marks:
        by_depth.setdefault(mark.depth, []).append(mark)
    for depth, group in by_depth.items():
        xs, ys = [mark.x for mark in group], [mark.y for mark in group]
        plain = INK if strong else GREY
        fills = [plain if mark.position is None else colours(mark.position) for mark in group]
        look: dict[str, Any] = {"alpha": 1.0 if strong else 0.3, "zorder": 4 if strong else 3}
        for direction, halves in (("xerr", [m.x_half for m in group]), ("yerr", [m.y_half for m in group])):
            if not all(map(math.isnan, halves)):
                width = 0.9 if strong else 0.5
                bars: dict[str, Any] = {direction: halves, "ecolor": INK if strong else fills, "elinewidth": width}
                ax.errorbar(xs, ys, fmt="none", **bars, **look)
        ax.scatter(
            xs,
            ys,
            s=(_MARK_SIZE if strong else _FAINT_SIZE) ** 2,
            c=fills,
            marker=markers[depth] if depth is not None else "o",
            edgecolors=INK if strong else "none",
            linewidths=0.8 if strong else 0.0,
            **look,
        )


def _legend(info: FrontierInfo, markers: dict[int, str]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    def handle(label: str, marker: str, **style: object) -> Line2D:
        look: dict[str, object] = {"linestyle": "none", "color": INK, "markersize": 5} | style
        return Line2D([], [], marker=marker, label=label, **look)  # type: ignore[arg-type]

    handles = [handle("frontier", "o", linestyle="-", linewidth=1.0)]
    if any(not mark.on_frontier for panel in info.panels for mark in panel.marks):
        handles.append(handle("dominated", "o", color=FAINT, markersize=_FAINT_SIZE))
    if any(panel.invalid for panel in info.panels):
        handles.append(handle("invalid round", "X", markerfacecolor="none", markeredgecolor=GREY, markeredgewidth=0.7))
    handles += [handle(f"depth {depth}", marker, markerfacecolor="none") for depth, marker in markers.items()]
    return handles


def _label_panel(ax: Axes, panel: Panel, x_maximised: bool, to_points: float) -> None:
    """Name the front's points; a label that has no free place is left out and counted in the corner."""
    named = sorted((mark for mark in panel.marks if mark.on_frontier and mark.label), key=lambda mark: (mark.x, mark.y))
    if not named:
        return
    spots = _spots(ax, [(mark.x, mark.y) for mark in named], to_points)
    dominated = [(mark.x, mark.y) for mark in panel.marks if not mark.on_frontier]
    faint = [Box.around(spot, _FAINT_SIZE, _FAINT_SIZE) for spot in _spots(ax, dominated, to_points)]
    apart = [Box.around(spot, _INVALID_SIZE, _INVALID_SIZE) for spot in _spots(ax, panel.invalid, to_points)]
    centres = place_labels(
        spots,
        [_text_size(ax, mark.label, to_points) for mark in named],
        Box(*(float(side) * to_points for side in ax.bbox.extents)),
        marks=[Box.around(spot, _MARK_SIZE + 1, _MARK_SIZE + 1) for spot in spots],
        strokes=[*_stairs(spots, x_maximised), *_bars(ax, named, to_points), *apart],
        faint=faint,
    )
    for mark, spot, centre in zip(named, spots, centres, strict=True):
        if centre is not None:
            _write_label(ax, mark, (centre[0] - spot[0], centre[1] - spot[1]))
    if left_out := centres.count(None):
        ax.text(0.99, 0.01, f"{left_out} labels left out", transform=ax.transAxes, ha="right", fontsize=6, color=GREY)


def _spots(ax: Axes, places: Sequence[Point], to_points: float) -> list[Point]:
    """Where data coordinates are on the page, in points."""
    if not places:
        return []
    return [(float(x) * to_points, float(y) * to_points) for x, y in ax.transData.transform(list(places))]


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
                (left, bottom), (right, top) = _spots(ax, ends, to_points)
                boxes.append(Box(left - 0.5, bottom - 0.5, right + 0.5, top + 0.5))
    return boxes


def _text_size(ax: Axes, label: str, to_points: float) -> tuple[float, float]:
    text = ax.text(0, 0, label, fontsize=_LABEL_SIZE)
    extent = text.get_window_extent()
    text.remove()
    return extent.width * to_points + 2, extent.height * to_points + 1


def _write_label(ax: Axes, mark: Mark, offset: Point) -> None:
    far = math.hypot(*offset) > _LEADER_FROM_PT
    leader = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3} if far else None
    label = ax.annotate(
        mark.label,
        (mark.x, mark.y),
        xytext=offset,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=_LABEL_SIZE,
        color=INK,
        arrowprops=leader,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.7, "edgecolor": "none"},
        zorder=6,
    )
    label.set_in_layout(False)
