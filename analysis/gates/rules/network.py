"""The network of every segment: measured before and after, as declared, and as the records have it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.gates.rules.columns import numbers, place, texts
from analysis.gates.violations import BREAKS, NOTE, Examined, Violation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from analysis.run import Run

JsonObject = dict[str, Any]

OWN_RTT_S = 0.005
"""Round trip that is granted to the path itself, on top of what a profile declares."""
_SAME = 1e-9
"""Relative difference up to which two numbers are the same one."""
_PROBED_AXES = ("profile", "pipeline")
_PROBED = ("rtt_s", "bandwidth_bit_s")


def examine_network(data: Run) -> list[Examined]:
    """Whether each segment with measurements has its two probes, and each probe is what the profile declares."""
    frame = data.measured
    rows: dict[str, list[int]] = {}
    for row, segment in enumerate(texts(frame, "segment")):
        if segment is not None:
            rows.setdefault(segment, []).append(row)
    says = "path as declared before and after each segment"
    if not rows:
        return [Examined("network", says, 0, "segments", remark="no record names the segment that it was measured in")]
    probes: dict[str, dict[str, JsonObject]] = {}
    for probe in data.probes:
        probes.setdefault(probe["segment"], {})[probe["when"]] = probe
    violations: list[Violation] = []
    for segment, records in rows.items():
        violations += _of_segment(segment, probes.get(segment, {}), len(records))
    violations += _of_records(
        frame, rows, {name: found["before"] for name, found in probes.items() if "before" in found}
    )
    bare = _bare_rtts(data)
    profiles = data.run.get("profiles") or {}
    for probe in data.probes:
        violations += (_violation(probe, words, verdict) for words, verdict in _of_probe(probe, profiles, bare))
    return [Examined("network", says, len(rows), "segments", tuple(violations))]


def _violation(probe: Mapping[str, Any], words: str, verdict: str) -> Violation:
    text = f"segment {probe['segment']} ({probe.get('pipeline')}, {probe.get('profile')}), {probe['when']}: {words}"
    return Violation("network", None, None, None, text, verdict)


def _of_segment(segment: str, found: Mapping[str, JsonObject], records: int) -> Iterator[Violation]:
    """A segment with measurements: what its probes are missing or say themselves."""
    for when in ("before", "after"):
        probe = found.get(when)
        if probe is None:
            words = f"segment {segment}: no probe {when} it; the network of {records} records is not verified"
            yield Violation("network", None, None, None, words, BREAKS)
        elif not probe["ok"]:
            reason = probe.get("reason") or "no reason recorded"
            yield _violation(probe, f"not as declared, {records} records: {reason}", BREAKS)
        elif probe.get("late"):
            yield _violation(probe, "measured late, when the run was resumed", NOTE)


def _of_records(
    frame: pd.DataFrame, rows: Mapping[str, Sequence[int]], before: Mapping[str, JsonObject]
) -> Iterator[Violation]:
    """Records must have the profile, the pipeline and the figures of the probe before their segment."""
    import numpy as np

    texts_of = {axis: frame[axis].to_numpy(dtype=object) for axis in _PROBED_AXES}
    numbers_of = {column: numbers(frame, column) for column in _PROBED}
    for segment, members in rows.items():
        probe = before.get(segment)
        if probe is None:
            continue
        at = np.array(members)
        other = {axis: values[at] != probe.get(axis) for axis, values in texts_of.items()}
        other |= {c: ~_same(values[at], probe.get(c)) for c, values in numbers_of.items()}
        for index in np.flatnonzero(np.any(list(other.values()), axis=0)).tolist():
            differing = [column for column, differs in other.items() if differs[index]]
            words = f"has another {' and '.join(differing)} than the probe before its segment {segment}"
            yield Violation("network", *place(frame, members[index]), words, BREAKS)


def _same(recorded: NDArray[np.float64], probed: float | None) -> NDArray[np.bool_]:
    import numpy as np

    return np.isclose(recorded, np.nan if probed is None else probed, rtol=_SAME, atol=0.0)


def _bare_rtts(data: Run) -> dict[str, float]:
    """Pipeline -> the longest round trip measured on it without anything imposed."""
    profiles = data.run.get("profiles") or {}
    longest: dict[str, float] = {}
    for probe in data.probes:
        profile = profiles.get(str(probe.get("profile")))
        if profile is not None and not profile.get("links") and probe.get("rtt_s") is not None:
            pipeline = str(probe.get("pipeline"))
            longest[pipeline] = max(longest.get(pipeline, 0.0), float(probe["rtt_s"]))
    return longest


def _of_probe(
    probe: Mapping[str, Any], profiles: Mapping[str, Any], bare: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """What a probe says of itself against what its figures and the profile say: words and verdict."""
    samples = [float(value) for value in probe.get("rtt_samples_s") or [] if value is not None]
    rtt_s = probe.get("rtt_s")
    if samples and rtt_s is not None and not math.isclose(statistics.median(samples), rtt_s, rel_tol=_SAME):
        yield f"round trip {rtt_s:.6g} s recorded, median of its samples {statistics.median(samples):.6g} s", BREAKS
    profile = profiles.get(str(probe.get("profile")))
    if profile is None:
        yield f"run.json does not say what profile {probe.get('profile')} is", NOTE
        return
    unmeasured = rtt_s is None or probe.get("bandwidth_bit_s") is None
    # An earlier start of the same run may have known the bare path or not: both limits are granted.
    widest = off_profile(profile, probe, bare.get(str(probe.get("pipeline")), 0.0))
    narrowest = off_profile(profile, probe, 0.0)
    if probe["ok"] and widest:
        yield f"marked as declared, but {widest}", BREAKS
    elif not probe["ok"] and not narrowest and not unmeasured:
        yield f"marked as not as declared ({probe.get('reason')}), but its figures are", BREAKS


def off_profile(profile: Mapping[str, Any], probe: Mapping[str, Any], bare_rtt_s: float) -> str | None:
    """How a probe's figures are off what a profile of run.json declares (docs/measurement.md, Probes), or None."""
    rtt_s, rate_bit_s = probe.get("rtt_s"), probe.get("bandwidth_bit_s")
    if not rtt_s or not rate_bit_s or rtt_s <= 0 or rate_bit_s <= 0:
        return "round trip or bandwidth is missing or not above 0"
    links: Mapping[str, Any] = profile.get("links") or {}
    added_s = sum(link.get("delay_s") or 0.0 for link in links.values())
    if added_s > 0:
        jitter_s = sum(link.get("jitter_s") or 0.0 for link in links.values())
        slack_s = added_s * profile.get("rtt_tolerance_pct", 5) / 100 + jitter_s
        if not added_s - slack_s <= rtt_s <= added_s + slack_s + OWN_RTT_S + bare_rtt_s:
            return f"round trip {1e3 * rtt_s:.4g} ms, declared {1e3 * added_s:g} ms"
    for direction, measured_bit_s in (
        ("first-egress", rate_bit_s),
        ("first-ingress", probe.get("ingress_bandwidth_bit_s")),
    ):
        declared = (links.get(direction) or {}).get("rate_bit_s")
        if declared is None:
            continue
        if measured_bit_s is None:
            return f"bandwidth of {direction} not measured, declared {declared / 1e6:g} Mbit/s"
        if abs(measured_bit_s / declared - 1) > profile.get("rate_tolerance_pct", 10) / 100:
            return f"{measured_bit_s / 1e6:.3g} Mbit/s {direction}, declared {declared / 1e6:g} Mbit/s"
    return None
