"""The front of a model under a network as the page draws it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.figures.frontier import LOG_FROM_RATIO, SECONDS_FROM_S, view
from analysis.figures.staircase import Place, Staircase, between
from analysis.operating_points import HIGH, LOW
from analysis.report.points import brief, cut_words, latency_words, point_lines, throughput_words
from analysis.report.quantities import count, number, percent
from analysis.report.validity import depth_text

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fronts.marking import Attainment, Front

MOST_DOMINATED = 600
"""Dominated points of a chart: those of the lowest rank, then those nearest to the ideal."""
BARS_UP_TO = 120
"""With more points only those of the front have their intervals drawn."""
MOST_INVALID = 100
SURE = 0.95
_LABEL_WIDTH, _LABEL_HEIGHT = 0.035, 0.055
"""Room of a number in a chart, as parts of its width and height."""
_GRID = 2000
"""Places across a chart, and up, that its lines are drawn to."""


@dataclass(frozen=True)
class Spot:
    """One operating point of a chart, in the units of the axes."""

    x: float
    y: float
    x_half: float
    """Half widths of the 95 % t-intervals; NaN where there is none."""
    y_half: float
    depth: str
    lines: tuple[str, ...]
    number: str = ""
    """Row of the chart's table, empty where it has none or where it would hide another one's."""
    knee: bool = False


@dataclass(frozen=True)
class FrontChart:
    """What the chart of one front shows."""

    front: tuple[Spot, ...]
    """Latency ascending."""
    dominated: tuple[Spot, ...]
    invalid: tuple[Spot, ...]
    """Single rounds that broke a check; in no average."""
    band: tuple[Place, ...]
    """Outline of the area between what is attained in 97.5 % and in 2.5 % of the draws; empty where not known."""
    median: tuple[Place, ...]
    """Corners of the line attained in half of the draws."""
    x_unit: str
    x_range: Place
    y_range: Place
    x_log: bool
    y_log: bool
    bars: bool
    """Whether dominated points have their intervals drawn."""
    notes: tuple[str, ...]


def get_front_chart(
    points: pd.DataFrame, invalid: pd.DataFrame, front: Front, hosts: Mapping[str, Sequence[str]]
) -> FrontChart | None:
    """The chart of the marked operating points of one front; None where none is valid.

    `invalid` are the invalid records of the same model and network, `hosts` the hosts of each pipeline.
    """
    valid = points[points["rounds"] > 0]
    on = valid[valid["on_frontier"]].sort_values(["latency_s", "throughput_img_s"], kind="stable")
    if on.empty:
        return None
    rest = valid[~valid["on_frontier"]].sort_values(["dominance_rank", "utopia_distance"], kind="stable")
    shown = rest.head(MOST_DOMINATED)
    invalid = invalid[invalid[["latency_s", "throughput_img_s"]].notna().all(axis=1)]
    drawn = invalid.head(MOST_INVALID)
    slowest = max([*on["latency_s"], *shown["latency_s"], *drawn["latency_s"]])
    unit, factor = ("s", 1.0) if slowest >= SECONDS_FROM_S else ("ms", 1e3)
    best = tuple(_spot(row, hosts, factor, unit) for row in _rows(on))
    others = tuple(_spot(row, hosts, factor, unit) for row in _rows(shown))
    apart = tuple(_invalid_spot(row, factor) for row in _rows(drawn))
    x_log, y_log = (_spans_much([getattr(spot, axis) for spot in (*best, *others, *apart)]) for axis in "xy")
    bars = len(best) + len(others) <= BARS_UP_TO
    with_bars = (*best, *others) if bars else best
    everything = [*with_bars, *([] if bars else others), *apart]
    x_range, y_range = (
        view(
            [getattr(spot, axis) for spot in everything],
            [getattr(spot, f"{axis}_half") for spot in with_bars] + [0.0] * (len(everything) - len(with_bars)),
            log=log,
        )
        for axis, log in (("x", x_log), ("y", y_log))
    )
    band, median = _attained(front.attainment, factor, (x_range, x_log), (y_range, y_log))
    return FrontChart(
        front=_numbered(best, (x_range, x_log), (y_range, y_log)),
        dominated=others,
        invalid=apart,
        band=band,
        median=median,
        x_unit=unit,
        x_range=x_range,
        y_range=y_range,
        x_log=x_log,
        y_log=y_log,
        bars=bars,
        notes=_notes(valid, len(rest) - len(shown), len(invalid) - len(drawn), bool(apart), bool(band), bars),
    )


def front_words(points: pd.DataFrame, front: Front, draws: int) -> tuple[str, ...]:
    """The front in sentences: its ends and its knee, how sure it is, and what not splitting gives."""
    valid = points[points["rounds"] > 0]
    on = valid[valid["on_frontier"]]
    if on.empty:
        return (f"{count(len(points), 'operating point')}, none with a valid round.",)
    words = [
        f"{count(len(valid), 'operating point')} with a valid round, {len(on)} of them on the front.",
        f"Lowest latency: {brief(_best(on, 'latency_s', maximise=False))}.",
        f"Highest throughput: {brief(_best(on, 'throughput_img_s', maximise=True))}.",
    ]
    knee = on[on["knee"]]
    if len(knee):
        words.append(f"Knee: {brief(_rows(knee)[0])}.")
    for placement in ("all local", "all remote"):
        alone = valid[valid["placement"] == placement]
        if len(alone):
            fastest, most = _best(alone, "latency_s", maximise=False), _best(alone, "throughput_img_s", maximise=True)
            ends = f"lowest latency {latency_words(fastest)}, highest throughput {throughput_words(most)}"
            words.append(f"Not split, {placement}: {ends}.")
    known = on["membership"].notna()
    if known.any():
        sure = int((on["membership"] >= SURE).sum())
        words.append(
            f"{sure} of {len(on)} are on the front in at least {percent(SURE)} of {draws:,} draws of random means."
        )
    if not known.all():
        words.append(f"{count(int((~known).sum()), 'point')} of the front with one round: no interval, no membership.")
    words.append(_hypervolume_words(front))
    return tuple(words)


def _hypervolume_words(front: Front) -> str:
    interval = "no interval"
    if math.isfinite(front.hypervolume_low):
        interval = f"95 % interval {front.hypervolume_low:.4g} to {front.hypervolume_high:.4g}"
    return f"Hypervolume {front.hypervolume:.4g} images ({interval}), reference: {front.reference_words}."


def _best(points: pd.DataFrame, column: str, *, maximise: bool) -> dict[str, Any]:
    return _rows(points.sort_values(column, ascending=not maximise, kind="stable").head(1))[0]


def _rows(points: pd.DataFrame) -> list[dict[str, Any]]:
    names = [str(name) for name in points.columns]
    # Column by column: a frame's own rows of mixed kinds are slow.
    return [dict(zip(names, row, strict=True)) for row in zip(*(points[n].tolist() for n in names), strict=True)]


def _spot(row: Mapping[str, Any], hosts: Mapping[str, Sequence[str]], factor: float, unit: str) -> Spot:
    return Spot(
        x=row["latency_s"] * factor,
        y=row["throughput_img_s"],
        x_half=(row["latency_s" + HIGH] - row["latency_s" + LOW]) / 2 * factor,
        y_half=(row["throughput_img_s" + HIGH] - row["throughput_img_s" + LOW]) / 2,
        depth=depth_text(row["depth"]),
        lines=tuple(point_lines(row, hosts.get(str(row["pipeline"]), ()), factor, unit)),
        knee=bool(row["knee"]),
    )


def _invalid_spot(row: Mapping[str, Any], factor: float) -> Spot:
    lines = (
        f"invalid: {cut_words({**row, 'placement': ''})}, depth {depth_text(row['depth'])}, {row['backend']}",
        f"round {depth_text(row['round'])}: {row['invalid_reason']}",
    )
    x, y = number(row["latency_s"]) * factor, number(row["throughput_img_s"])
    return Spot(x, y, math.nan, math.nan, depth_text(row["depth"]), lines)


def _spans_much(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= LOG_FROM_RATIO


def _numbered(spots: Sequence[Spot], x_axis: tuple[Place, bool], y_axis: tuple[Place, bool]) -> tuple[Spot, ...]:
    """The spots with their numbers from 1, but for those too near to one that has its number; ends and knee first."""
    places = [(_part(spot.x, *x_axis), _part(spot.y, *y_axis)) for spot in spots]
    ends = {0, len(spots) - 1}
    order = sorted(range(len(spots)), key=lambda i: (i not in ends, not spots[i].knee, i))
    taken: list[Place] = []
    numbers: dict[int, str] = {}
    for i in order:
        u, v = places[i]
        if all(abs(u - a) >= _LABEL_WIDTH or abs(v - b) >= _LABEL_HEIGHT for a, b in taken):
            taken.append((u, v))
            numbers[i] = str(i + 1)
    return tuple(
        Spot(s.x, s.y, s.x_half, s.y_half, s.depth, s.lines, numbers.get(i, ""), s.knee) for i, s in enumerate(spots)
    )


def _part(value: float, limits: Place, log: bool) -> float:
    low, high, here = (math.log10(v) if log else v for v in (*limits, value))
    return (here - low) / (high - low) if high > low else 0.5


def _attained(
    found: Attainment | None, factor: float, x_axis: tuple[Place, bool], y_axis: tuple[Place, bool]
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Outline of the band, and the corners of the median line; both reach to the right and the bottom of the chart."""
    if found is None:
        return (), ()
    right, bottom = x_axis[0][1], y_axis[0][0]
    steps = [Staircase((x * factor, y) for x, y in line) for line in (found.low, found.median, found.high)]
    right = max([right, *(x for staircase in steps for x, _ in staircase.points)])
    edges = (staircase.edge(right, bottom, x_maximised=False) for staircase in steps)
    low, median, high = (_visible(edge, x_axis, y_axis) for edge in edges)
    return tuple(between(low, high)), tuple(median)


def _visible(corners: Sequence[Place], x_axis: tuple[Place, bool], y_axis: tuple[Place, bool]) -> list[Place]:
    """The corners without those that no screen tells from the one before: of a thousand draws there are thousands."""
    import numpy as np

    places = np.array(corners, dtype=float).reshape(-1, 2)
    spots = np.zeros(places.shape, dtype=np.int64)
    for k, (limits, log) in enumerate((x_axis, y_axis)):
        # Beyond the axes nothing is drawn, and on a logarithmic one nothing at or below 0 could be.
        places[:, k] = np.clip(places[:, k], *limits)
        along, (low, high) = (np.log10(v) if log else np.asarray(v) for v in (places[:, k], limits))
        if high > low:
            spots[:, k] = np.rint((along - low) / (high - low) * _GRID)
    new = np.ones(len(spots), dtype=np.bool_)
    new[1:] = (spots[1:] != spots[:-1]).any(axis=1)
    return [(x, y) for x, y in places[new].tolist()]


def _notes(
    valid: pd.DataFrame, dominated_left_out: int, invalid_left_out: int, invalid: bool, band: bool, bars: bool
) -> tuple[str, ...]:
    rounds = sorted({int(n) for n in valid["rounds"]})
    span = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    notes = []
    if rounds == [1]:
        notes.append("One round per point: no intervals.")
    else:
        whose = "" if bars else " (of points on the front; the others' are shown when you point at them)"
        notes.append(f"Means of {span} rounds; bars: 95 % t-intervals over rounds{whose}.")
    notes.append("Numbers are rows of the table, * is the knee; a number that would hide another one is left out.")
    if band:
        notes.append("Shaded: between the fronts attained in 97.5 % and in 2.5 % of the draws; dotted: in 50 %.")
    if invalid:
        notes.append("×: single rounds that broke a check; in no average.")
    if dominated_left_out:
        notes.append(
            f"{count(dominated_left_out, 'dominated point')} not drawn: of a chart's dominated points the"
            f" {MOST_DOMINATED} of lowest rank, then nearest to the ideal, are; the embedded data has all."
        )
    if invalid_left_out:
        notes.append(f"{count(invalid_left_out, 'invalid round')} not drawn: only the first {MOST_INVALID} are.")
    return tuple(notes)
