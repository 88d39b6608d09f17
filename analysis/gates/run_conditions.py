"""What two runs do not have in common: hosts and networks, which forbid comparing them, settings and code. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.run import Run

_SAME_HOST = ("hostname", "machine", "cpu_model", "cpu_count", "cpus", "threads", "torch")
_EXPLAINS = ("torchvision", "paretopipe", "python", "kernel", "governor", "congestion_control", "allocator")
MEMORY_TOLERANCE = 0.01
"""Kernels of one machine differ by less in what they keep for themselves."""
OWN_RTT_S = 0.005
BARE_FACTOR = 4.0
"""By how much a path without declared links may differ, as it has no tolerance; Ethernet's generations are 10 apart."""


@dataclass(frozen=True)
class Conditions:
    """Differences, each as `what: first -> second`."""

    forbidding: tuple[str, ...]
    """Of hosts and networks: times of the two runs are not of the same machines."""
    settings: tuple[str, ...]
    """Of the spec: what was computed and how long, which changes what a ratio means."""
    code: tuple[str, ...]
    """Of the software: often what the comparison is about."""


def compare_conditions(first: Run, second: Run) -> Conditions:
    """What differs between where, with what and how two runs were measured."""
    return Conditions(
        (*_testbeds(first, second), *_hosts(first, second), *_networks(first, second)),
        tuple(_settings(first, second)),
        tuple(_code(first, second)),
    )


def _testbeds(first: Run, second: Run) -> Iterator[str]:
    kinds = [str(data.run.get("testbed")) for data in (first, second)]
    if kinds[0] != kinds[1]:
        yield f"testbed: {kinds[0]} -> {kinds[1]}"


def _facts(data: Run) -> Mapping[str, Mapping[str, Any]]:
    return data.run.get("hosts") or {}


def _hosts(first: Run, second: Run) -> Iterator[str]:
    ours, theirs = _facts(first), _facts(second)
    if set(ours) != set(theirs):
        yield f"hosts: {', '.join(sorted(ours)) or 'none recorded'} -> {', '.join(sorted(theirs)) or 'none recorded'}"
    for host in sorted(set(ours) & set(theirs)):
        before, after = ours[host], theirs[host]
        for fact in _SAME_HOST:
            if before.get(fact) != after.get(fact):
                yield f"{host}: {fact}: {before.get(fact)} -> {after.get(fact)}"
        if _far(before.get("memory_total_bytes"), after.get("memory_total_bytes"), MEMORY_TOLERANCE):
            yield f"{host}: memory: {_gib(before)} -> {_gib(after)}"
        gpus = [(facts.get("gpu_device") or {}).get("name") for facts in (before, after)]
        if gpus[0] != gpus[1]:
            yield f"{host}: gpu: {gpus[0]} -> {gpus[1]}"


def _far(before: float | None, after: float | None, tolerance: float) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(after - before) > tolerance * before


def _gib(facts: Mapping[str, Any]) -> str:
    total = facts.get("memory_total_bytes")
    return "unknown" if total is None else f"{total / 2**30:.2f} GiB"


def _networks(first: Run, second: Run) -> Iterator[str]:
    """Profiles of the same name: declared alike, and measured within each other's tolerance."""
    profiles = [data.run.get("profiles") or {} for data in (first, second)]
    for name in sorted(set(profiles[0]) & set(profiles[1])):
        links = [profile[name].get("links") or {} for profile in profiles]
        if links[0] != links[1]:
            yield f"profile {name}: declared {json.dumps(links[0])} -> {json.dumps(links[1])}"
    before, after = _measured(first), _measured(second)
    for key in sorted(set(before) & set(after)):
        profile = profiles[0].get(key[1]) or {}
        (rtt, rate), (other_rtt, other_rate) = before[key], after[key]
        added_s = sum(link.get("delay_s") or 0.0 for link in (profile.get("links") or {}).values())
        limit_s = added_s * profile.get("rtt_tolerance_pct", 5) / 100 + OWN_RTT_S
        if abs(other_rtt - rtt) > limit_s if added_s else _apart(rtt, other_rtt):
            yield f"{key[0]}, {key[1]}: round trip {1e3 * rtt:.3g} -> {1e3 * other_rtt:.3g} ms"
        declared = ((profile.get("links") or {}).get("first-egress") or {}).get("rate_bit_s")
        tolerance = profile.get("rate_tolerance_pct", 10) / 100
        if _far(rate, other_rate, tolerance) if declared else _apart(rate, other_rate):
            yield f"{key[0]}, {key[1]}: bandwidth {rate / 1e6:.3g} -> {other_rate / 1e6:.3g} Mbit/s"


def _apart(before: float, after: float) -> bool:
    return max(before, after) > BARE_FACTOR * min(before, after)


def _measured(data: Run) -> dict[tuple[str, str], tuple[float, float]]:
    """(pipeline, profile) -> median round trip and bandwidth of its probes."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for probe in data.probes:
        rtt_s, rate_bit_s = probe.get("rtt_s"), probe.get("bandwidth_bit_s")
        if rtt_s and rate_bit_s:
            found.setdefault((str(probe.get("pipeline")), str(probe.get("profile"))), []).append(
                (float(rtt_s), float(rate_bit_s))
            )
    return {
        key: (statistics.median(rtt for rtt, _ in values), statistics.median(rate for _, rate in values))
        for key, values in found.items()
    }


def _settings(first: Run, second: Run) -> Iterator[str]:
    for key in ("window", "warmup_batches", "streams"):
        values = [_all_of(data, key) for data in (first, second)]
        if values[0] != values[1]:
            yield f"{key}: {' or '.join(values[0])} -> {' or '.join(values[1])}"
    ours, theirs = _models(first), _models(second)
    for model, batch in sorted(set(ours) & set(theirs)):
        before, after = ours[model, batch], theirs[model, batch]
        for name in ("weights", "seed", "input", "input_encoding"):
            if before.get(name) != after.get(name):
                yield f"{model}, batch {batch}: {name}: {before.get(name)} -> {after.get(name)}"


def _all_of(data: Run, key: str) -> list[str]:
    """Each value that the spec or an entry of its matrix gives to a field, as text."""
    spec = data.run.get("spec") or {}
    entries = spec.get("matrix") or [{}]
    return sorted({_text(entry.get(key, spec.get(key))) for entry in entries})


def _text(value: object) -> str:
    """`min_batches 5, seconds 0.8`: what is set in a mapping; anything else as it is."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key} {setting}" for key, setting in sorted(value.items()) if setting is not None)


def _models(data: Run) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(str(m.get("model")), str(m.get("batch_size"))): m for m in data.run.get("models") or []}


def _code(first: Run, second: Run) -> Iterator[str]:
    commits = [_commit(data) for data in (first, second)]
    if commits[0] != commits[1]:
        yield f"git: {commits[0]} -> {commits[1]}"
    ours, theirs = _facts(first), _facts(second)
    for host in sorted(set(ours) & set(theirs)):
        for fact in _EXPLAINS:
            if ours[host].get(fact) != theirs[host].get(fact):
                yield f"{host}: {fact}: {ours[host].get(fact)} -> {theirs[host].get(fact)}"


def _commit(data: Run) -> str:
    git = data.run.get("git") or {}
    return f"{str(git.get('commit'))[:12]}{' with changes' if git.get('dirty') else ''}" if git else "unknown"
