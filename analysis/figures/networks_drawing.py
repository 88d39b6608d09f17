"""Draws a `NetworksInfo`. Holds no decision about the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from analysis.figures.frontier import view
from analysis.figures.label_text import LOOK, page_spots, text_size
from analysis.figures.labels import Box, Point, place_labels
from analysis.figures.networks import DOMINATED, FRONT, VISITED, NetworkMark, NetworksInfo, NetworksPanel
from analysis.figures.style import GREY, INK, theme, value_marker
from analysis.networks.shift import ENTERS, LEAVES, STAYS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_WIDTH_IN, _PANEL_HEIGHT_IN = 6.4, 3.5
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's; shapes and lines tell the networks apart without them."""
_LINES = ("-", (0, (5, 1.6)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))
_ARROW_LINES: dict[str, Any] = {STAYS: "-", ENTERS: (0, (4, 1.5)), LEAVES: (0, (1, 1.5))}
_BEND = {STAYS: 0.0, ENTERS: -0.12, LEAVES: 0.12}
"""At a depth all points lie on one line, by Little's law; straight arrows would cover each other."""
_ARROW_INK = {STAYS: INK, ENTERS: INK, LEAVES: GREY}
_SIZES = {FRONT: 5.2, VISITED: 4.2, DOMINATED: 2.6}
_BASELINE_LARGER = 1.3
"""So that the baseline's mark shows around that of a network where the point has not moved."""
_SHORTEST_ARROW_PT = 12.0
_LEADER_FROM_PT = 12.0
_RASTER_FROM = 500
"""A cloud of more dominated points than this is pixels in the SVG too."""


def draw_networks(info: NetworksInfo) -> Figure:
    """A figure with a panel per network that is compared with the baseline, one below the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    networks = info.networks
    with theme():
        figure = Figure(figsize=(_WIDTH_IN, _PANEL_HEIGHT_IN * len(info.panels) + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(info.panels), 1, squeeze=False)[:, 0]
        for ax, panel in zip(axes, info.panels, strict=True):
            _draw_panel(ax, panel, info, [networks.index(network) for network in panel.networks])
        figure.legend(
            handles=_legend(info),
            loc="outside upper center",
            title=info.title,
            title_fontsize=8.5,
            ncols=6,
            frameon=False,
            handletextpad=0.5,
            columnspacing=1.4,
        )
        figure.supxlabel(info.wrapped_notes(132), x=0.01, ha="left", fontsize=6.5, color=GREY, linespacing=1.3)
        # The layout must be final before a label or an arrow can be measured.
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
        for ax, panel in zip(axes, info.panels, strict=True):
            shapes = [networks.index(network) for network in panel.networks]
            strokes = _draw_arrows(ax, panel, to_points=72.0 / figure.dpi)
            _label_panel(ax, panel, strokes, shapes, info.x_maximised, to_points=72.0 / figure.dpi)
    return figure


def _draw_panel(ax: Axes, panel: NetworksPanel, info: NetworksInfo, shapes: Sequence[int]) -> None:
    ax.set_title(panel.title, loc="left")
    ax.set_xlabel(info.x_label)
    ax.set_ylabel(info.y_label)
    for name, limit in (("x", ax.set_xlim), ("y", ax.set_ylim)):
        log = info.log_scale(name)
        if log:
            _log_axis(ax, name)
        limit(*view(panel.values(name), panel.halves(name), log=log))
    for shape, marks in zip(shapes, panel.marks, strict=True):
        for role in (DOMINATED, VISITED, FRONT):
            _draw_marks(ax, [mark for mark in marks if mark.role == role], role, shape)
    for shape, edge in zip(shapes, panel.edges(x_maximised=info.x_maximised), strict=True):
        if edge:
            ax.plot(*zip(*edge, strict=True), color=_colour(shape), linestyle=_line(shape), linewidth=1.1, zorder=3)


def _log_axis(ax: Axes, name: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set(**{f"{name}scale": "log"})
    side = ax.xaxis if name == "x" else ax.yaxis
    side.set_major_locator(LogLocator(subs=(1, 2, 5)))
    side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    side.set_minor_formatter(NullFormatter())


def _draw_marks(ax: Axes, marks: Sequence[NetworkMark], role: str, shape: int) -> None:
    if not marks:
        return
    xs, ys = [mark.x for mark in marks], [mark.y for mark in marks]
    colour = _colour(shape)
    if role == FRONT:
        for direction, halves in (("xerr", [m.x_half for m in marks]), ("yerr", [m.y_half for m in marks])):
            if not all(map(math.isnan, halves)):
                bars: dict[str, Any] = {direction: halves}
                ax.errorbar(xs, ys, fmt="none", ecolor=INK, elinewidth=0.7, zorder=5, **bars)
    ax.scatter(
        xs,
        ys,
        s=(_SIZES[role] * (1.0 if shape else _BASELINE_LARGER)) ** 2,
        marker=value_marker(shape),
        facecolors=colour if role != VISITED else "white",
        edgecolors={FRONT: INK, VISITED: colour, DOMINATED: "none"}[role],
        linewidths={FRONT: 0.6, VISITED: 0.9, DOMINATED: 0.0}[role],
        alpha=0.35 if role == DOMINATED else 1.0,
        zorder={FRONT: 6, VISITED: 5, DOMINATED: 2}[role],
        rasterized=role == DOMINATED and len(marks) > _RASTER_FROM,
    )


def _draw_arrows(ax: Axes, panel: NetworksPanel, to_points: float) -> list[Box]:
    """Draw the arrows whose ends are apart on the page; returns where they run, as small boxes."""
    strokes: list[Box] = []
    for arrow in panel.arrows:
        start, end = page_spots(ax, [arrow.start, arrow.end], to_points)
        if math.dist(start, end) < _SHORTEST_ARROW_PT:
            continue
        ax.annotate(
            "",
            xy=arrow.end,
            xytext=arrow.start,
            arrowprops={
                "arrowstyle": "-|>",
                "connectionstyle": f"arc3,rad={_BEND[arrow.shift]}",
                "color": _ARROW_INK[arrow.shift],
                "linestyle": _ARROW_LINES[arrow.shift],
                "linewidth": 0.8,
                "alpha": 0.75,
                "shrinkA": 3.5,
                "shrinkB": 4.0,
                "mutation_scale": 8,
            },
            zorder=4,
        ).set_in_layout(False)
        strokes += _along(start, end, _BEND[arrow.shift])
    return strokes


def _along(start: Point, end: Point, bend: float) -> list[Box]:
    """An arrow as small boxes, about 4 points apart: matplotlib's `arc3` is a quadratic Bezier curve."""
    steps = max(1, round(math.dist(start, end) / 4))
    (x1, y1), (x2, y2) = start, end
    x, y = (x1 + x2) / 2 + bend * (y2 - y1), (y1 + y2) / 2 - bend * (x2 - x1)
    places = []
    for i in range(steps + 1):
        t = i / steps
        before, between, after = (1 - t) ** 2, 2 * t * (1 - t), t**2
        places.append((before * x1 + between * x + after * x2, before * y1 + between * y + after * y2))
    return [Box.around(place, 1.0, 1.0) for place in places]


def _label_panel(
    ax: Axes, panel: NetworksPanel, strokes: Sequence[Box], shapes: Sequence[int], x_maximised: bool, to_points: float
) -> None:
    """Name the points of both fronts; labels that have no free place are left out and counted in the corner."""
    named = [
        (shape, mark)
        for shape, marks in zip(shapes, panel.marks, strict=True)
        for mark in sorted(marks, key=lambda mark: (mark.x, mark.y))
        if mark.label
    ]
    spots = page_spots(ax, [(mark.x, mark.y) for _, mark in named], to_points)
    solid = [(mark.x, mark.y) for marks in panel.marks for mark in marks if mark.role != DOMINATED]
    faint = [(mark.x, mark.y) for marks in panel.marks for mark in marks if mark.role == DOMINATED]
    stairs = [box for edge in panel.edges(x_maximised=x_maximised) for box in _edge_boxes(ax, edge, to_points)]
    centres = place_labels(
        spots,
        [text_size(ax, mark.label, to_points) for _, mark in named],
        Box(*(float(side) * to_points for side in ax.bbox.extents)),
        marks=[Box.around(spot, _SIZES[FRONT] + 1, _SIZES[FRONT] + 1) for spot in page_spots(ax, solid, to_points)],
        strokes=[*strokes, *stairs],
        faint=[Box.around(spot, _SIZES[DOMINATED], _SIZES[DOMINATED]) for spot in page_spots(ax, faint, to_points)],
    )
    for (shape, mark), spot, centre in zip(named, spots, centres, strict=True):
        if centre is not None:
            _write_label(ax, mark, (centre[0] - spot[0], centre[1] - spot[1]), _colour(shape))
    if left_out := centres.count(None):
        ax.text(0.99, 0.01, f"{left_out} labels left out", transform=ax.transAxes, ha="right", fontsize=6, color=GREY)


def _edge_boxes(ax: Axes, edge: Sequence[Point], to_points: float) -> list[Box]:
    """The upright and lying lines of an edge, as thin boxes."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(page_spots(ax, edge, to_points)):
        left, right = sorted((x1, x2))
        bottom, top = sorted((y1, y2))
        boxes.append(Box(left - 0.5, bottom - 0.5, right + 0.5, top + 0.5))
    return boxes


def _write_label(ax: Axes, mark: NetworkMark, offset: Point, colour: str) -> None:
    far = math.hypot(*offset) > _LEADER_FROM_PT
    leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3} if far else None
    ax.annotate(
        mark.label,
        (mark.x, mark.y),
        xytext=offset,
        **LOOK,
        arrowprops=leader,
        zorder=7,
    ).set_in_layout(False)


def _colour(shape: int) -> str:
    return _COLOURS[shape % len(_COLOURS)]


def _line(shape: int) -> Any:
    return _LINES[shape % len(_LINES)]


def _legend(info: NetworksInfo) -> list[Line2D]:
    from matplotlib.lines import Line2D

    fronts = [
        Line2D(
            [],
            [],
            color=_colour(shape),
            linestyle=_line(shape),
            linewidth=1.1,
            marker=value_marker(shape),
            markersize=_SIZES[FRONT] * (1.0 if shape else _BASELINE_LARGER),
            markeredgecolor=INK,
            markeredgewidth=0.6,
            label=network,
        )
        for shape, network in enumerate(info.networks)
    ]
    arrows = [
        Line2D([], [], color=_ARROW_INK[shift], linestyle=_ARROW_LINES[shift], linewidth=0.9, label=shift)
        for shift in info.shifts
    ]
    return [*fronts, *arrows]
