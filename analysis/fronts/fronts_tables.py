"""What `pp-analyze frontier` prints of a run's fronts, and their rows for csv. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.comparing.comparison import place_words
from analysis.figures.frontier import HARDLY, point_label
from analysis.fronts.marking import ATTAINED_PCT, Front, Fronts
from analysis.markup import Column
from analysis.numbers import MISSING, NO_INTERVAL, alike, significant, with_uncertainty
from analysis.objectives import LATENCY, THROUGHPUT, Objective, columns_of, directions, numeric
from analysis.operating_points import CHOICES, HIGH, varying
from analysis.tables import frontier_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_PRINTED = {LATENCY.column, THROUGHPUT.column, "depth", "batch_size"}
_KNEE = "*"


def points_columns(points: pd.DataFrame, by: str, objectives: Sequence[Objective], *, ranked: bool) -> list[Column]:
    """The printed front (or, `ranked`, all points): where, at which depth, the objectives, how sure it is, rounds."""
    places = zip(points["split"], points["placement"], strict=True)
    splits = Column("split", tuple(place_words(str(split), str(where)) for split, where in places))
    columns = [splits if column.header == "split" else column for column in frontier_table(points, by)]
    place = next(i for i, column in enumerate(columns) if column.header == "n")
    more = [_objective(points, o.column) for o in objectives if o.column not in _PRINTED]
    if ranked:
        more.append(Column("rank", tuple(map(_rank, points["dominance_rank"])), right=True))
    more.append(Column("p front", tuple(map(_membership, points["membership"])), right=True))
    knees = tuple(_KNEE if knee else "" for knee in points["knee"])
    if any(knees):
        more.append(Column("knee", knees, drop=4))
    return [*columns[:place], *more, *columns[place:]]


def _objective(points: pd.DataFrame, column: str) -> Column:
    means = numeric(points, [column])[:, 0].tolist()
    if column + HIGH not in points.columns:
        return Column(column, tuple(significant(mean, 4) for mean in means), right=True)
    highs = numeric(points, [column + HIGH])[:, 0].tolist()
    pairs = zip(means, highs, strict=True)
    return Column(column, tuple(with_uncertainty(mean, high - mean) for mean, high in pairs), right=True)


def _membership(share: float) -> str:
    """`0.97`: share of draws with the point on the front; `n/a` with fewer than two rounds."""
    return NO_INTERVAL if math.isnan(share) else f"{share:.2f}"


def _rank(rank: float) -> str:
    return MISSING if math.isnan(rank) else f"{rank:.0f}"


def summary_rows(fronts: Fronts) -> list[dict[str, Any]]:
    """One row per front with a valid point, by their keys: the key, sizes, hypervolume, knee, then the reference."""
    shown = sorted(filter(has_valid, fronts.fronts), key=lambda front: tuple(front.key.values()))
    return [_summary(front, fronts.points.loc[front.index]) for front in shown]


def has_valid(front: Front) -> bool:
    """Whether a point of the front has a value of every objective."""
    return not math.isnan(front.hypervolume)


def _summary(front: Front, points: pd.DataFrame) -> dict[str, Any]:
    best = points[points["on_frontier"]]
    named = varying(best, CHOICES)
    nearest = best[best["utopia_distance"] == best["utopia_distance"].min()]
    row: dict[str, Any] = {
        **front.key,
        "points": int(points["dominance_rank"].notna().sum()),
        "on_frontier": len(best),
        "hypervolume": front.hypervolume,
        "hypervolume_low": front.hypervolume_low,
        "hypervolume_high": front.hypervolume_high,
        "knee": _names(best[best["knee"]], named),
        "nearest_ideal": _names(nearest, named),
    }
    for objective, value in zip(front.objectives, front.reference, strict=True):
        row[f"reference_{objective.column}"] = value
    return row | {"reference": front.reference_words}


def _names(points: pd.DataFrame, named: Sequence[str]) -> str:
    rows = points.to_dict("records")
    return ", ".join(point_label({str(key): value for key, value in row.items()}, named) for row in rows)


def summary_columns(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[Column]:
    """The printed table of fronts; `keys` are the columns that tell them apart."""
    volumes, intervals = [], []
    for row in rows:
        volume, low, high = alike([row["hypervolume"], row["hypervolume_low"], row["hypervolume_high"]])
        volumes.append(volume)
        intervals.append(NO_INTERVAL if math.isnan(row["hypervolume_low"]) else f"{low} to {high}")
    return [
        *(Column(key, tuple(str(row[key]) for row in rows), elastic=True) for key in keys),
        Column("on front", tuple(f"{row['on_frontier']} of {row['points']}" for row in rows), right=True),
        Column("hypervolume", tuple(volumes), right=True),
        Column("95 % of draws", tuple(intervals), right=True),
        Column("knee", tuple(row["knee"] or MISSING for row in rows), elastic=True),
        Column("nearest ideal", tuple(row["nearest_ideal"] for row in rows), elastic=True, drop=1),
    ]


def attainment_rows(fronts: Sequence[Front]) -> list[dict[str, Any]]:
    """Every corner of the three lines of the fronts that have them: key, share of draws in percent, objectives."""
    rows = []
    for front in fronts:
        if front.attainment is None:
            continue
        lines = (front.attainment.low, front.attainment.median, front.attainment.high)
        for percent, line in zip(ATTAINED_PCT, lines, strict=True):
            for place in line.tolist():
                values = dict(zip(columns_of(front.objectives), place, strict=True))
                rows.append({**front.key, "attained_in_pct_of_draws": percent, **values})
    return rows


def front_remarks(fronts: Fronts) -> list[str]:
    """What the tables' terms mean, what the hypervolume is against, and what the draws do not know."""
    points = fronts.points
    shown = [front for front in fronts.fronts if has_valid(front)]
    if not shown:
        return []
    objectives = shown[0].objectives
    lines = [
        f"p front: share of {fronts.draws} random draws of the rounds in which the point is on the front; "
        "knee: furthest from the line through the front's ends"
    ]
    units = " x ".join(columns_of(objectives))
    references = dict.fromkeys((front.key["model"], front.reference_words) for front in shown)
    given = len({words for _, words in references}) == 1
    for model, words in list(references)[: 1 if given else None]:
        lines.append(f"hypervolume{'' if given else f' of {model}'}: in {units}, against {words}")
    beyond = points["on_frontier"] & _beyond(points, shown)
    if beyond.any():
        lines.append(
            f"points on a front that are no better than the reference and add no hypervolume: {int(beyond.sum())}"
        )
    unsure = int(((points["membership"] >= HARDLY) & ~points["on_frontier"]).sum())
    if unsure:
        lines.append(
            f"dominated points that are on the front in {100 * HARDLY:g} % of the draws or more: {unsure}; see --all"
        )
    ranked = points["dominance_rank"].notna()
    alone = int((ranked & points["membership"].isna()).sum())
    if alone and points["membership"].notna().any():
        lines.append(f"points with one valid round, which stand at their value in the draws of the others: {alone}")
    return lines


def _beyond(points: pd.DataFrame, fronts: Sequence[Front]) -> pd.Series[bool]:
    """Which points are not better than their front's reference in every objective."""
    import numpy as np
    import pandas as pd

    beyond: list[int] = []
    for front in fronts:
        values = numeric(points.loc[front.index], columns_of(front.objectives))
        up, reference = np.asarray(directions(front.objectives)), np.asarray(front.reference)
        sides: NDArray[np.bool_] = np.where(up, values > reference, values < reference)
        beyond += [label for label, better in zip(front.index, sides.tolist(), strict=True) if not all(better)]
    return pd.Series(points.index.isin(beyond), index=points.index)
