"""What has to be said beside the tables of a comparison: what is held equal, what is left out, what words mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.comparing.breakdown import PART_COLUMNS
from analysis.comparing.comparison import HELD, Comparison, Pair, place_words
from analysis.comparing.overall import Overall, over_all_depths
from analysis.tables import constant_axes

if TYPE_CHECKING:
    import pandas as pd

_LISTED = 4
"""Points named one by one before the rest is counted."""
_AXIS_WORDS = {"split_index": "cut", "batch_size": "batch size"}
_METRIC_WORDS = {"throughput": "images/s", "latency": "latency", "cpu": "CPU s/image", "network": "network time"}


def round_remarks(comparison: Comparison) -> list[str]:
    """What has no counterpart, and the rounds that do not count with the reason."""
    lines = [
        f"no counterpart for {value} at {listed(points)}; not compared" for value, points in comparison.lone.items()
    ]
    same: dict[tuple[str, str], list[Pair]] = {}
    for pair in comparison.pairs:
        if pair.left_out:
            same.setdefault((pair.value, pair.left_out_words), []).append(pair)
    for (value, notes), pairs in same.items():
        none = "no round valid in both: " if not pairs[0].rounds else "left out: "
        places = listed([f"{_where(pair)} depth {pair.key['depth']}" for pair in pairs])
        lines.append(f"{value} / {comparison.baseline} at {places}: {none}{notes}")
    single = sum(len(pair.rounds) == 1 for pair in comparison.pairs)
    if single:
        lines.append(f"{single} of {len(comparison.pairs)} pairs have one round valid in both: no interval (n/a)")
    return lines


def _where(pair: Pair) -> str:
    profile = f" {pair.key['profile']}" if "profile" in pair.key else ""
    return f"{pair.key['model']}{profile} {pair.place}"


def listed(texts: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def term_remarks(comparison: Comparison, points: pd.DataFrame) -> list[str]:
    """How to read the tables, and what the comparison holds equal."""
    by, baseline = comparison.by, comparison.baseline
    held = [_AXIS_WORDS.get(axis, axis) for axis in HELD if axis not in (by, "granularity")]
    models = points["model"].unique()
    same = f"model {models[0]}, " if len(models) == 1 else ""
    left_out = len(comparison.pairs) - len(comparison.counted)
    return [
        f"equal within a pair: {', '.join(held)}, round; only the {by} differs",
        f"the same for all points: {same}{constant_axes(points)}",
        f"ratios: the {by} of the row / {baseline}, geometric mean over rounds; ±p%: the 95 % t-interval of their logs "
        "is ratio / (1 + p/100) .. ratio x (1 + p/100)",
        "verdict: of images/s (and latency, after a slash, where it is another); equal: 1 lies in the interval, "
        "the data does not tell the two apart",
        "latency = compute + serialize + queue + network; network: links, kernel, receiving and, at depths above 1, "
        "waiting in buffers; cpu %, gpu %: stage 1/2/...; wire/act: bytes sent by the data interface per byte of "
        "activations; n: valid rounds",
        "better, worse: pairs beyond their 95 % interval, of so many; by chance: 5 % of the pairs with an interval "
        "would be, if nothing differed: one pair alone proves little",
        *(
            [f"not in the last table: pairs of one stage ({left_out}), as nothing crosses a link there"]
            if left_out
            else []
        ),
    ]


def point_remarks(points: pd.DataFrame, by: str) -> list[str]:
    """How each value's activations travelled, what its stages computed with, and where a breakdown does not hold."""
    lines = []
    for value, rows in points.groupby(by, sort=False):
        ways = dict.fromkeys(way for text in rows["transport"] for way in text.split(" | ") if way)
        if ways and by == "backend":
            lines.append(f"{value}: {' | '.join(ways)}")
        engines = dict.fromkeys(way for text in rows["engines"] for way in text.split(" | ") if way)
        if by == "engine" and any(set(way.split("+")) != {value} for way in engines):
            lines.append(f"{value}: stages computed with {' | '.join(engines)}")
    names = [
        f"{place_words(row['split'], row['placement'])} depth {row['depth']} {row[by]}"
        for row in points[points[PART_COLUMNS[-1]] < 0].to_dict("records")
    ]
    if names:
        lines.append(
            f"negative network time at {listed(names)}: the stages report more than the latency; shown as it is"
        )
    unknown = int((points[PART_COLUMNS[-1]].isna() & (points["rounds"] > 0)).sum())
    if unknown:
        lines.append(f"{unknown} of {len(points)} points have no breakdown: their records lack a duration of a stage")
    return lines


def overall_remarks(lines: Sequence[Overall], comparison: Comparison) -> list[str]:
    """The overall table as sentences, for where stdout is csv."""
    texts = []
    for o in over_all_depths(lines):
        where = ", ".join(text for text in (o.profile, o.model or "all models") if text)
        m, plural = o.metric, "s" if o.pairs > 1 else ""
        texts.append(
            f"{where}: {o.value} / {comparison.baseline}: {_METRIC_WORDS[m.name]} x {o.ratio.mean:.3f} "
            f"over {o.pairs} pair{plural} ({o.lowest:.3f} .. {o.highest:.3f}); {m.better} in {o.verdicts[m.better]}, "
            f"{m.worse} in {o.verdicts[m.worse]}; {o.by_chance:.1f} expected by chance"
        )
    return texts
