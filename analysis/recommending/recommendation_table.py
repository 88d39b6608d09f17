"""A recommendation as tables: the first few points of every network, and all points for scripts. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from analysis.comparing.comparison import place_words
from analysis.markup import Column
from analysis.numbers import MISSING, NO_INTERVAL, significant, with_uncertainty
from analysis.operating_points import HIGH
from analysis.recommending.criterion import NEGLIGIBLE
from analysis.recommending.recommendation import Answer, Recommendation
from analysis.recommending.recommended_point import whole
from analysis.tables import frame_rows

_FIRST = 5
_SHORT = {"batch_size": "batch"}
_CHOICE, _SECOND, _ROBUST = "choice", "runner-up", "robust"


def first_table(recommendation: Recommendation) -> list[Column]:
    """The printed table: under each network the first five points that meet the constraints, the best first."""
    rows: list[dict[str, Any]] = []
    for answer in recommendation.answers:
        meeting = answer.candidates[answer.candidates["meets"]].head(_FIRST)
        rows += [row | {"rank": rank} for rank, row in enumerate(frame_rows(meeting), start=1)]
    shown = [
        Column("network", tuple(str(row["profile"]) for row in rows), elastic=True),
        Column("#", tuple(str(row["rank"]) for row in rows), right=True),
        Column("cut", tuple(place_words(str(row["split"]), str(row["placement"])) for row in rows)),
        Column("D", tuple(_whole(row["depth"]) for row in rows), right=True),
        *(
            Column(_SHORT.get(axis, axis), tuple(_text(row[axis]) for row in rows), right=axis == "batch_size")
            for axis in recommendation.varying
        ),
        Column("latency ms", tuple(_uncertain(row, "latency_s", 1e3) for row in rows), right=True),
        Column("images/s", tuple(_uncertain(row, "throughput_img_s", 1.0) for row in rows), right=True),
        Column("kB/batch", tuple(significant(row["bytes_per_batch"] / 1e3) for row in rows), right=True, drop=2),
        Column("behind", tuple(_behind(recommendation, row["loss"]) for row in rows), right=True, drop=1),
    ]
    if recommendation.wish.constraints:
        shown.append(Column("p meets", tuple(_probability(row["p_meets"]) for row in rows), right=True))
    shown.append(Column("p best", tuple(_probability(row["p_best"]) for row in rows), right=True))
    return shown


def csv_rows(recommendations: Sequence[Recommendation]) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the csv: every point considered, per model and network, the best first.

    `rank` counts those that meet the constraints and is empty for the others; `role` is `choice`, `runner-up`,
    `robust` (several joined by `+`) or empty; `loss` is the logarithm of a factor, with the rule `knee` a part of
    the front's span.
    """
    columns = ["rank", "role", "rule"]
    rows: list[dict[str, Any]] = []
    for recommendation in recommendations:
        for answer in recommendation.answers:
            columns += [str(name) for name in answer.candidates.columns if name not in columns]
            rows += _answer_rows(recommendation, answer)
    return columns, [dict.fromkeys(columns) | row for row in rows]


def _answer_rows(recommendation: Recommendation, answer: Answer) -> list[dict[str, Any]]:
    robust = recommendation.robust_picks.get(answer.profile)
    same = (robust.cell, robust.depth) if robust else None
    rows = []
    for number, row in enumerate(frame_rows(answer.candidates), start=1):
        roles = [_CHOICE] if row["meets"] and number == 1 else []
        roles += [_SECOND] if row["meets"] and number == 2 else []
        roles += [_ROBUST] if same == (row["cell"], whole(row["depth"])) else []
        shown = row | {"loss": _loss(row["loss"]) if math.isfinite(row["loss"]) else None}
        rank = number if row["meets"] else None
        rows.append({"rank": rank, "role": "+".join(roles), "rule": recommendation.criterion.rule} | shown)
    return rows


def _behind(recommendation: Recommendation, loss: float) -> str:
    """`x 1.31`, or with the knee `12 %` of the front's span."""
    if not recommendation.criterion.of_factors:
        return f"{significant(100 * _loss(loss), 2)} %"
    return f"x {math.exp(min(loss, 700.0)):.4g}"


def _loss(value: float) -> float:
    """Without the tie-break, which says who is first of equals and no more."""
    return 0.0 if value <= NEGLIGIBLE else value


def _uncertain(row: dict[str, Any], metric: str, factor: float) -> str:
    return with_uncertainty(row[metric] * factor, (row[metric + HIGH] - row[metric]) * factor)


def _probability(value: float) -> str:
    return NO_INTERVAL if math.isnan(value) else f"{value:.2f}"


def _whole(value: object) -> str:
    number = whole(value)
    return MISSING if number is None else str(number)


def _text(value: object) -> str:
    return MISSING if value is None or value != value else str(value)
