"""What all pairs of a comparison say together: one line per model, depth, value and metric. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.comparing.comparison import EQUAL, METRICS, UNKNOWN, Comparison, Metric, Pair
from analysis.statistics import CONFIDENCE, Ratio, ratio_interval


@dataclass(frozen=True)
class Overall:
    """One metric of one value over all its pairs of a model (or of all models) and a profile."""

    profile: str | None
    """None where profiles are what is compared."""
    model: str | None
    """None: all models."""
    depth: int | None
    """None: all depths."""
    value: str
    metric: Metric
    ratio: Ratio
    """Geometric mean over the pairs. Its interval is over rounds, of each round's geometric mean over the pairs; NaN
    where a pair lacks a round that another one has."""
    lowest: float
    highest: float
    """The smallest and the largest ratio of a pair."""
    pairs: int
    verdicts: Mapping[str, int]
    """Verdict -> number of pairs."""

    @property
    def by_chance(self) -> float:
        """How many pairs are expected beyond their 95 % intervals if nothing differed anywhere."""
        return (1 - CONFIDENCE) * sum(n for word, n in self.verdicts.items() if word != UNKNOWN)


def overall(comparison: Comparison) -> list[Overall]:
    """Per profile, model, value and metric: over all depths, then for each depth where there are several.

    Where there is more than one model, all models together come last. Profiles are never mixed unless compared.
    """
    lines = []
    counted = comparison.counted
    profiles = list(dict.fromkeys(pair.key.get("profile") for pair in counted))
    for profile in profiles:
        here = [pair for pair in counted if pair.key.get("profile") == profile]
        models: list[str | None] = list(dict.fromkeys(str(pair.key["model"]) for pair in here))
        for model in [*models, None] if len(models) > 1 else models:
            of_model = [pair for pair in here if model in (None, pair.key["model"])]
            depths: Sequence[int | None] = sorted({int(pair.key["depth"]) for pair in of_model})
            for depth in [None, *depths] if len(depths) > 1 else depths:
                at_depth = [pair for pair in of_model if depth in (None, pair.key["depth"])]
                for value in comparison.values:
                    chosen = [pair for pair in at_depth if pair.value == value]
                    rows = (_overall(chosen, profile, model, depth, value, metric) for metric in METRICS)
                    lines += [row for row in rows if row]
    return lines


def over_all_depths(lines: Sequence[Overall]) -> list[Overall]:
    """The lines that are not of one depth out of several."""
    several = {(o.profile, o.model) for o in lines if o.depth is None}
    return [o for o in lines if o.depth is None or (o.profile, o.model) not in several]


def _overall(
    pairs: Sequence[Pair], profile: str | None, model: str | None, depth: int | None, value: str, metric: Metric
) -> Overall | None:
    known = [pair for pair in pairs if pair.logs[metric.name]]
    if not known:
        return None
    means = [math.fsum(pair.logs[metric.name].values()) / len(pair.logs[metric.name]) for pair in known]
    rounds = [set(pair.logs[metric.name]) for pair in known]
    mean = math.exp(math.fsum(means) / len(means))
    if all(found == rounds[0] for found in rounds):
        per_round = [math.fsum(pair.logs[metric.name][n] for pair in known) / len(known) for n in sorted(rounds[0])]
        ratio = ratio_interval(per_round)
    else:
        ratio = Ratio(mean, math.nan, math.nan, 0)
    found_verdicts = [pair.verdict(metric) for pair in known]
    verdicts = {word: found_verdicts.count(word) for word in (metric.better, metric.worse, EQUAL, UNKNOWN)}
    return Overall(
        profile, model, depth, value, metric, ratio, math.exp(min(means)), math.exp(max(means)), len(known), verdicts
    )
