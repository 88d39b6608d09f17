"""From records to operating points: (cell, depth) with its latency and throughput over the valid rounds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.statistics import t_interval

if TYPE_CHECKING:
    import pandas as pd

JsonObject = dict[str, Any]

AXES = (
    *("cell", "model", "split", "split_index", "split_name", "backend", "engine", "pipeline"),
    *("profile", "shaper", "batch_size", "depth"),
)
CHOICES = ("backend", "engine", "pipeline", "batch_size")
"""Axes that somebody picks; the profile is not one of them: it is what the network imposes."""
STAGE_METRICS = ("exec_s", "cpu_pct", "mem_pct", "gpu_util_pct", "gpu_mem_pct")
LOW, HIGH = "_ci95_low", "_ci95_high"
"""Suffixes of the ends of a metric's 95 % t-interval in a frame of operating points."""

_MEASURED = (
    *("latency_s", "latency_p50_s", "latency_p90_s", "throughput_img_s", "network_s", "bytes_per_batch"),
    *("rtt_s", "bandwidth_bit_s"),
)
_NOT_AVERAGED = ("latency_p50_s", "latency_p90_s")


def stage_count(records: Iterable[Mapping[str, Any]]) -> int:
    """The largest number of stages of any record; 0 if none was measured."""
    return max((len(record.get("stages") or []) for record in records), default=0)


def stage_columns(n_stages: int) -> list[str]:
    """`stage1_exec_s, stage1_cpu_pct, ... stage2_exec_s, ...`."""
    return [f"stage{k}_{metric}" for k in range(1, n_stages + 1) for metric in STAGE_METRICS]


def table_columns(n_stages: int) -> list[str]:
    """The columns of `pp-analyze table --format csv`, in order."""
    return [*AXES, "round", "status", "valid", "invalid_reason", *_MEASURED, *stage_columns(n_stages)]


def flat_record(record: Mapping[str, Any], n_stages: int) -> JsonObject:
    """One record as one row of `table_columns(n_stages)`; what was not measured is None."""
    row = {column: record.get(column) for column in table_columns(0)}
    stages = record.get("stages") or []
    for k in range(1, n_stages + 1):
        stage = stages[k - 1] if k <= len(stages) else {}
        row |= {f"stage{k}_{metric}": stage.get(metric) for metric in STAGE_METRICS}
    return row


def records_frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per record: `table_columns`, then `n_cuts`, `state` and `failure`.

    `state` is `valid`, `invalid` or `failed`; a record that calls itself valid without a latency or a throughput
    is `invalid`. `failure` is the error as `kind on host: message`, or None. Measurements are floats, NaN where
    null.
    """
    import pandas as pd

    n_stages = stage_count(records)
    extra = ["n_cuts", "state", "failure"]
    rows = []
    for record in records:
        row = flat_record(record, n_stages)
        state, reason = _judge(record)
        row |= {"n_cuts": record.get("n_cuts"), "state": state, "failure": _failure(record), "invalid_reason": reason}
        rows.append(row)
    frame = pd.DataFrame(rows, columns=[*table_columns(n_stages), *extra], dtype=object)
    numeric = [*_MEASURED, *stage_columns(n_stages)]
    frame[numeric] = frame[numeric].astype(float)
    return frame


def _judge(record: Mapping[str, Any]) -> tuple[str, str | None]:
    if record["status"] != "ok":
        return "failed", None
    if not record["valid"]:
        return "invalid", record.get("invalid_reason") or "no reason recorded"
    if record.get("latency_s") is None or record.get("throughput_img_s") is None:
        return "invalid", "the record has no latency or no throughput"
    return "valid", None


def _failure(record: Mapping[str, Any]) -> str | None:
    if record["status"] == "ok":
        return None
    error = record.get("error") or {}
    where = f" on {error['host']}" if error.get("host") else ""
    return f"{error.get('kind', 'unknown')}{where}: {error.get('message', 'no error recorded')}"


def operating_points(frame: pd.DataFrame, extra: Sequence[str] = ()) -> pd.DataFrame:
    """One row per (cell, depth) of a `records_frame`, averaged over its valid rounds only.

    `extra` are columns of `frame`, numbers, that are averaged too.

    Columns: the axes, `n_cuts`, `placement` (`all remote`, `all local` or empty), `rounds` (valid ones),
    `rounds_invalid`, `rounds_failed`, `note` (what is left out of the averages and why), then for every metric its
    mean and the ends of its 95 % t-interval over rounds (`latency_s, latency_s_ci95_low, latency_s_ci95_high`;
    the ends are NaN with one round). A point without a valid round is a row of NaN with its note.
    """
    import pandas as pd

    metrics = [c for c in frame.columns if c.startswith("stage") or (c in _MEASURED and c not in _NOT_AVERAGED)]
    metrics += [column for column in extra if column not in metrics]
    columns = [*AXES, "n_cuts", "placement", "rounds", "rounds_invalid", "rounds_failed", "note"]
    columns += [name for metric in metrics for name in (metric, metric + LOW, metric + HIGH)]
    rows = [_point(group, metrics) for _, group in frame.groupby(["cell", "depth"], sort=False)]
    return pd.DataFrame(rows, columns=columns)


def _point(group: pd.DataFrame, metrics: Sequence[str]) -> JsonObject:
    first = group.iloc[0]
    row: JsonObject = {axis: first[axis] for axis in AXES}
    # Who enforced the profile is no part of a cell: a run resumed elsewhere may have two.
    row["shaper"] = "+".join(dict.fromkeys(str(shaper) for shaper in group["shaper"] if shaper is not None))
    row["n_cuts"] = first["n_cuts"]
    row["placement"] = placement(str(first["split_index"]), first["n_cuts"])
    states = Counter(group["state"])
    row["rounds"] = states["valid"]
    row["rounds_invalid"] = states["invalid"]
    row["rounds_failed"] = states["failed"]
    row["note"] = _note(group, states)
    valid = group[group["state"] == "valid"]
    for metric in metrics:
        interval = t_interval([value for value in valid[metric].tolist() if not math.isnan(value)])
        row |= {metric: interval.mean, metric + LOW: interval.low, metric + HIGH: interval.high}
    return row


def _note(group: pd.DataFrame, states: Mapping[str, int]) -> str:
    parts = []
    for state, column in (("invalid", "invalid_reason"), ("failed", "failure")):
        if states.get(state):
            reasons = dict.fromkeys(group.loc[group["state"] == state, column])
            parts.append(f"{states[state]} of {len(group)} rounds {state}: {' | '.join(map(str, reasons))}")
    return "; ".join(parts)


def placement(split_index: str, n_cuts: int | None) -> str:
    """`all remote` where every cut is cut 0, `all local` where every cut is cut N, otherwise empty."""
    cuts = set(split_index.split("+"))
    if cuts == {"0"}:
        return "all remote"
    return "all local" if cuts == {str(n_cuts)} else ""


def varying(points: pd.DataFrame, axes: Iterable[str]) -> list[str]:
    """Those of `axes` that take more than one value in `points`."""
    return [axis for axis in axes if points[axis].nunique(dropna=False) > 1]
