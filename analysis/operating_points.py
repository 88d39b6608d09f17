"""From records to operating points: (cell, depth) with its latency and throughput over the valid rounds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.statistics import t_intervals

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

AXES = (
    *("cell", "model", "split", "split_index", "split_name", "backend", "engine", "pipeline"),
    *("profile", "shaper", "batch_size", "depth"),
)
CHOICES = ("backend", "engine", "pipeline", "batch_size")
"""Axes that somebody picks; the profile is not one of them: it is what the network imposes."""
STAGE_METRICS = ("exec_s", "cpu_pct", "mem_pct", "gpu_util_pct", "gpu_mem_pct")
MEASURED = (
    *("latency_s", "latency_p50_s", "latency_p90_s", "throughput_img_s", "network_s", "bytes_per_batch"),
    *("rtt_s", "bandwidth_bit_s"),
)
LOW, HIGH = "_ci95_low", "_ci95_high"
"""Suffixes of the ends of a metric's 95 % t-interval in a frame of operating points."""

_NOT_AVERAGED = ("latency_p50_s", "latency_p90_s")
_STAGE_METRIC = re.compile(rf"stage\d+_({'|'.join(STAGE_METRICS)})")


def stage_columns(n_stages: int) -> list[str]:
    """`stage1_exec_s, stage1_cpu_pct, ... stage2_exec_s, ...`."""
    return [f"stage{k}_{metric}" for k in range(1, n_stages + 1) for metric in STAGE_METRICS]


def table_columns(n_stages: int) -> list[str]:
    """The columns of `pp-analyze table --format csv`, in order."""
    return [*AXES, "round", "status", "valid", "invalid_reason", *MEASURED, *stage_columns(n_stages)]


def operating_points(frame: pd.DataFrame, extra: Sequence[str] = ()) -> pd.DataFrame:
    """One row per (cell, depth) of a `Run.frame`, averaged over its valid rounds only.

    `extra` are columns of `frame`, numbers, that are averaged too. An unknown depth (None) is a depth of its own.

    Columns: the axes, `n_cuts`, `placement` (`all remote`, `all local` or empty), `rounds` (valid ones),
    `rounds_invalid`, `rounds_failed`, `note` (what is left out of the averages and why), then for every metric its
    mean and the ends of its 95 % t-interval over rounds (`latency_s, latency_s_ci95_low, latency_s_ci95_high`;
    the ends are NaN with one round). A point without a valid round is a row of NaN with its note. `depth`, `n_cuts`
    and `batch_size` are whole numbers, or objects where one is None.
    """
    import numpy as np
    import pandas as pd

    numbers, firsts = point_numbers(frame)
    size = len(firsts)
    columns: dict[str, Any] = {axis: _whole(frame[axis].to_numpy()[firsts]) for axis in AXES}
    # Who enforced the profile is no part of a cell: a run resumed elsewhere may have two.
    columns["shaper"] = joined_texts(frame["shaper"], numbers, size, "+")
    columns["n_cuts"] = _whole(frame["n_cuts"].to_numpy()[firsts])
    ends = zip(columns["split_index"], columns["n_cuts"], strict=True)
    columns["placement"] = _objects([placement(str(cut), n_cuts) for cut, n_cuts in ends])
    states = frame["state"].to_numpy()
    for name, state in (("rounds", "valid"), ("rounds_invalid", "invalid"), ("rounds_failed", "failed")):
        columns[name] = np.bincount(numbers[states == state], minlength=size)
    columns["note"] = _objects(_notes(frame, numbers, np.bincount(numbers, minlength=size)))
    valid = states == "valid"
    for metric in dict.fromkeys([*(name for name in frame.columns if _is_averaged(str(name))), *extra]):
        values = frame[metric].to_numpy(dtype=np.float64)
        interval = t_intervals(values[valid], numbers[valid], size)
        columns[metric] = interval.mean
        columns[metric + LOW] = interval.mean - interval.half_width
        columns[metric + HIGH] = interval.mean + interval.half_width
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})


def point_numbers(frame: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number (from 0) of each row's operating point, by first occurrence, and every point's first row."""
    import numpy as np
    import pandas as pd

    cells, _ = pd.factorize(frame["cell"], use_na_sentinel=False)
    depths, known = pd.factorize(frame["depth"], use_na_sentinel=False)
    numbers, _ = pd.factorize(cells.astype(np.int64) * max(len(known), 1) + depths)
    _, firsts = np.unique(numbers, return_index=True)
    return numbers.astype(np.int64), firsts.astype(np.int64)


def joined_texts(texts: Iterable[object], numbers: NDArray[np.int64], size: int, separator: str) -> NDArray[np.object_]:
    """Per operating point the texts of its rows, each once, in order; what is no text is left out."""
    found = _objects([""] * size)
    for number, text in dict.fromkeys(zip(numbers.tolist(), texts, strict=True)):
        if isinstance(text, str):
            found[number] = f"{found[number]}{separator}{text}" if found[number] else text
    return found


def _is_averaged(name: str) -> bool:
    return (name in MEASURED and name not in _NOT_AVERAGED) or _STAGE_METRIC.fullmatch(name) is not None


def _objects(values: Sequence[object]) -> NDArray[np.object_]:
    import numpy as np

    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """As whole numbers where all are; otherwise as they are."""
    return values.astype("int64") if set(map(type, values)) == {int} else values


def _notes(frame: pd.DataFrame, numbers: NDArray[np.int64], totals: NDArray[np.int64]) -> list[str]:
    states = frame["state"].to_numpy()
    parts: list[list[str]] = [[] for _ in totals]
    for state, column in (("invalid", "invalid_reason"), ("failed", "failure")):
        here = states == state
        reasons: dict[int, list[str]] = {}
        for number, reason in zip(numbers[here].tolist(), frame[column].to_numpy()[here], strict=True):
            reasons.setdefault(number, []).append(str(reason))
        for number, told in reasons.items():
            words = " | ".join(dict.fromkeys(told))
            parts[number].append(f"{len(told)} of {totals[number]} rounds {state}: {words}")
    return ["; ".join(told) for told in parts]


def placement(split_index: str, n_cuts: int | None) -> str:
    """`all remote` where every cut is cut 0, `all local` where every cut is cut N, otherwise empty."""
    cuts = set(split_index.split("+"))
    if cuts == {"0"}:
        return "all remote"
    return "all local" if cuts == {str(n_cuts)} else ""


def varying(points: pd.DataFrame, axes: Iterable[str]) -> list[str]:
    """Those of `axes` that take more than one value in `points`."""
    return [axis for axis in axes if points[axis].nunique(dropna=False) > 1]
