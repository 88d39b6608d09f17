"""Where a batch's latency goes, and what a record says beside it: CPU time per image, bytes on the interface."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from analysis.operating_points import joined_texts, operating_points, point_numbers, table_columns

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PARTS = ("compute", "serialize", "queue", "network")
"""The parts of a latency, in the order in which they are stacked."""
PART_COLUMNS = tuple(f"breakdown_{part}_s" for part in PARTS)
CPU_S_PER_IMG = "cpu_s_per_img"
INTERFACE_RATIO = "interface_bytes_per_activation_byte"
DERIVED = (*PART_COLUMNS, CPU_S_PER_IMG, INTERFACE_RATIO)
"""Columns that are computed from a record's stages, in the order of the csv."""
_MORE_STAGE_METRICS = ("kernel_s", "gpu_power_w")
_TEXTS = ("granularity", "graph_hash", "weight_hash")


def derived_columns(frame: pd.DataFrame, loopback: Collection[str] = ()) -> pd.DataFrame:
    """`DERIVED` of every row of a `Run.frame`: see `breakdown`, `cpu_s_per_img` and `interface_ratio`."""
    import pandas as pd

    parts = breakdown(frame)
    parts[CPU_S_PER_IMG] = cpu_s_per_img(frame)
    parts[INTERFACE_RATIO] = interface_ratio(frame, loopback)
    return pd.DataFrame(parts, index=frame.index)


def breakdown(frame: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """The latency of every record of a `Run.frame` in seconds by part; the four add up to `latency_s`.

    compute: sum over stages of `exec_s`; serialize: of `serialize_s`; queue: of `queue_s + out_queue_s`; network: the
    rest of the latency, so the links both ways, the kernel, receiving (`recv_s` is in it, not added again) and, at
    depths above 1, waiting in socket buffers. A negative rest stays negative. A part is NaN where a stage does not
    have its duration, and then so is the rest.
    """
    compute = _total(frame, "exec_s")
    serialize = _total(frame, "serialize_s")
    queue = _total(frame, "queue_s") + _total(frame, "out_queue_s")
    network = _numbers(frame, "latency_s") - (compute + serialize + queue)
    return dict(zip(PART_COLUMNS, (compute, serialize, queue, network), strict=True))


def cpu_s_per_img(frame: pd.DataFrame) -> NDArray[np.float64]:
    """CPU seconds that the stages' processes use per image: sum of `cpu_pct / 100`, divided by images per second."""
    return _total(frame, "cpu_pct") / 100 / _above_0(_numbers(frame, "throughput_img_s"))


def loopback_hosts(run: Mapping[str, Any]) -> frozenset[str]:
    """Hosts of a run.json whose data interface is the loopback: it carries what all programs of the machine send."""
    facts = (run.get("hosts") or {}).items()
    return frozenset(host for host, fact in facts if (fact.get("data_interface") or {}).get("name") == "lo")


def interface_ratio(frame: pd.DataFrame, loopback: Collection[str] = ()) -> NDArray[np.float64]:
    """Bytes that the sending stages' data interfaces sent in the window, per byte of activations.

    A little above 1 where activations crossed that link: headers, acknowledgements, retransmissions and results come
    on top. Near 0 they took another way (shared memory, say). NaN where no interface's counter is known, a
    sender's host is in `loopback`, nothing is sent on, or there is one stage.
    """
    import numpy as np

    activations = _numbers(frame, "bytes_per_batch") * _numbers(frame, "window_batches")
    ratio = _total(frame, "tx_bytes", senders_only=True) / _above_0(activations)
    counts = frame["n_stages"].to_numpy()
    for k in range(1, _stage_count(frame)) if loopback else ():
        unproven = (counts > k) & _column(frame, f"stage{k}_host").isin(list(loopback)).to_numpy()
        ratio = np.where(unproven, np.nan, ratio)
    return ratio


def _total(frame: pd.DataFrame, metric: str, *, senders_only: bool = False) -> NDArray[np.float64]:
    """Per record the sum over its stages, without the last one if `senders_only`; NaN where there is none."""
    import numpy as np

    counts = frame["n_stages"].to_numpy() - (1 if senders_only else 0)
    total = np.where(counts > 0, 0.0, np.nan)
    for k in range(1, _stage_count(frame) + 1):
        total += np.where(counts >= k, _numbers(frame, f"stage{k}_{metric}"), 0.0)
    return total


def _stage_count(frame: pd.DataFrame) -> int:
    return int(frame["n_stages"].max()) if len(frame) else 0


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A column, of nothing but None where the frame has none."""
    import pandas as pd

    return frame[name] if name in frame.columns else pd.Series([None] * len(frame), index=frame.index, dtype=object)


def _numbers(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    import numpy as np

    return _column(frame, name).to_numpy(dtype=np.float64)


def _above_0(values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.where(values > 0, values, np.nan)


def compare_frame(frame: pd.DataFrame, loopback: Collection[str] = ()) -> pd.DataFrame:
    """What a comparison asks of a `Run.frame`: `table_columns`, `n_cuts`, `state`, `failure`, `DERIVED` and more.

    That is `granularity`, `graph_hash`, `weight_hash`, `n_stages`, `engines` (what each stage computed with, joined by
    `+`), `transport` (how the activations travelled, in words) and more per stage (`stage1_kernel_s` ...). None where
    unknown. `loopback`: see `interface_ratio`.
    """
    import pandas as pd

    n_stages = _stage_count(frame)
    texts = {name: _column(frame, name) for name in _TEXTS}
    made = {"n_stages": frame["n_stages"], "engines": _engines(frame), "transport": _transports(frame)}
    names = [f"stage{k}_{metric}" for k in range(1, n_stages + 1) for metric in _MORE_STAGE_METRICS]
    stages = {name: _numbers(frame, name) for name in names}
    kept = frame[[*table_columns(n_stages), "n_cuts", "state", "failure"]]
    more = pd.DataFrame(made | stages, index=frame.index)
    return pd.concat([kept, pd.DataFrame(texts, index=frame.index), derived_columns(frame, loopback), more], axis=1)


def compare_points(frame: pd.DataFrame) -> pd.DataFrame:
    """The operating points of a `compare_frame`: with `DERIVED`, `n_stages`, `granularity`, `engines`, `transport`."""
    import numpy as np

    stages = [str(column) for column in frame.columns if column.startswith("stage")]
    points = operating_points(frame, [*stages, *DERIVED])
    numbers, _ = point_numbers(frame)
    # What the valid rounds of a point say; all of them where none is valid.
    asked = (frame["state"] == "valid").to_numpy() | (points["rounds"].to_numpy() == 0)[numbers]
    place = list(points.columns).index("placement") + 1
    for column in ("transport", "engines", "granularity"):
        texts = joined_texts(frame[column].to_numpy()[asked], numbers[asked], len(points), " | ")
        points.insert(place, column, texts)
    most = np.zeros(len(points), dtype=np.int64)
    np.maximum.at(most, numbers, frame["n_stages"].to_numpy())
    points.insert(place, "n_stages", most)
    return points


def _transports(frame: pd.DataFrame) -> pd.Series[Any]:
    import pandas as pd

    names = ("kind", "route", "transports", "channels", "streams")
    columns = (_column(frame, f"transport_{name}") for name in names)
    known: dict[tuple[Any, ...], str | None] = {}
    words = []
    for *row_texts, streams in zip(*columns, strict=True):
        row = (*row_texts, streams if streams and streams > 0 else None)
        if row not in known:
            known[row] = transport_words(*row)
        words.append(known[row])
    return pd.Series(words, index=frame.index, dtype=object)


def transport_words(
    kind: str | None, route: str | None, transports: str | None, channels: str | None, streams: float | None
) -> str | None:
    """`direct, transports uv, channels basic`: a record's `transport` without its name; None where nothing crossed.

    Several transports or channels are joined by `+`; `streams` is None where it is not known.
    """
    parts = [part for part in (kind, route) if part]
    parts += [f"{name} {value}" for name, value in (("transports", transports), ("channels", channels)) if value]
    if streams:
        parts.append(f"{streams:g} TCP connection{'s' if streams > 1 else ''} per hop")
    return ", ".join(parts) or None


def _engines(frame: pd.DataFrame) -> pd.Series[Any]:
    """What each stage of a record computed with, joined by `+`; None where a stage does not say."""
    import pandas as pd

    columns = [_column(frame, f"stage{k}_engine") for k in range(1, _stage_count(frame) + 1)]
    rows = zip(*columns, strict=True) if columns else [()] * len(frame)
    counted = zip(rows, frame["n_stages"], strict=True)
    words = ["+".join(map(str, row[:n])) if n and all(row[:n]) else None for row, n in counted]
    return pd.Series(words, index=frame.index, dtype=object)
