"""From the batches of one measurement window to the figures of one operating point. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, quantiles
from typing import Any

from paretopipe_runtime.transport.frame import StageTimes

# A percentile needs enough samples on its far side to be more than the extreme value.
P50_MIN_SAMPLES = 11
P90_MIN_SAMPLES = 64

SAMPLED = (
    *("exec_s", "recv_s", "queue_s", "serialize_s", "out_queue_s", "cpu_time_s", "kernel_s"),
    *("gpu_busy_s", "gpu_energy_j", "gpu_mem_bytes", "tx_bytes", "rx_bytes", "sent_bytes"),
)
"""Fields of `StageTimes` that a samples file has for every stage."""

LITTLE_TOLERANCE = 0.05
BOUND_TOLERANCE = 0.02


@dataclass(frozen=True)
class WindowPlan:
    """When a window ends: after `batches`, or after `seconds` but not before `min_batches`."""

    batches: int | None
    seconds: float | None
    min_batches: int

    def is_over(self, completed: int, elapsed_s: float) -> bool:
        """Whether the completion just counted is the window's last."""
        if self.batches is not None and completed >= self.batches:
            return True
        return self.seconds is not None and elapsed_s >= self.seconds and completed >= self.min_batches


@dataclass(frozen=True)
class Completion:
    """One batch that came back: driver's clock, and what every stage reported."""

    batch_id: int
    done_s: float
    latency_s: float
    stages: tuple[StageTimes, ...]


@dataclass
class Window:
    """The completions of one window; `opened` is the one whose return opened it (not counted)."""

    depth: int
    opened: Completion
    warmup_batches: int
    warmup_s: float
    completions: list[Completion] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """From the completion that opened the window to its last."""
        return self.completions[-1].done_s - self.opened.done_s


def summarise(window: Window, batch_size: int) -> dict[str, Any]:
    """The measured part of a record (docs/formats.md), with its validity."""
    done = window.completions
    latencies = [completion.latency_s for completion in done]
    latency_s = fmean(latencies)
    throughput_img_s = len(done) * batch_size / window.duration_s
    stages = [
        _stage_means([c.stages[k] for c in done], window.opened.stages[k]) for k in range(len(window.opened.stages))
    ]
    busy_s = sum(stage["exec_s"] + stage["serialize_s"] for stage in stages)
    reason = check(
        depth=window.depth,
        batch_size=batch_size,
        n=len(done),
        latency_s=latency_s,
        throughput_img_s=throughput_img_s,
        exec_s=[stage["exec_s"] for stage in stages],
    )
    return {
        "latency_s": latency_s,
        "latency_p50_s": quantiles(latencies, n=2)[0] if len(done) >= P50_MIN_SAMPLES else None,
        "latency_p90_s": quantiles(latencies, n=10)[8] if len(done) >= P90_MIN_SAMPLES else None,
        "throughput_img_s": throughput_img_s,
        "network_s": latency_s - busy_s if window.depth == 1 else None,
        # The last stage sends results back to the driver, not activations on.
        "bytes_per_batch": round(fmean(sum(t.sent_bytes for t in c.stages[:-1]) for c in done)),
        "window_s": window.duration_s,
        "window_batches": len(done),
        "warmup_batches": window.warmup_batches,
        "warmup_s": window.warmup_s,
        "stages": stages,
        "valid": reason is None,
        "invalid_reason": reason,
    }


def _stage_means(times: Sequence[StageTimes], opened: StageTimes) -> dict[str, Any]:
    elapsed_s = times[-1].clock_s - opened.clock_s
    return {
        "exec_s": fmean(t.exec_s for t in times),
        "serialize_s": fmean(t.serialize_s for t in times),
        "recv_s": _known(fmean(t.recv_s for t in times)),
        "queue_s": fmean(t.queue_s for t in times),
        "out_queue_s": fmean(t.out_queue_s for t in times),
        "cpu_pct": 100.0 * (times[-1].cpu_time_s - opened.cpu_time_s) / elapsed_s,
        "rss_bytes": int(times[-1].peak_rss_bytes),
        "kernel_s": _known(fmean(t.kernel_s for t in times)),
        "gpu_util_pct": _known(100.0 * (times[-1].gpu_busy_s - opened.gpu_busy_s) / elapsed_s),
        "gpu_power_w": _known((times[-1].gpu_energy_j - opened.gpu_energy_j) / elapsed_s),
        "gpu_mem_bytes": _known(max(t.gpu_mem_bytes for t in times)),
        "tx_bytes": _known(times[-1].tx_bytes - opened.tx_bytes),
        "rx_bytes": _known(times[-1].rx_bytes - opened.rx_bytes),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def check(
    *, depth: int, batch_size: int, n: int, latency_s: float, throughput_img_s: float, exec_s: Sequence[float]
) -> str | None:
    """Why a point contradicts itself, or None (docs/measurement.md, checks).

    A window of n batches has two edges, each uncertain by a fraction of a batch: hence the 1/n terms.
    """
    if depth == 1 and latency_s < sum(exec_s):
        return f"latency {latency_s:.4g} s is below the stages' own {sum(exec_s):.4g} s"
    slowest_s = max(exec_s)
    bound_img_s = batch_size / slowest_s if slowest_s > 0 else float("inf")
    if throughput_img_s > bound_img_s * (1 + BOUND_TOLERANCE + 0.5 / n):
        return f"throughput {throughput_img_s:.4g} img/s exceeds the slowest stage's {bound_img_s:.4g} img/s"
    ratio = throughput_img_s * latency_s / (depth * batch_size)
    if abs(ratio - 1) > LITTLE_TOLERANCE + 1 / n:
        return f"Little's law: throughput x latency is {ratio:.3f} of depth x batch"
    return None


def sample_rows(window: Window) -> list[dict[str, Any]]:
    """The completion that opened the window (not `counted`), then one row per batch of the window.

    With them everything that `summarise` gives can be computed again: `done_s` and `stage{k}_clock_s` count from the
    opening row's.
    """
    opened = window.opened
    rows = []
    for completion in (opened, *window.completions):
        row: dict[str, Any] = {
            "depth": window.depth,
            "batch_id": completion.batch_id,
            "counted": completion is not opened,
            "done_s": completion.done_s - opened.done_s,
            "latency_s": completion.latency_s,
        }
        for index, (times, start) in enumerate(zip(completion.stages, opened.stages, strict=True), start=1):
            for name in SAMPLED:
                row[f"stage{index}_{name}"] = _known(getattr(times, name))
            row[f"stage{index}_clock_s"] = times.clock_s - start.clock_s
            row[f"stage{index}_rss_bytes"] = int(times.peak_rss_bytes)
        rows.append(row)
    return rows
