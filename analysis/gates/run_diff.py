"""The same operating points in two runs: ratio second / first with its interval, and how sure a difference is. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.comparing.breakdown import CPU_S_PER_IMG
from analysis.comparing.comparison import EQUAL, HELD, METRICS, UNKNOWN, Metric, place_words
from analysis.gates.rules.columns import numbers, texts, total_of_stages
from analysis.gates.welch import FALSE_DISCOVERIES, Moments, Welch, adjusted, welch
from analysis.operating_points import HIGH, LOW, placement
from analysis.statistics import Ratio
from analysis.tables import frame_rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from analysis.run import Run

    Floats = NDArray[np.float64]

_KEY = list(HELD)
_HASHES = ("graph_hash", "weight_hash")
RATIO = "ratio"
DIFF_COLUMNS = (
    *("verdict", *HELD, "split", "placement", "metric", "first", "second", RATIO, RATIO + LOW, RATIO + HIGH),
    *("p", "p_adjusted", "p_beyond_limit_adjusted", "rounds_first", "rounds_second"),
)


@dataclass(frozen=True)
class OverallDifference:
    """All points of a model (or of all models) under a profile on a pipeline."""

    pipeline: str
    profile: str
    model: str | None
    """None: all models."""
    ratio: Ratio
    """Geometric mean over points of second / first; its interval is over rounds. `n` counts points."""
    lowest: float
    highest: float
    verdicts: dict[str, int]
    """Verdict -> number of points."""


@dataclass(frozen=True)
class RunDiff:
    """Two runs, compared by one metric."""

    metric: Metric
    points: pd.DataFrame
    """`DIFF_COLUMNS`, a row per operating point with a valid round in both; what became worse for sure comes first."""
    overall: tuple[OverallDifference, ...]
    only_first: tuple[str, ...]
    """Operating points that the second run did not measure."""
    only_second: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    """Operating points that both have and that are not compared, and why."""
    beyond: tuple[str, ...]
    """What is surely worse by more than the limit; empty without a limit."""


def metric_named(name: str) -> Metric:
    """The metric of that name: `throughput`, `latency`, `cpu` or `network`."""
    return next(metric for metric in METRICS if metric.name == name)


def diff_runs(first: Run, second: Run, metric: Metric, limit_pct: float | None = None) -> RunDiff:
    """Compare the operating points that are equal in all of `HELD` and in graph and weights.

    Rounds of two runs have nothing in common, so they are not paired: Welch's interval of the difference of the mean
    logarithms, taken back by exp. p-values are adjusted for the number of points. `limit_pct`: worse by more than this
    (time or CPU per image; throughput counts as time per image) fills `beyond`.
    """
    ours, theirs = _values(first.frame, metric), _values(second.frame, metric)
    both = _described(ours).merge(_described(theirs), on=_KEY, how="outer", suffixes=("_a", "_b"), indicator=True)
    sides = ("left_only", "right_only")
    only = {side: [_words(row) for row in frame_rows(both[both["_merge"] == side])] for side in sides}
    both = both[both["_merge"] == "both"].reset_index(drop=True)
    left_out = _left_out(both, metric)
    both = both[[not reason for _, reason in left_out] if left_out else slice(None)].reset_index(drop=True)
    points = _points(both, metric, limit_pct)
    overall = _overall(ours, theirs, points, metric)
    return RunDiff(
        metric,
        points,
        tuple(overall),
        tuple(only["left_only"]),
        tuple(only["right_only"]),
        tuple((words, reason) for words, reason in left_out if reason),
        tuple(_beyond(points, overall, metric, limit_pct)),
    )


def _values(frame: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """A row per record: `HELD`, what describes it, `round`, and `log` of the metric where it is valid and above 0."""
    import numpy as np
    import pandas as pd

    values = metric_values(frame, metric)
    valid = (frame["state"] == "valid").to_numpy() & (values > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(valid, np.log(values), np.nan)
    key = {axis: _axis(frame, axis) for axis in _KEY}
    more = {"split": texts(frame, "split"), "n_cuts": numbers(frame, "n_cuts"), "round": numbers(frame, "round")}
    hashes = {name: texts(frame, name) for name in _HASHES}
    return pd.DataFrame({**key, **more, **hashes, "log": logs})


def metric_values(frame: pd.DataFrame, metric: Metric) -> Floats:
    """A metric's value of every record, NaN where it is not known; network time only where something crosses a link."""
    import numpy as np

    if metric.column == CPU_S_PER_IMG:
        throughput = numbers(frame, "throughput_img_s")
        with np.errstate(divide="ignore", invalid="ignore"):
            return total_of_stages(frame, "cpu_pct") / 100 / throughput
    values = numbers(frame, metric.column)
    if metric.column == "network_s":
        return np.where(numbers(frame, "n_stages") > 1, values, np.nan)
    return values


def _axis(frame: pd.DataFrame, axis: str) -> Any:
    if axis in ("batch_size", "depth"):
        return numbers(frame, axis)
    return [str(value) if value is not None else "" for value in frame.get(axis, [None] * len(frame))]


def _described(values: pd.DataFrame) -> pd.DataFrame:
    """A row per operating point: moments of `log`, and what is the same in all its records."""
    groups = values.groupby(_KEY, sort=False, dropna=False)
    logs = groups["log"].agg(["mean", "var", "count"])
    first = groups[["split", "n_cuts", *_HASHES]].first()
    return logs.join(first).reset_index()


def _words(row: dict[str, Any]) -> str:
    """`lan mobilenet_v2 P3 socket eager pi-to-pi batch 8 depth 1`."""
    split = next((row[name] for name in ("split", "split_a", "split_b") if isinstance(row.get(name), str)), "?")
    axes = (row["profile"], row["model"], split, row["backend"], row["engine"], row["pipeline"])
    depth = "unknown" if math.isnan(row["depth"]) else f"{row['depth']:g}"
    return " ".join([*map(str, axes), f"batch {row['batch_size']:g}", f"depth {depth}"])


def _left_out(both: pd.DataFrame, metric: Metric) -> list[tuple[str, str]]:
    """Each point and why it is not compared; empty where it is."""
    found = []
    for row in frame_rows(both):
        differing = [
            name.replace("_", " ")
            for name in _HASHES
            if isinstance(row[f"{name}_a"], str)
            and isinstance(row[f"{name}_b"], str)
            and row[f"{name}_a"] != row[f"{name}_b"]
        ]
        reason = f"another {' and '.join(differing)}" if differing else ""
        missing = [side for side, count in (("first", row["count_a"]), ("second", row["count_b"])) if not count]
        if not reason and missing:
            reason = f"no valid round with its {metric.name} in the {' and the '.join(missing)} run"
        found.append((_words(row), reason))
    return found


def _points(both: pd.DataFrame, metric: Metric, limit_pct: float | None) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    moments = [
        Moments(*(both[f"{name}_{side}"].to_numpy(dtype=float) for name in ("mean", "var", "count"))) for side in "ab"
    ]
    test = welch(*moments)
    sign = -1.0 if metric.more_is_better else 1.0
    half, p = test.half_width, test.p_differs()
    with np.errstate(over="ignore"):
        ends = [np.exp(test.difference - half), np.exp(test.difference + half)]
    points = pd.DataFrame({axis: both[axis] for axis in _KEY})
    points["split"] = both["split_a"]
    pairs = zip(both["split_index"], both["n_cuts_a"], strict=True)
    points["placement"] = [placement(str(cut), None if math.isnan(n) else int(n)) for cut, n in pairs]
    points["metric"] = metric.column
    points["first"], points["second"] = np.exp(moments[0].mean), np.exp(moments[1].mean)
    points[RATIO], points[RATIO + LOW], points[RATIO + HIGH] = np.exp(test.difference), ends[0], ends[1]
    points["p"], points["p_adjusted"] = p, adjusted(p)
    points["p_beyond_limit_adjusted"] = np.nan
    if limit_pct is not None:
        worse = Welch(sign * test.difference, test.error, test.freedom)
        points["p_beyond_limit_adjusted"] = adjusted(worse.p_above(math.log1p(limit_pct / 100)))
    points["rounds_first"] = moments[0].n.astype(int)
    points["rounds_second"] = moments[1].n.astype(int)
    points["verdict"] = [
        _verdict(adjusted_p, sign * difference > 0, metric)
        for adjusted_p, difference in zip(points["p_adjusted"], test.difference, strict=True)
    ]
    rank = points["verdict"].map({metric.worse: 0, EQUAL: 1, UNKNOWN: 2, metric.better: 3})
    # How much worse it is at least: how sure and how large in one figure.
    least = sign * test.difference - np.nan_to_num(half)
    order = np.lexsort((-least, rank.to_numpy()))
    return points.iloc[order][list(DIFF_COLUMNS)].reset_index(drop=True)


def _verdict(adjusted_p: float, worse: bool, metric: Metric) -> str:
    if math.isnan(adjusted_p):
        return UNKNOWN
    if adjusted_p >= FALSE_DISCOVERIES:
        return EQUAL
    return metric.worse if worse else metric.better


def _overall(ours: pd.DataFrame, theirs: pd.DataFrame, points: pd.DataFrame, metric: Metric) -> list[OverallDifference]:
    lines = []
    for (pipeline, profile), group in points.groupby(["pipeline", "profile"], sort=False):
        models: list[str | None] = list(dict.fromkeys(group["model"]))
        for model in [*models, None] if len(models) > 1 else models:
            chosen = group if model is None else group[group["model"] == model]
            lines.append(_of_points(ours, theirs, chosen, (str(pipeline), str(profile), model), metric))
    return lines


def _of_points(
    ours: pd.DataFrame, theirs: pd.DataFrame, points: pd.DataFrame, where: tuple[str, str, str | None], metric: Metric
) -> OverallDifference:
    """The mean over points; per run the mean over a round's points scatters over rounds, and Welch joins both.

    Points without an interval are in no mean where others have one. A round's mean is of how far each point is from its
    own mean, so that a round which lacks a point is not taken for a fast or slow one.
    """
    import numpy as np

    repeated = points[points[RATIO + LOW].notna()]
    used = repeated if len(repeated) else points
    logs = np.log(used[RATIO].to_numpy(dtype=float))
    mean = float(logs.mean())
    low = high = math.nan
    if len(repeated):
        sides = [_round_moments(values, used) for values in (ours, theirs)]
        test = welch(*sides)
        with np.errstate(over="ignore"):
            low, high = np.exp([mean - test.half_width[0], mean + test.half_width[0]]).tolist()
    words = (metric.better, metric.worse, EQUAL, UNKNOWN)
    verdicts = {word: int((points["verdict"] == word).sum()) for word in words}
    ratio = Ratio(math.exp(mean), low, high, len(used))
    return OverallDifference(*where, ratio, math.exp(logs.min()), math.exp(logs.max()), verdicts)


def _round_moments(values: pd.DataFrame, points: pd.DataFrame) -> Moments:
    """Moments of the rounds' means; the mean is 0, as the points' own are taken off."""
    import numpy as np

    mine = values[values["log"].notna()].merge(points[_KEY], on=_KEY)
    deviation = mine["log"] - mine.groupby(_KEY, sort=False, dropna=False)["log"].transform("mean")
    per_round = deviation.groupby(mine["round"]).mean()
    variance = per_round.var(ddof=1)
    return Moments(np.array([0.0]), np.array([variance], dtype=float), np.array([float(len(per_round))]))


def _beyond(
    points: pd.DataFrame, overall: Sequence[OverallDifference], metric: Metric, limit_pct: float | None
) -> list[str]:
    if limit_pct is None:
        return []
    sure = points[points["p_beyond_limit_adjusted"] < FALSE_DISCOVERIES]
    found = [f"{_words(row)}: {_ratio_words(_ratio(row), metric)}" for row in frame_rows(sure)]
    for line in overall:
        least = 1 / line.ratio.high if metric.more_is_better else line.ratio.low
        if least > 1 + limit_pct / 100:
            name = f"{line.profile} {line.model or 'all models'} {line.pipeline}, mean of {line.ratio.n} points"
            found.append(f"{name}: {_ratio_words(line.ratio, metric)}")
    return found


def _ratio(row: dict[str, Any]) -> Ratio:
    return Ratio(row[RATIO], row[RATIO + LOW], row[RATIO + HIGH], min(row["rounds_first"], row["rounds_second"]))


def _ratio_words(ratio: Ratio, metric: Metric) -> str:
    return f"{metric.name} x {ratio.mean:.3f} ({ratio.low:.3f} .. {ratio.high:.3f})"


def place(row: dict[str, Any]) -> str:
    """The cut of a row of `points`: `P3`, `local` or `remote`."""
    return place_words(str(row["split"]), str(row["placement"]))
