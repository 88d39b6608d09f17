"""Charts as plotly.js takes them: traces and a layout, nothing computed. Every text in them is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.comparing.breakdown import PARTS
from analysis.report.breakdowns import Stacks
from analysis.report.fronts import FrontChart, Spot
from analysis.report.quantities import number

Json = dict[str, Any]

# Each at least 3:1 against the page's light and its dark background (WCAG 2.2, 1.4.11).
_COLOURS = ("#2b7bba", "#d55e00", "#009e73", "#9b5fc0", "#b8860b", "#808080")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "hexagon")
_PART_COLOURS = dict(zip(PARTS, ("#2b7bba", "#9b5fc0", "#808080", "#d55e00"), strict=True))
_PART_PATTERNS = dict(zip(PARTS, ("", "x", ".", "/"), strict=True))
"""So that parts can be told apart without colour."""
_GREY, _INK = "#808080", "#333333"
_BAND = "rgba(128, 128, 128, 0.22)"
_FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_HEIGHT_PX = 440
_DIGITS, _TABLE_DIGITS = 6, 4
"""Significant digits of places, which are more than a screen has, and of numbers that the page also writes."""


def front_drawing(chart: FrontChart) -> Json:
    """`data` and `layout` of a front, and `walk`: [trace, point, words] of its points for the keyboard."""
    depths = sorted({spot.depth for spot in (*chart.front, *chart.dominated)}, key=_depth_order)
    traces = _attained(chart)
    if chart.invalid:
        traces.append(_marks(chart.invalid, "invalid round", {"symbol": "x-open", "size": 7, "color": _GREY}))
    on_front = {spot.depth for spot in chart.front}
    for depth in depths:
        spots = [spot for spot in chart.dominated if spot.depth == depth]
        if spots:
            trace = _marks(spots, f"depth {depth}", _marker(depths.index(depth), size=6, opacity=0.5))
            trace |= {"legendgroup": depth, "showlegend": depth not in on_front}
            traces.append(trace | (_bars(spots, 0.45) if chart.bars else {}))
    xs, ys = zip(*dict.fromkeys((_short(spot.x), _short(spot.y)) for spot in chart.front), strict=True)
    line = {"shape": "hv", "color": _GREY, "width": 1.5}
    traces.append(_line(xs, ys, "front", line))
    walk: dict[int, list[Any]] = {}
    for depth in depths:
        places = [i for i, spot in enumerate(chart.front) if spot.depth == depth]
        if not places:
            continue
        spots = [chart.front[i] for i in places]
        marker = _marker(depths.index(depth), size=10, opacity=1.0)
        marker["line"] = {"color": _GREY, "width": [3 if spot.knee else 1 for spot in spots]}
        trace = _marks(spots, f"depth {depth}", marker) | _bars(spots, 1.0)
        labels = [_label(spot) for spot in spots]
        trace |= {"mode": "markers+text", "text": labels, "textposition": "top left", "legendgroup": depth}
        walk |= {i: [len(traces), n, ", ".join(chart.front[i].lines)] for n, i in enumerate(places)}
        traces.append(trace | {"cliponaxis": False})
    layout = _layout(
        {
            "xaxis": _axis(f"latency per batch ({chart.x_unit})", chart.x_range, log=chart.x_log),
            "yaxis": _axis("throughput (images/s)", chart.y_range, log=chart.y_log),
            "hovermode": "closest",
        }
    )
    return {"data": traces, "layout": layout, "walk": [walk[i] for i in sorted(walk)]}


def breakdown_drawing(stacks: Stacks) -> Json:
    """`data` and `layout` of stacked bars, and `table`: how the columns and rows of its numbers are called.

    The columns are the traces in their order, then the last one's interval.
    """
    cuts = [_escaped(cut) for cut in _different([bar.cut for bar in stacks.bars])]
    template = f"%{{fullData.name}} %{{y:.4~g}} {stacks.unit}<extra></extra>"
    traces: list[Json] = [
        {
            "type": "bar",
            "name": part,
            "x": cuts,
            "y": _shorts((bar.parts[k] for bar in stacks.bars), _TABLE_DIGITS),
            "marker": {
                "color": _PART_COLOURS[part],
                "line": {"width": 0},
                "pattern": {"shape": _PART_PATTERNS[part], "fillmode": "overlay", "size": 6, "fgcolor": "#ffffff"},
            },
            "hovertemplate": template,
        }
        for k, part in enumerate(PARTS)
    ]
    latency = {
        "type": "scatter",
        "mode": "markers",
        "name": "latency",
        "x": cuts,
        "y": _shorts((bar.latency for bar in stacks.bars), _TABLE_DIGITS),
        "marker": {"symbol": "line-ew-open", "size": 8, "color": _GREY},
        "error_y": _error([bar.half for bar in stacks.bars], _INK, 1.0, _TABLE_DIGITS),
        "hovertemplate": template,
    }
    layout = _layout(
        {
            "xaxis": {"title": {"text": "cut"}, "type": "category", "automargin": True, "showgrid": False},
            "yaxis": {"title": {"text": f"latency per batch ({stacks.unit})"}, **_plain_axis()},
            "barmode": "relative",
            "bargap": 0.15,
            "hovermode": "x unified",
        }
    )
    header = ["cut", *(f"{name} ({stacks.unit})" for name in (*PARTS, "latency", "± (95 %)"))]
    table = {"header": header, "cuts": [bar.cut for bar in stacks.bars]}
    return {"data": [*traces, latency], "layout": layout, "table": table}


def _attained(chart: FrontChart) -> list[Json]:
    if not chart.band:
        return []
    xs, ys = zip(*chart.band, strict=True)
    band = _line(_shorts(xs), _shorts(ys), "95 % attainment band", {"width": 0, "color": _GREY})
    xs, ys = zip(*chart.median, strict=True)
    median = _line(_shorts(xs), _shorts(ys), "attained in half", {"width": 1, "dash": "dot", "color": _GREY})
    return [band | {"fill": "toself", "fillcolor": _BAND}, median]


def _line(xs: Sequence[float | None], ys: Sequence[float | None], name: str, line: Json) -> Json:
    trace = {"type": "scatter", "mode": "lines", "name": name, "x": list(xs), "y": list(ys)}
    return trace | {"line": line, "hoverinfo": "skip"}


def _marks(spots: Sequence[Spot], name: str, marker: Json) -> Json:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": _shorts(spot.x for spot in spots),
        "y": _shorts(spot.y for spot in spots),
        "marker": marker,
        "hovertext": [_hover(spot.lines) for spot in spots],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _marker(index: int, *, size: int, opacity: float) -> Json:
    symbol = _SYMBOLS[index % len(_SYMBOLS)]
    return {"color": _COLOURS[index % len(_COLOURS)], "symbol": symbol, "size": size, "opacity": opacity}


def _bars(spots: Sequence[Spot], opacity: float) -> Json:
    colour = f"rgba(128, 128, 128, {opacity})"
    return {
        "error_x": _error([spot.x_half for spot in spots], colour, 1.0),
        "error_y": _error([spot.y_half for spot in spots], colour, 1.0),
    }


def _error(halves: Sequence[float], colour: str, thickness: float, digits: int = _DIGITS) -> Json:
    return {"type": "data", "array": _shorts(halves, digits), "color": colour, "thickness": thickness, "width": 0}


def _label(spot: Spot) -> str:
    return f"{spot.number}*" if spot.knee and spot.number else spot.number


def _hover(lines: Sequence[str]) -> str:
    first, *rest = (_escaped(line) for line in lines)
    return "<br>".join([f"<b>{first}</b>", *rest])


def _escaped(text: str) -> str:
    """`text` as plotly.js shows it letter by letter: it reads a few tags and entities in texts."""
    return html.escape(text, quote=False)


def _layout(more: Mapping[str, Any]) -> Json:
    """Transparent, so that the page's colours show; its style sheet sets those of texts and grid."""
    return {
        "height": _HEIGHT_PX,
        "autosize": True,
        "margin": {"l": 60, "r": 14, "t": 14, "b": 50},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"family": _FONT, "size": 13, "color": _INK},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": -0.2,
            "yanchor": "top",
            "itemsizing": "constant",
        },
        "hoverlabel": {
            "align": "left",
            "bgcolor": "#1d2227",
            "bordercolor": "#8a949e",
            "font": {"family": _FONT, "size": 12, "color": "#ffffff"},
        },
        **more,
    }


def _axis(title: str, limits: tuple[float, float], *, log: bool) -> Json:
    axis: Json = {"title": {"text": title}, **_plain_axis()}
    if not log:
        return axis | {"type": "linear", "range": _shorts(limits)}
    low, high = (math.log10(end) for end in limits)
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if limits[0] <= tick <= limits[1]]
    # Of itself plotly.js writes 2 for 20 and for 200.
    axis |= {"type": "log", "range": _shorts((low, high)), "tickvals": shown, "ticktext": [f"{t:g}" for t in shown]}
    return axis


def _plain_axis() -> Json:
    return {
        "automargin": True,
        "zeroline": False,
        "gridcolor": "#e3e3e3",
        "showline": True,
        "linecolor": _GREY,
        "exponentformat": "none",
    }


def _depth_order(depth: str) -> tuple[bool, int]:
    return (not depth.isdigit(), int(depth) if depth.isdigit() else 0)


def _different(names: Sequence[str]) -> list[str]:
    """The names, with a number where one occurs again: bars of one name would be one bar."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return found


def _short(value: object, digits: int = _DIGITS) -> float | None:
    """With so many significant digits; None for what is not finite, which JSON does not have."""
    amount = number(value)
    return float(f"{amount:.{digits}g}") if math.isfinite(amount) else None


def _shorts(values: Iterable[object], digits: int = _DIGITS) -> list[float | None]:
    return [_short(value, digits) for value in values]
