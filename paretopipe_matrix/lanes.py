"""Which pipelines may be measured at the same time. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set


def lanes(occupied: Mapping[str, Set[Hashable]]) -> list[tuple[str, ...]]:
    """Pipelines that share a resource, directly or through others, in one lane; lanes share nothing.

    `occupied` maps a pipeline to what it needs for itself: its hosts and, where hosts are parts of one machine, cores.
    Lanes come in the order of their first pipeline, pipelines in the order given.
    """
    lane_of: dict[str, int] = {}
    for index, (pipeline, mine) in enumerate(occupied.items()):
        lane_of[pipeline] = index
        for other in [name for name in lane_of if name != pipeline and occupied[name] & mine]:
            old, new = lane_of[other], lane_of[pipeline]
            low, high = min(old, new), max(old, new)
            lane_of = {name: low if lane == high else lane for name, lane in lane_of.items()}
    grouped: dict[int, list[str]] = {}
    for pipeline in occupied:
        grouped.setdefault(lane_of[pipeline], []).append(pipeline)
    return [tuple(members) for members in grouped.values()]
