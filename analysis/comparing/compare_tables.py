"""The tables of a comparison: ratios of pairs, latency by part, all pairs together; and everything, for scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.comparing.breakdown import INTERFACE_RATIO, PART_COLUMNS, PARTS
from analysis.comparing.comparison import COMPARED, HELD, METRICS, Comparison, Pair, place_words
from analysis.comparing.overall import Overall, over_all_depths
from analysis.markup import Column
from analysis.numbers import alike, significant, with_factor
from analysis.operating_points import HIGH, LOW

if TYPE_CHECKING:
    import pandas as pd

_HEADERS = {"throughput": "images/s", "latency": "latency", "cpu": "CPU s/img", "network": "network"}
_SHORT = {"batch_size": "batch"}
_RATIO_DROPS = {"throughput": 0, "latency": 0, "cpu": 3, "network": 4}


def ratio_columns(metric: str) -> tuple[str, str, str, str]:
    """The columns of a metric's ratio in `with_ratios`: the ratio, the ends of its interval, the verdict."""
    ratio = f"{metric}_ratio"
    return ratio, ratio + LOW, ratio + HIGH, f"{metric}_verdict"


def with_ratios(points: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """`compare_points` with the ratios to the baseline; empty for the baseline itself and where there is no pair.

    `paired_rounds` are the rounds that count, `unpaired` says what is left out and why.
    """
    import pandas as pd

    held = [axis for axis in HELD if axis != comparison.by]
    found = {(*(pair.key[axis] for axis in held), pair.value): pair for pair in comparison.pairs}
    names = ["baseline", "paired_rounds", "unpaired", *(name for m in METRICS for name in ratio_columns(m.name))]
    rows: list[dict[str, Any]] = []
    for key in zip(*(points[axis] for axis in (*held, comparison.by)), strict=True):
        pair = found.get(key)
        row: dict[str, Any] = dict.fromkeys(names) | {"baseline": comparison.baseline}
        if pair:
            row |= {"paired_rounds": len(pair.rounds), "unpaired": pair.left_out_words}
            for metric in METRICS:
                ratio = pair.ratio(metric)
                cells = (ratio.mean, ratio.low, ratio.high, pair.verdict(metric))
                row |= dict(zip(ratio_columns(metric.name), cells, strict=True))
        rows.append(row)
    return pd.concat([points, pd.DataFrame(rows, index=points.index, columns=names, dtype=object)], axis=1)


def ratios_table(comparison: Comparison) -> list[Column]:
    """One row per pair that has a round valid in both."""
    pairs = [pair for pair in comparison.pairs if pair.rounds]
    head = [_held(pairs, axis) for axis in ("profile", "model", *COMPARED[:2], "pipeline") if axis != comparison.by]
    ratios = {metric.name: [pair.ratio(metric) for pair in pairs] for metric in METRICS}
    return [
        *head[:2],
        Column(f"vs {comparison.baseline}", tuple(pair.value for pair in pairs), elastic=True),
        *(column for column in head[2:] if not column.drop),
        Column("split", tuple(pair.place for pair in pairs), elastic=True),
        _held(pairs, "batch_size"),
        Column("D", tuple(str(pair.key["depth"]) for pair in pairs), right=True),
        *(
            Column(
                _HEADERS[metric.name],
                tuple(with_factor(ratio.mean, ratio.high) for ratio in ratios[metric.name]),
                right=True,
                drop=_RATIO_DROPS[metric.name],
            )
            for metric in METRICS
            if any(ratio.n for ratio in ratios[metric.name])
        ),
        Column("verdict", tuple(pair_verdict(pair) for pair in pairs)),
        Column("n", tuple(_pair_rounds(pair) for pair in pairs), right=True),
    ]


def pair_verdict(pair: Pair) -> str:
    """`faster`, `slower` or `equal`; where throughput and latency do not agree, `throughput's / latency's`."""
    words = [pair.verdict(metric) for metric in METRICS[:2]]
    return "/".join(dict.fromkeys(words))


def _pair_rounds(pair: Pair) -> str:
    """`5`, or `4 of 5` where a round has no partner."""
    lost = pair.lost_rounds
    return f"{len(pair.rounds)} of {len(pair.rounds) + lost}" if lost else f"{len(pair.rounds)}"


def breakdown_table(points: pd.DataFrame, by: str) -> list[Column]:
    """Latency by part, with CPU, GPU and bytes on the interface; one row per operating point with a valid round."""
    valid = points[points["rounds"] > 0]
    rows = valid.to_dict("records")
    pairs = zip(valid["split"], valid["placement"], strict=True)
    choices = [axis for axis in (*COMPARED[:2], "pipeline") if axis != by and points[axis].nunique() > 1]
    times = [alike([1e3 * float(row[name]) for name in ("latency_s", *PART_COLUMNS)]) for row in rows]
    stages = sorted({int(c[5 : c.index("_")]) for c in points.columns if c.startswith("stage")})
    return [
        *(_axis(points, valid, axis) for axis in ("profile", "model") if axis != by),
        Column(by, tuple(map(str, valid[by])), elastic=True),
        *(_axis(points, valid, axis) for axis in choices),
        Column("split", tuple(place_words(*pair) for pair in pairs), elastic=True),
        _axis(points, valid, "batch_size"),
        Column("D", tuple(map(str, valid["depth"])), right=True),
        *(
            Column(header, tuple(time[i] for time in times), right=True)
            for i, header in enumerate(("latency ms", *PARTS))
        ),
        *_by_stage(valid, [f"stage{k}_cpu_pct" for k in stages], "cpu %", 3),
        *_by_stage(valid, [f"stage{k}_gpu_util_pct" for k in stages], "gpu %", 2),
        *_interface(valid),
        Column("n", tuple(map(str, valid["rounds"])), right=True, drop=1),
    ]


def overall_table(lines: Sequence[Overall], baseline: str) -> list[Column]:
    """One row per model, value and metric, over all depths."""
    shown = over_all_depths(lines)
    profiles, models = (tuple(str(getattr(o, name) or "all") for o in shown) for name in ("profile", "model"))
    return [
        *([_name("profile", profiles)] if any(o.profile for o in shown) else []),
        _name("model", models),
        Column(f"vs {baseline}", tuple(o.value for o in shown), elastic=True),
        Column("metric", tuple(_HEADERS[o.metric.name] for o in shown)),
        Column("ratio", tuple(with_factor(o.ratio.mean, o.ratio.high) for o in shown), right=True),
        Column("min", tuple(significant(o.lowest) for o in shown), right=True),
        Column("max", tuple(significant(o.highest) for o in shown), right=True),
        Column("better", tuple(str(o.verdicts[o.metric.better]) for o in shown), right=True),
        Column("worse", tuple(str(o.verdicts[o.metric.worse]) for o in shown), right=True),
        Column("of", tuple(str(o.pairs) for o in shown), right=True),
        Column("by chance", tuple(f"{o.by_chance:.1f}" for o in shown), right=True, drop=1),
    ]


OVERALL_COLUMNS = (
    *("profile", "model", "depth", "value", "baseline", "metric", "ratio", "ratio" + LOW, "ratio" + HIGH),
    *("lowest_ratio", "highest_ratio", "pairs", "better", "worse", "equal", "no_interval", "beyond_by_chance"),
)


def overall_rows(lines: Iterable[Overall], baseline: str) -> list[dict[str, Any]]:
    """Rows of `OVERALL_COLUMNS`; `all` models or depths where a line is over several."""
    rows = []
    for o in lines:
        where = (o.profile, o.model or "all", "all" if o.depth is None else o.depth, o.value, baseline, o.metric.name)
        counts = [o.verdicts[word] for word in (o.metric.better, o.metric.worse, "equal", "n/a")]
        ratio = (o.ratio.mean, o.ratio.low, o.ratio.high, o.lowest, o.highest)
        rows.append(dict(zip(OVERALL_COLUMNS, (*where, *ratio, o.pairs, *counts, o.by_chance), strict=True)))
    return rows


def _held(pairs: Sequence[Pair], axis: str) -> Column:
    """The column of a shared axis; it goes first where it never changes."""
    return _name(axis, tuple(str(pair.key.get(axis)) for pair in pairs))


def _axis(points: pd.DataFrame, valid: pd.DataFrame, axis: str) -> Column:
    return _name(axis, tuple(map(str, valid[axis])), constant=points[axis].nunique() < 2)


def _name(axis: str, cells: tuple[str, ...], *, constant: bool | None = None) -> Column:
    drop = 6 if (len(set(cells)) < 2 if constant is None else constant) else 0
    return Column(_SHORT.get(axis, axis), cells, right=axis == "batch_size", elastic=True, drop=drop)


def _by_stage(points: pd.DataFrame, columns: Sequence[str], header: str, drop: int) -> list[Column]:
    """`28/86`: whole percents, stage by stage; no column for what was measured nowhere."""
    if points[list(columns)].isna().all(axis=None):
        return []
    rows = points[list(columns)].to_numpy(dtype=float).tolist()
    counts = points["n_stages"].tolist()
    cells = (
        "/".join("-" if math.isnan(v) else f"{v:.0f}" for v in row[:n]) for row, n in zip(rows, counts, strict=True)
    )
    return [Column(header, tuple(cells), right=True, drop=drop)]


def _interface(points: pd.DataFrame) -> list[Column]:
    if points[INTERFACE_RATIO].isna().all():
        return []
    return [Column("wire/act", tuple(significant(v) for v in points[INTERFACE_RATIO]), right=True, drop=4)]
