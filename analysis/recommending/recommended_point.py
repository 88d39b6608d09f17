"""An operating point as an answer names it: where, on which hosts, at which depth, with what to expect. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.operating_points import HIGH
from analysis.recommending.criterion import LATENCY, NETWORK, THROUGHPUT
from analysis.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd

Identity = tuple[Any, ...]
HELD = ("split_index", "backend", "engine", "pipeline", "batch_size", "depth")
"""With model and granularity: what is equal for a point and the same one under another network."""


@dataclass(frozen=True)
class Pick:
    """One operating point."""

    model: str
    profile: str
    cell: str
    split: str
    split_index: str
    split_name: str
    placement: str
    """`all local`, `all remote` or empty."""
    depth: int | None
    """None where nobody recorded it (imported results)."""
    backend: str
    engine: str
    pipeline: str
    batch_size: int | None
    granularity: str
    hosts: tuple[str, ...]
    """Of the stages, in order; empty where unknown."""
    exec_s: tuple[float, ...]
    """Computing time of each stage per batch; NaN where unknown."""
    rounds: int
    """Valid ones."""
    latency_s: Interval
    throughput_img_s: Interval
    bytes_per_batch: float
    p_meets: float
    """Probability that it meets the constraints; NaN where it could not be drawn (one round)."""
    p_best: float
    """Probability that it meets them and is the best of those that do; NaN likewise."""
    loss: float
    """How far it is behind the best: logarithm of a factor, or part of the front's span; infinite if it breaks a
    constraint."""

    @property
    def undivided(self) -> bool:
        """Whether one host computes everything."""
        return bool(self.placement)

    @property
    def host(self) -> str | None:
        """The host that computes everything, if one does and it is known."""
        if not self.undivided or not self.hosts:
            return None
        return self.hosts[0] if self.placement == "all local" else self.hosts[-1]

    @property
    def place(self) -> str:
        """`P3`, `all local` or `all remote`, with the depth."""
        depth = "unknown depth" if self.depth is None else f"depth {self.depth}"
        return f"{self.placement or self.split}, {depth}"


def pick(row: Mapping[str, Any], rows: pd.DataFrame) -> Pick:
    """The operating point `row` (of a frame of candidates); `rows` are its records."""
    n_stages = _stages(rows)
    return Pick(
        **{key: str(row[key]) for key in ("model", "profile", "cell", "split", "split_index", "split_name")},
        **{key: str(row[key]) for key in ("placement", "backend", "engine", "pipeline", "granularity")},
        depth=whole(row["depth"]),
        batch_size=whole(row["batch_size"]),
        hosts=_hosts(rows, n_stages),
        exec_s=tuple(float(row.get(f"stage{k}_exec_s", math.nan)) for k in range(1, n_stages + 1)),
        rounds=int(row["rounds"]),
        latency_s=_interval(row, LATENCY),
        throughput_img_s=_interval(row, THROUGHPUT),
        bytes_per_batch=float(row[NETWORK]),
        p_meets=float(row["p_meets"]),
        p_best=float(row["p_best"]),
        loss=float(row["loss"]),
    )


def whole(value: Any) -> int | None:
    """A whole number, None where it is missing."""
    import pandas as pd

    return None if pd.isna(value) else int(value)


def identities(points: pd.DataFrame) -> list[Identity]:
    """Per point what is equal for it and the same one under another network; of one stage, whatever the backend.

    `points` have `granularity` and `one_stage`, beside the columns of operating points.
    """
    columns = {key: points[key].tolist() for key in ("granularity", "one_stage", *HELD)}
    for key in ("batch_size", "depth"):
        columns[key] = list(map(whole, columns[key]))
    one_stage = columns.pop("one_stage")
    columns["backend"] = ["" if alone else name for alone, name in zip(one_stage, columns["backend"], strict=True)]
    return list(zip(*columns.values(), strict=True))


def records_of(frame: pd.DataFrame, cell: str, depth: int | None) -> pd.DataFrame:
    """The valid records of an operating point."""
    of_cell = frame[frame["cell"] == cell]
    at_depth = of_cell["depth"].isna() if depth is None else of_cell["depth"] == depth
    return of_cell[at_depth & (of_cell["state"] == "valid")]


def _stages(rows: pd.DataFrame) -> int:
    return int(rows["n_stages"].max()) if len(rows) and "n_stages" in rows else 0


def _hosts(rows: pd.DataFrame, n_stages: int) -> tuple[str, ...]:
    columns = [f"stage{k}_host" for k in range(1, n_stages + 1)]
    if not columns or any(column not in rows or not isinstance(rows[column].iloc[0], str) for column in columns):
        return ()
    return tuple(str(rows[column].iloc[0]) for column in columns)


def _interval(row: Mapping[str, Any], metric: str) -> Interval:
    mean = float(row[metric])
    return Interval(mean, float(row[metric + HIGH]) - mean, int(row["rounds"]))
