"""Which operating points of a model two networks have in common, so that like is compared with like. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.comparing.comparison import place_words

if TYPE_CHECKING:
    import pandas as pd

MATCHED = ("granularity", "split_index", "backend", "engine", "pipeline", "batch_size", "depth")
"""What two operating points of a model must have in common; what is unknown in both is taken as equal."""
NAMED_VALUES = 6
"""So many values are listed in a reason; of more the rest is counted."""
_REASON_ORDER = ("batch_size", "pipeline", "engine", "backend", "granularity", "depth", "split_index")
_AXIS_WORDS = {"batch_size": "batch size", "split_index": "cut"}
_COMBINATION = "combination"
Key = tuple[Hashable, ...]


@dataclass(frozen=True)
class LeftOut:
    """Operating points that do not take part, for one reason."""

    reason: str
    """`batch size 8: lan only`."""
    count: int


@dataclass(frozen=True)
class Matching:
    """The operating points of one model under two networks, side by side."""

    baseline: tuple[int, ...]
    """Labels of rows; the n-th of `baseline` and the n-th of `other` are one operating point."""
    other: tuple[int, ...]
    left_out: tuple[LeftOut, ...]
    """Most points first."""
    unknown_depths: int
    """Matched points whose depth nobody recorded, so that it may not be equal."""


def with_granularity(points: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Operating points with the `granularity` of their cells from the records `frame`; None where it has none."""
    import pandas as pd

    known = dict(zip(frame["cell"], frame["granularity"], strict=True)) if "granularity" in frame.columns else {}
    found = pd.Series([known.get(cell) for cell in points["cell"]], index=points.index, dtype=object)
    return points.assign(granularity=found)


def match_points(points: pd.DataFrame, baseline: str, other: str) -> Matching:
    """Pair the operating points of one model that are equal in `MATCHED` and have a valid round under both profiles.

    `points` has a unique index, the columns of `operating_points`, and `granularity`. Where several points of a
    profile are equal in everything, none of them takes part: which one to compare would be a guess.
    """
    sides = {network: _by_key(points[points["profile"] == network]) for network in (baseline, other)}
    rounds = dict(zip(points.index, points["rounds"], strict=True))
    pairs: dict[Key, tuple[int, int]] = {}
    lost: Counter[str] = Counter()
    for key, labels in sides[baseline].items():
        found = sides[other].get(key, [])
        without = [name for name, at in ((baseline, labels), (other, found)) if at and not rounds[at[0]]]
        if not found:
            continue
        if len(labels) > 1 or len(found) > 1:
            lost["measured more than once with equal axes"] += len(labels) + len(found)
        elif without:
            lost[f"measured under both, no valid round under {' and '.join(without)}"] += 2
        else:
            pairs[key] = labels[0], found[0]
    places = {label: place_words(*map(str, words)) for label, *words in points[["split", "placement"]].itertuples()}
    left_out = [LeftOut(reason, count) for reason, count in lost.items()]
    for network, partner in ((baseline, other), (other, baseline)):
        left_out += _alone(sides[network], sides[partner], network, partner, places)
    depth = MATCHED.index("depth")
    return Matching(
        tuple(first for first, _ in pairs.values()),
        tuple(second for _, second in pairs.values()),
        tuple(sorted(left_out, key=lambda lost: -lost.count)),
        sum(key[depth] is None for key in pairs),
    )


def _by_key(points: pd.DataFrame) -> dict[Key, list[int]]:
    columns = [_all_plain(points[axis].tolist()) for axis in MATCHED]
    found: dict[Key, list[int]] = {}
    for label, key in zip(points.index, zip(*columns, strict=True), strict=True):
        found.setdefault(key, []).append(label)
    return found


def _all_plain(values: list[Any]) -> list[Hashable]:
    known = {value: _plain(value) for value in set(values)}
    return [known[value] for value in values]


def _plain(value: Any) -> Hashable:
    """The value; None for all kinds of unknown, so that they are equal; a whole number as int, for its words."""
    import pandas as pd

    if pd.isna(value):
        return None
    return int(value) if isinstance(value, int | float) and float(value).is_integer() else str(value)


def _alone(
    here: Mapping[Key, Sequence[int]],
    there: Mapping[Key, Sequence[int]],
    network: str,
    partner: str,
    places: Mapping[int, str],
) -> list[LeftOut]:
    """Why points of `network` have no counterpart: the first axis whose value the partner was never measured with."""
    alone = {key: labels for key, labels in here.items() if key not in there}
    if not there and alone:
        return [LeftOut(f"model not measured under {partner}", sum(map(len, alone.values())))]
    elsewhere = {axis: {key[i] for key in there} for i, axis in enumerate(MATCHED)}
    values: dict[str, dict[str, int]] = {}
    for key, labels in alone.items():
        named = dict(zip(MATCHED, key, strict=True))
        axis = next((name for name in _REASON_ORDER if named[name] not in elsewhere[name]), _COMBINATION)
        value = places[labels[0]] if axis == "split_index" else str(named.get(axis, ""))
        of_axis = values.setdefault(axis, {})
        of_axis[value] = of_axis.get(value, 0) + len(labels)
    return [
        LeftOut(f"{_words(axis, list(found))}: {network} only", sum(found.values())) for axis, found in values.items()
    ]


def _words(axis: str, values: Sequence[str]) -> str:
    if axis == _COMBINATION:
        return "this combination of axes"
    more = f" and {len(values) - NAMED_VALUES} more" if len(values) > NAMED_VALUES else ""
    name = _AXIS_WORDS.get(axis, axis)
    return f"{name}{'s' if len(values) > 1 else ''} {', '.join(values[:NAMED_VALUES])}{more}"
