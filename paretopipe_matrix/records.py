"""Lines of records.jsonl and probes.jsonl, exactly as docs/formats.md has them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from paretopipe_matrix.plan import CellPlan, axes
from paretopipe_matrix.profiles import declared
from paretopipe_matrix.testbed import CellError, DepthResult, JsonObject, ProbeResult, Profile
from paretopipe_runtime.results.directory import SCHEMA

MEASURED = (
    "valid",
    "invalid_reason",
    "latency_s",
    "latency_p50_s",
    "latency_p90_s",
    "throughput_img_s",
    "network_s",
    "bytes_per_batch",
    "window_s",
    "window_batches",
    "warmup_batches",
    "warmup_s",
    "stages",
    "transport",
    "output_bitwise",
    "output_max_rel_err",
    "graph_hash",
    "weight_hash",
)
"""What a testbed measures; the rest of a record is added here."""


def ok_record(
    plan: CellPlan, result: DepthResult, round_: int, shaper: str, probe: ProbeResult, segment: str, started_at: str
) -> JsonObject:
    """A measured record.

    Raises CellError (kind `internal`) where the testbed left out a key or gave a number that is none: such a point
    is a failure, not a gap.
    """
    missing = [key for key in MEASURED if key not in result.measured]
    if missing:
        raise CellError("internal", f"depth {result.depth}: the testbed measured no {', '.join(missing)}")
    bad = _not_finite(result.measured)
    if bad:
        raise CellError("internal", f"depth {result.depth}: {bad} is not a finite number")
    return {
        **_head(plan, result.depth, round_, shaper),
        "status": "ok",
        **{key: result.measured[key] for key in MEASURED},
        "rtt_s": probe.rtt_s,
        "bandwidth_bit_s": probe.bandwidth_bit_s,
        "segment": segment,
        "started_at": started_at,
        "error": None,
    }


def failed_record(
    plan: CellPlan, error: CellError, depth: int, round_: int, shaper: str | None, segment: str, started_at: str
) -> JsonObject:
    """A failed record: axes and error, every measurement null."""
    return {
        **_head(plan, depth, round_, shaper),
        "status": "failed",
        **dict.fromkeys(MEASURED),
        "valid": False,
        "rtt_s": None,
        "bandwidth_bit_s": None,
        "segment": segment,
        "started_at": started_at,
        "error": error.as_json(),
    }


def _head(plan: CellPlan, depth: int, round_: int, shaper: str | None) -> JsonObject:
    return {
        "schema": SCHEMA,
        "cell": plan.cell.id,
        **axes(plan),
        "shaper": shaper,
        "depth": depth,
        "round": round_,
    }


def probe_line(
    segment: str,
    when: str,
    pipeline: str,
    profile: Profile,
    shaper: str,
    time: str,
    probe: ProbeResult | None,
    reason: str | None,
    *,
    late: bool = False,
) -> JsonObject:
    """A line of probes.jsonl; `probe` is None where the path could not be measured, `reason` None where it is kept.

    `late`: the segment was cut off (by SIGKILL, say), and this is the first measurement after the run was resumed.
    """
    return {
        "schema": SCHEMA,
        "segment": segment,
        "when": when,
        "profile": profile.name,
        "pipeline": pipeline,
        "shaper": shaper,
        "time": time,
        "rtt_s": _finite(probe.rtt_s) if probe else None,
        "rtt_samples_s": [_finite(sample) for sample in probe.rtt_samples_s] if probe else [],
        "bandwidth_bit_s": _finite(probe.bandwidth_bit_s) if probe else None,
        "bandwidth_bytes": probe.bandwidth_bytes if probe else None,
        "ingress_bandwidth_bit_s": _finite(probe.ingress_bandwidth_bit_s)
        if probe and probe.ingress_bandwidth_bit_s is not None
        else None,
        "declared": declared(profile),
        "ok": reason is None,
        "reason": reason,
        "late": late,
        "vitals": dict(probe.vitals) if probe else {},
        "network": dict(probe.network) if probe else {},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _not_finite(value: Any, name: str = "") -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return name or "a value"
    items: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        items = [(f"{name}.{key}".lstrip("."), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    return next((bad for key, item in items if (bad := _not_finite(item, key))), None)
