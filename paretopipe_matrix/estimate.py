"""How long a cell may take, from one quick pass over the blocks. For the ETA, the order of magnitude and time limits;
never a result. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paretopipe_matrix.testbed import CutInfo, ModelDescription, Profile, Window

SWITCH_S = 0.05
"""Granted per cell for re-slicing the model, connecting and checking the first output."""
PROBE_S = 1.0
"""Granted per probe beside its round trips."""
PROBE_ROUND_TRIPS = 10


@dataclass(frozen=True)
class PipelineTimes:
    """Expected seconds per batch: each stage's, the first hop's transfer, and the unloaded round."""

    stages_s: tuple[float, ...]
    link_s: float
    latency_s: float

    def period_s(self, depth: int) -> float:
        """Seconds between two results with `depth` batches in flight: the slowest part, or the round shared by them."""
        return max(*self.stages_s, self.link_s, self.latency_s / depth)


def pipeline_times(
    description: ModelDescription, hosts: Sequence[str], cuts: Sequence[CutInfo], profile: Profile
) -> PipelineTimes:
    """Expected times of one split. `hosts` has one more item than `cuts`.

    A profile acts on the first host's links: its delays are paid once per round, its rate by the first cut's bytes.
    Cut N sends nothing, so no link is used. A host that could not be timed is taken for the slowest that was.
    """
    last = description.cuts[-1].index
    bounds = [0, *(cut.index for cut in cuts), last]
    slowest = max(description.segment_exec_s.values(), key=sum)
    stages = tuple(
        sum(description.segment_exec_s.get(host, slowest)[low:high])
        for host, low, high in zip(hosts, bounds[:-1], bounds[1:], strict=True)
    )
    if cuts[0].index == last:
        return PipelineTimes(stages, 0.0, sum(stages))
    egress = profile.links.get("first-egress")
    rate = egress.rate_bit_s if egress else None
    link_s = cuts[0].nbytes * 8 / rate if rate else 0.0
    return PipelineTimes(stages, link_s, sum(stages) + link_s + profile.added_rtt_s)


def window_batches(window: Window, period_s: float) -> int:
    """Batches that a window is expected to hold."""
    if window.batches is not None:
        return window.batches
    if window.seconds is None or period_s <= 0:
        return window.min_batches
    return max(window.min_batches, math.ceil(window.seconds / period_s))


def depth_s(times: PipelineTimes, depth: int, window: Window, warmup_batches: int) -> float:
    """Seconds for one depth of one round: fill, warm-up, window, drain."""
    period = times.period_s(depth)
    return 2 * times.latency_s + (warmup_batches + window_batches(window, period)) * period


def probes_s(profile: Profile) -> float:
    """Seconds for the two probes around one round of a group."""
    return 2 * (PROBE_S + PROBE_ROUND_TRIPS * profile.added_rtt_s)


def timeout_s(expected_s: float) -> float:
    """A generous limit for a cell that is expected to take `expected_s`."""
    return 60 + 10 * expected_s
