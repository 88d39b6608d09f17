"""Where a batch's latency goes, and what a record says beside it: CPU time per image, bytes on the interface."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.operating_points import operating_points, records_frame, stage_count

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("compute", "serialize", "queue", "network")
"""The parts of a latency, in the order in which they are stacked."""
PART_COLUMNS = tuple(f"breakdown_{part}_s" for part in PARTS)
CPU_S_PER_IMG = "cpu_s_per_img"
INTERFACE_RATIO = "interface_bytes_per_activation_byte"
DERIVED = (*PART_COLUMNS, CPU_S_PER_IMG, INTERFACE_RATIO)
"""Columns that are computed from a record's stages, in the order of the csv."""
_MORE_STAGE_METRICS = ("kernel_s", "gpu_power_w")
_TEXTS = ("granularity", "graph_hash", "weight_hash")


def breakdown(record: Mapping[str, Any]) -> dict[str, float]:
    """The latency of a record in seconds by part; the four add up to `latency_s`.

    compute: sum over stages of `exec_s`; serialize: of `serialize_s`; queue: of `queue_s + out_queue_s`; network: the
    rest of the latency, so the links both ways, the kernel, receiving (`recv_s` is in it, not added again) and, at
    depths above 1, waiting in socket buffers. A negative rest stays negative. A part is NaN where a stage does not
    have its duration, and then so is the rest.
    """
    stages = record.get("stages") or []
    compute = _total(stages, "exec_s")
    serialize = _total(stages, "serialize_s")
    queue = _total(stages, "queue_s") + _total(stages, "out_queue_s")
    network = _number(record.get("latency_s")) - (compute + serialize + queue)
    return dict(zip(PART_COLUMNS, (compute, serialize, queue, network), strict=True))


def cpu_s_per_img(record: Mapping[str, Any]) -> float:
    """CPU seconds that the stages' processes use per image: sum of `cpu_pct / 100`, divided by images per second."""
    throughput = _number(record.get("throughput_img_s"))
    return _total(record.get("stages") or [], "cpu_pct") / 100 / throughput if throughput > 0 else math.nan


def loopback_hosts(run: Mapping[str, Any]) -> frozenset[str]:
    """Hosts of a run.json whose data interface is the loopback: it carries what all programs of the machine send."""
    facts = (run.get("hosts") or {}).items()
    return frozenset(host for host, fact in facts if (fact.get("data_interface") or {}).get("name") == "lo")


def interface_ratio(record: Mapping[str, Any], loopback: Collection[str] = ()) -> float:
    """Bytes that the sending stages' data interfaces sent in the window, per byte of activations.

    A little above 1 where activations crossed that link: headers, acknowledgements, retransmissions and results come
    on top. Near 0 they took another way (shared memory, say). NaN where no interface's counter is known, a
    sender's host is in `loopback`, nothing is sent on, or there is one stage.
    """
    stages = record.get("stages") or []
    if any(stage.get("host") in loopback for stage in stages[:-1]):
        return math.nan
    activations = _number(record.get("bytes_per_batch")) * _number(record.get("window_batches"))
    return _total(stages[:-1], "tx_bytes") / activations if activations > 0 else math.nan


def compare_frame(records: Sequence[Mapping[str, Any]], loopback: Collection[str] = ()) -> pd.DataFrame:
    """`records_frame` with `DERIVED`, more per stage (`stage1_kernel_s` ...), and what only a comparison asks for.

    That is `granularity`, `graph_hash`, `weight_hash`, `n_stages` (0 where failed), `engines` (what each stage
    computed with, joined by `+`) and `transport` (how the activations travelled, in words). None where unknown.
    `loopback`: see `interface_ratio`.
    """
    import pandas as pd

    frame = records_frame(records)
    n_stages = stage_count(records)
    extra = []
    for record in records:
        stages = record.get("stages") or []
        row: dict[str, Any] = {key: record.get(key) for key in _TEXTS}
        row |= {**breakdown(record), CPU_S_PER_IMG: cpu_s_per_img(record)}
        row[INTERFACE_RATIO] = interface_ratio(record, loopback)
        row |= {"n_stages": len(stages), "engines": _engines(stages), "transport": transport_words(record)}
        for k in range(1, n_stages + 1):
            stage = stages[k - 1] if k <= len(stages) else {}
            row |= {f"stage{k}_{metric}": _number(stage.get(metric)) for metric in _MORE_STAGE_METRICS}
        extra.append(row)
    return pd.concat([frame, pd.DataFrame(extra, index=frame.index)], axis=1)


def compare_points(frame: pd.DataFrame) -> pd.DataFrame:
    """The operating points of a `compare_frame`: with `DERIVED`, `n_stages`, `granularity`, `engines`, `transport`."""
    extra = [column for column in frame.columns if column in DERIVED or column.startswith("stage")]
    points = operating_points(frame, extra)
    groups = [group for _, group in frame.groupby(["cell", "depth"], sort=False)]
    place = list(points.columns).index("placement") + 1
    for column in ("transport", "engines", "granularity"):
        points.insert(place, column, [_texts(group, column) for group in groups])
    points.insert(place, "n_stages", [int(group["n_stages"].max()) for group in groups])
    return points


def _texts(group: pd.DataFrame, column: str) -> str:
    """What the rounds of a point say, each once; of the valid ones where there are any."""
    valid = group[group["state"] == "valid"]
    texts = (valid if len(valid) else group)[column]
    return " | ".join(dict.fromkeys(text for text in texts if isinstance(text, str)))


def transport_words(record: Mapping[str, Any]) -> str | None:
    """`direct, transports uv, channels basic`: a record's `transport` without its name; None where nothing crossed."""
    transport = record.get("transport")
    if not transport:
        return None
    parts = [str(transport[key]) for key in ("kind", "route") if transport.get(key)]
    lists = (key for key in ("transports", "channels") if transport.get(key))
    parts += [f"{key} {'+'.join(map(str, transport[key]))}" for key in lists]
    if transport.get("streams"):
        parts.append(f"{transport['streams']} TCP connection{'s' if transport['streams'] > 1 else ''} per hop")
    return ", ".join(parts) or None


def _engines(stages: Sequence[Mapping[str, Any]]) -> str | None:
    names = [stage.get("engine") for stage in stages]
    return "+".join(map(str, names)) if names and all(names) else None


def _total(stages: Sequence[Mapping[str, Any]], key: str) -> float:
    return math.fsum(_number(stage.get(key)) for stage in stages) if stages else math.nan


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
