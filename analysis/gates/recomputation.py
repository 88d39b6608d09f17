"""Every measured figure of every record, computed again from its samples by docs/measurement.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.gates.rules.columns import numbers, place, texts, whole
from analysis.gates.rules.hosts import sessions
from analysis.gates.violations import BREAKS, NOTE, Examined, Violation
from analysis.gates.windows import Windows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from analysis.run import Run

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

TOLERANCE = 1e-9
"""Relative difference that summing in another order may make; of `network_s`, a difference, relative to the latency."""
_QUANTILES = (("latency_p50_s", 1, 2, 11), ("latency_p90_s", 9, 10, 64))
"""Column, which quantile of how many parts, and the fewest batches that it is taken of."""
_MEANS = ("exec_s", "serialize_s", "recv_s", "queue_s", "out_queue_s", "kernel_s")
_LISTED = 3
"""Figures of a record that are named before the rest is counted."""
RULE = "samples"
SAYS = "every figure of a record follows from its samples"


@dataclass(frozen=True)
class Recomputed:
    """Figures by their column in a run's table; one value per record, NaN where the record has to have null."""

    values: dict[str, Floats]
    could_not: tuple[str, ...]
    """Columns of records that the samples of this run are too few to compute, stages' without their number."""


def recompute(windows: Windows, frame: pd.DataFrame, run: Mapping[str, Any]) -> Recomputed:
    """What the records of `frame` must say, given their `windows`."""
    import numpy as np

    out = _Figures(windows)
    n, depth, batch = windows.batches, numbers(frame, "depth"), numbers(frame, "batch_size")
    stages = np.nan_to_num(numbers(frame, "n_stages")).astype(int)
    latency = windows.mean("latency_s")
    out.put("latency_s", latency)
    for column, part, of, least in _QUANTILES:
        quantile = windows.quantile("latency_s", part, of)
        out.put(column, None if latency is None else np.where(n >= least, quantile, np.nan))
    out.put("window_batches", n)
    last, opening = windows.last("done_s"), windows.opening("done_s")
    elapsed = None if last is None or opening is None else last - opening
    out.put("window_s", elapsed)
    out.put("throughput_img_s", None if elapsed is None else n * batch / elapsed)
    total = int(stages.max(initial=0))
    out.put("network_s", _network(windows, latency, depth, stages, total))
    out.put("bytes_per_batch", _sent(windows, stages, total))
    for k in range(1, total + 1):
        _stage(out, windows, frame, run, k, stages >= k)
    return Recomputed(out.values, tuple(out.could_not))


class _Figures:
    """Collects what can be computed, and the names of what cannot."""

    def __init__(self, windows: Windows) -> None:
        self.values: dict[str, Floats] = {}
        self.could_not: dict[str, None] = {}

    def put(self, column: str, values: Floats | None, name: str | None = None) -> None:
        if values is None:
            self.could_not[name or column] = None
        else:
            self.values[column] = values


def _network(windows: Windows, latency: Floats | None, depth: Floats, stages: Ints, total: int) -> Floats | None:
    import numpy as np

    if latency is None:
        return None
    busy = np.zeros(len(depth))
    for k in range(1, total + 1):
        for metric in ("exec_s", "serialize_s"):
            mean = windows.mean(f"stage{k}_{metric}")
            if mean is None:
                return None
            busy += np.where(stages >= k, mean, 0.0)
    return np.where(depth == 1, latency - busy, np.nan)


def _sent(windows: Windows, stages: Ints, total: int) -> Floats | None:
    """The last stage sends results, no activations."""
    import numpy as np

    sent = np.zeros(len(stages))
    for k in range(1, total):
        mean = windows.mean(f"stage{k}_sent_bytes")
        if mean is None:
            return None
        sent += np.where(stages > k, mean, 0.0)
    if total == 1 and not windows.has("stage1_sent_bytes"):
        return None
    return np.rint(np.where(windows.batches > 0, sent, np.nan))


def _stage(
    out: _Figures, windows: Windows, frame: pd.DataFrame, run: Mapping[str, Any], k: int, taken: NDArray[np.bool_]
) -> None:
    import numpy as np

    def put(metric: str, values: Floats | None) -> None:
        out.put(f"stage{k}_{metric}", None if values is None else np.where(taken, values, np.nan), f"stages' {metric}")

    def growth(counter: str) -> Floats | None:
        last, first = windows.last(f"stage{k}_{counter}"), windows.opening(f"stage{k}_{counter}")
        return None if last is None or first is None else last - first

    def per_second(counter: str, factor: float) -> Floats | None:
        grown, elapsed = growth(counter), growth("clock_s")
        if grown is None or elapsed is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return factor * grown / elapsed

    for metric in _MEANS:
        put(metric, windows.mean(f"stage{k}_{metric}"))
    put("cpu_pct", per_second("cpu_time_s", 100.0))
    put("gpu_util_pct", per_second("gpu_busy_s", 100.0))
    put("gpu_power_w", per_second("gpu_energy_j", 1.0))
    put("tx_bytes", growth("tx_bytes"))
    put("rx_bytes", growth("rx_bytes"))
    rss, used = windows.last(f"stage{k}_rss_bytes"), windows.maximum(f"stage{k}_gpu_mem_bytes")
    put("rss_bytes", rss)
    put("gpu_mem_bytes", used)
    hosts = texts(frame, f"stage{k}_host")
    for metric, bytes_, device in (("mem_pct", rss, None), ("gpu_mem_pct", used, "gpu_device")):
        recorded = numbers(frame, f"stage{k}_{metric}")
        put(metric, _share(bytes_, hosts, _memory(run, device), recorded))


def _memory(run: Mapping[str, Any], device: str | None) -> dict[str, list[float]]:
    """Host -> bytes of memory of the machine, or of its `device`; several where a restart changed them."""
    found: dict[str, list[float]] = {}
    for session in sessions(run):
        for host, facts in (session.get("hosts") or {}).items():
            owner = facts.get(device) if device else facts
            if owner and owner.get("memory_total_bytes"):
                found.setdefault(host, []).append(float(owner["memory_total_bytes"]))
    return found


def _share(
    used: Floats | None, hosts: list[str | None], memory: Mapping[str, list[float]], recorded: Floats
) -> Floats | None:
    """Percent of the host's memory; where starts of the run found different sizes, what is nearest to the record."""
    import numpy as np

    if used is None or (np.isfinite(used).any() and not memory):
        return None
    share = np.full(len(used), np.nan)
    for start in range(max(map(len, memory.values()), default=0)):
        sizes = [memory.get(host or "", [np.nan]) for host in hosts]
        total = np.array([size[min(start, len(size) - 1)] for size in sizes], dtype=float)
        other = np.where(used > 0, 100.0 * used / total, np.nan)
        nearer = np.isnan(share) | (abs(other - recorded) < abs(share - recorded))
        share = np.where(nearer, other, share)
    return share


def examine_samples(data: Run, frame: pd.DataFrame, windows: Windows | None, lost: str = "") -> Examined:
    """Every record of `frame` (the measured ones) against its samples; `lost` says why samples could not be read."""
    import numpy as np

    if windows is None:
        violations = [Violation(RULE, None, None, None, lost, BREAKS)] if lost else []
        return Examined(RULE, SAYS, 0, "records", tuple(violations), "no samples were read: nothing was recomputed")
    again = recompute(windows, frame, data.run)
    present = windows.rows > 0
    wrong: dict[int, list[str]] = {}
    for column, values in again.values.items():
        recorded = numbers(frame, column)
        for row in np.flatnonzero(present & _differs(column, recorded, values, frame)).tolist():
            found = "none" if np.isnan(values[row]) else f"{values[row]:.6g}"
            had = "null" if np.isnan(recorded[row]) else f"{recorded[row]:.6g}"
            wrong.setdefault(row, []).append(f"{column} {had} recorded, {found} from samples")
    violations = [
        Violation(RULE, *place(frame, row), "; ".join(parts[:_LISTED]) + _more(len(parts) - _LISTED), BREAKS)
        for row, parts in sorted(wrong.items())
    ]
    for row in np.flatnonzero(present & (windows.opened != 1)).tolist() if windows.has_openings else []:
        words = f"samples have {windows.opened[row]:.0f} rows that open the window, not 1"
        violations.append(Violation(RULE, *place(frame, row), words, BREAKS))
    for row in np.flatnonzero(present & (windows.repeated > 0)).tolist():
        words = f"samples have {windows.repeated[row]:.0f} batches twice"
        violations.append(Violation(RULE, *place(frame, row), words, BREAKS))
    for row in np.flatnonzero(~present).tolist():
        violations.append(Violation(RULE, *place(frame, row), "the record has no samples", BREAKS))
    for cell, round_, depth in windows.strangers:
        words = "samples without a measured record (a run that was cut off or a rerun that failed leaves some)"
        violations.append(Violation(RULE, cell, whole(round_), whole(depth), words, NOTE))
    remark = f"not computable from these samples: {', '.join(again.could_not)}" if again.could_not else ""
    return Examined(RULE, SAYS, int(present.sum()), "records", tuple(violations), remark)


def _differs(column: str, recorded: Floats, values: Floats, frame: pd.DataFrame) -> NDArray[np.bool_]:
    import numpy as np

    scale = np.maximum(abs(recorded), abs(values))
    if column == "network_s":
        scale = np.fmax(scale, numbers(frame, "latency_s"))
    one_missing = np.isnan(recorded) != np.isnan(values)
    with np.errstate(invalid="ignore"):
        differs: NDArray[np.bool_] = one_missing | (abs(recorded - values) > TOLERANCE * scale)
    return differs


def _more(count: int) -> str:
    return f"; and {count} more" if count > 0 else ""
