"""What one choice does to otherwise equal cells: ratios of paired rounds, and what they say over all cells. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.comparing.breakdown import CPU_S_PER_IMG
from analysis.operating_points import placement
from analysis.statistics import Ratio, ratio_interval

if TYPE_CHECKING:
    import pandas as pd

COMPARED = ("backend", "engine", "profile")
"""Axes that can be compared."""
HELD = ("model", "granularity", "split_index", "backend", "engine", "profile", "pipeline", "batch_size", "depth")
"""What two operating points must have in common, but for the axis compared."""
_DEFAULT_BASELINE = {"backend": "socket", "engine": "eager", "profile": "lan"}
_ON_THE_LINK = ("backend", "profile")
"""Axes that mean nothing to a cell of one stage, where nothing crosses a link."""
_SAME_IN_A_ROUND = ("shaper", "graph_hash", "weight_hash")
EQUAL, UNKNOWN = "equal", "n/a"


class ComparisonError(Exception):
    """A comparison that the run cannot give; one line that says why."""


class Metric(NamedTuple):
    """A column of which ratios are taken."""

    name: str
    column: str
    more_is_better: bool
    better: str
    worse: str


METRICS = (
    Metric("throughput", "throughput_img_s", True, "faster", "slower"),
    Metric("latency", "latency_s", False, "faster", "slower"),
    Metric("cpu", CPU_S_PER_IMG, False, "less", "more"),
    Metric("network", "network_s", False, "faster", "slower"),
)
"""`network_s` is known at depth 1 only; the CPU's is of seconds per image."""


@dataclass(frozen=True)
class Pair:
    """One operating point of the compared value beside the baseline's."""

    key: Mapping[str, Any]
    """Its values of `HELD` without the compared axis."""
    value: str
    place: str
    """The cut as `place_words` has it."""
    rounds: tuple[int, ...]
    """Valid in both."""
    logs: Mapping[str, Mapping[int, float]]
    """Metric -> round -> natural logarithm of value / baseline; without rounds in which either is not above 0."""
    left_out: tuple[tuple[int, str], ...]
    """Rounds that do not count, and why; the same round once per metric where only a metric lacks it."""
    one_stage: bool

    @property
    def lost_rounds(self) -> int:
        """Rounds that one of both has and that do not count."""
        return len({number for number, _ in self.left_out} - set(self.rounds))

    @property
    def left_out_words(self) -> str:
        """`round 3: rpc failed (...); rounds 4, 5: socket not measured`."""
        numbers: dict[str, list[str]] = {}
        for number, reason in self.left_out:
            numbers.setdefault(reason, []).append(str(number))
        texts = ((f"round{'s' if len(found) > 1 else ''} {', '.join(found)}", why) for why, found in numbers.items())
        return "; ".join(f"{rounds}: {why}" for rounds, why in texts)

    def ratio(self, metric: Metric) -> Ratio:
        """Geometric mean over the rounds of value / baseline, with its 95 % interval."""
        return ratio_interval(list(self.logs[metric.name].values()))

    def verdict(self, metric: Metric) -> str:
        """`faster`, `slower` (for the CPU `less`, `more`), `equal` where 1 lies in the interval, `n/a` without one."""
        return verdict(self.ratio(metric), metric)


def verdict(ratio: Ratio, metric: Metric) -> str:
    """What an interval says: beyond 1 on one side, or not. `n/a` with one value, empty with none."""
    if ratio.n < 2:
        return UNKNOWN if ratio.n else ""
    if ratio.low <= 1 <= ratio.high:
        return EQUAL
    return metric.better if (ratio.low > 1) == metric.more_is_better else metric.worse


@dataclass(frozen=True)
class Comparison:
    """All pairs of a run."""

    by: str
    baseline: str
    values: tuple[str, ...]
    """The compared ones, in the order of the plan; without the baseline."""
    pairs: tuple[Pair, ...]
    lone: Mapping[str, tuple[str, ...]]
    """Value (the baseline too) -> its operating points that have no counterpart, as `P3 depth 1`."""

    @property
    def counted(self) -> tuple[Pair, ...]:
        """Pairs that say something about the axis: of backends and profiles only those with a link between stages."""
        return tuple(pair for pair in self.pairs if not (pair.one_stage and self.by in _ON_THE_LINK))


def pick_axis(frame: pd.DataFrame, by: str | None) -> str:
    """`by`, or the one axis of `COMPARED` that varies. Raises ComparisonError if none or several do."""
    if by:
        return by
    found = [axis for axis in COMPARED if frame[axis].nunique() > 1]
    if len(found) == 1:
        return found[0]
    if found:
        raise ComparisonError(f"several axes vary ({', '.join(found)}); name one with --by")
    raise ComparisonError("nothing to compare: one backend, one engine and one profile; measure a second one of them")


def ordered_values(frame: pd.DataFrame, run: Mapping[str, Any], by: str) -> list[str]:
    """The values of `by` that have records, in the order in which the run planned them."""
    present = set(frame[by])
    planned = [cell[by] for cell in run.get("cells") or [] if by in cell]
    return [value for value in dict.fromkeys([*planned, *frame[by]]) if value in present]


def pick_baseline(values: Sequence[str], run: Mapping[str, Any], by: str, wanted: str | None) -> str:
    """The value that the others are compared with.

    `wanted`, or `socket`, `eager` or `lan`; for profiles else one without links; else the first. Raises
    ComparisonError if `wanted` is none of `values`, or there is nothing to compare it with.
    """
    if len(values) < 2:
        raise ComparisonError(f"nothing to compare: the run has one {by} ({', '.join(values)}); measure a second one")
    if wanted is not None:
        if wanted not in values:
            raise ComparisonError(f"no {by} {wanted!r} in this run; --baseline can be {', '.join(values)}")
        return wanted
    if _DEFAULT_BASELINE[by] in values:
        return _DEFAULT_BASELINE[by]
    profiles = run.get("profiles") or {}
    bare = [value for value in values if by == "profile" and not (profiles.get(value) or {"links": True}).get("links")]
    return (bare or list(values))[0]


def compare(frame: pd.DataFrame, by: str, baseline: str, values: Iterable[str]) -> Comparison:
    """Pair the operating points of a `compare_frame` that are equal in everything but `by`.

    Pairing is by round within a cell: a round is one randomised pass over all cells, so what was slow in it was slow
    for both. Only rounds valid in both count. Raises ComparisonError if no operating point has a counterpart.
    """
    held = [axis for axis in HELD if axis != by]
    points: dict[tuple[Any, ...], dict[str, pd.DataFrame]] = {}
    for key, group in frame.groupby([*held, by], sort=False, dropna=False):
        *shared, value = key
        points.setdefault(tuple(shared), {})[str(value)] = group
    others = tuple(value for value in values if value != baseline)
    pairs: list[Pair] = []
    lone: dict[str, list[str]] = {}
    for key, found in points.items():
        partners = [value for value in others if value in found]
        if baseline in found and partners:
            named = dict(zip(held, key, strict=True))
            pairs += [_pair(named, found[baseline], found[value], baseline, value) for value in partners]
            continue
        for value, group in found.items():
            lone.setdefault(value, []).append(f"{_place(group)} depth {group['depth'].iloc[0]}")
    if not pairs:
        raise ComparisonError(f"nothing to pair: no cell was measured with {baseline} and with {' or '.join(others)}")
    pairs.sort(key=lambda pair: (*plan_order(pair.key), others.index(pair.value)))
    return Comparison(by, baseline, others, tuple(pairs), {value: tuple(words) for value, words in lone.items()})


def plan_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sorts what has the axes `HELD`, or some of them: cells that differ in one follow each other, cuts ascend."""
    names = ("profile", "model", "granularity", "engine", "backend", "pipeline")
    cut = tuple(int(part) if part.isdigit() else -1 for part in str(row["split_index"]).split("+"))
    return (*(str(row.get(name)) for name in names), row["batch_size"], cut, row["depth"])


def place_words(split: str, where: str) -> str:
    """`P3`; `local` and `remote` for the ends of a sweep, `where` being their placement."""
    return where.removeprefix("all ") or split


def _place(group: pd.DataFrame) -> str:
    first = group.iloc[0]
    return place_words(str(first["split"]), placement(str(first["split_index"]), first["n_cuts"]))


def _pair(key: Mapping[str, Any], one: pd.DataFrame, other: pd.DataFrame, baseline: str, value: str) -> Pair:
    first, second = _by_round(one), _by_round(other)
    rounds, left_out = [], []
    for number in sorted(first.keys() | second.keys()):
        reason = _unpaired(baseline, first.get(number), value, second.get(number), shaped_alike="profile" in key)
        if reason:
            left_out.append((number, reason))
        else:
            rounds.append(number)
    logs: dict[str, dict[int, float]] = {}
    for metric in METRICS:
        both = {n: (float(first[n][metric.column]), float(second[n][metric.column])) for n in rounds}
        logs[metric.name] = {n: math.log(b) - math.log(a) for n, (a, b) in both.items() if a > 0 and b > 0}
        below = [n for n, (a, b) in both.items() if a <= 0 or b <= 0]
        left_out += [(n, f"no ratio of the {metric.name}, which is not above 0") for n in below]
    one_stage = any(first[n]["n_stages"] == second[n]["n_stages"] == 1 for n in rounds)
    if one_stage:
        logs["network"] = {}
    return Pair(key, value, _place(other), tuple(rounds), logs, tuple(left_out), one_stage)


def _by_round(group: pd.DataFrame) -> dict[int, dict[str, Any]]:
    rows = group.to_dict("records")
    return {int(row["round"]): {str(name): cell for name, cell in row.items()} for row in rows}


def _unpaired(
    baseline: str, one: Mapping[str, Any] | None, value: str, other: Mapping[str, Any] | None, *, shaped_alike: bool
) -> str | None:
    """Why a round of two points makes no pair, or None."""
    reasons = []
    for name, row in ((baseline, one), (value, other)):
        if row is None:
            reasons.append(f"{name} not measured")
        elif row["state"] == "failed":
            reasons.append(f"{name} failed ({row['failure']})")
        elif row["state"] == "invalid":
            reasons.append(f"{name} invalid ({row['invalid_reason']})")
    if reasons or one is None or other is None:
        return "; ".join(reasons)
    differing = [column for column in _SAME_IN_A_ROUND if one[column] != other[column]]
    if not shaped_alike and "shaper" in differing:
        differing.remove("shaper")
    return f"another {' and '.join(differing).replace('_', ' ')}" if differing else None
