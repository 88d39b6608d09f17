"""What every block of a model takes on each kind of device, from what the cells differ by. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from analysis.paper.measured import AS_IT_IS, Device, Measured, like_the_paper
from analysis.paper.reference import BATCH_SIZE
from analysis.statistics import t_interval

if TYPE_CHECKING:
    import pandas as pd

_Round = tuple[str, int]
"""Profile and round: only what was measured in one pass is subtracted."""


@dataclass(frozen=True)
class BlockTime:
    """Seconds that one block of a model takes on one kind of device."""

    model: str
    batch_size: int
    engine: str
    kind: str
    on_gpu: bool
    block: int
    """From 1; block k lies between cut k - 1 and cut k."""
    name: str
    """The last node of the block."""
    exec_s: float
    exec_s_low: float
    """Ends of the 95 % t-interval over rounds; of timed blocks the quartiles of the passes. NaN with one of them."""
    exec_s_high: float
    n: int
    """Rounds, or passes."""
    source: str
    """`cells` or `profile`."""
    hosts: str


def blocks_of_cells(measured: Measured) -> list[BlockTime]:
    """Block times of what a pipeline computed at depth 1 under a network as it is.

    A block's time on the first host is its stage's `exec_s` at cut k less that at cut k - 1, on the second host that
    at cut k - 1 less that at cut k, round by round; hosts of one kind are averaged within a round, and the interval
    is Student's over rounds. Such a difference may be negative: what is left of noise. Only neighbouring
    cuts give a block. Per model the batch size is the paper's where measured, else the largest.
    """
    frame = like_the_paper(measured.frame)
    unshaped = [name for name in frame["profile"].unique() if measured.network(str(name)) == AS_IT_IS]
    frame = frame[(frame["state"] == "valid") & (frame["depth"] == 1) & frame["profile"].isin(unshaped)]
    frame = frame[frame["split_index"].astype(str).str.isdecimal()]
    if len(measured.devices) != 2:
        return []
    found = []
    for model, rows in frame.groupby("model", sort=False):
        sizes = sorted({int(size) for size in rows["batch_size"]})
        size = BATCH_SIZE if BATCH_SIZE in sizes else sizes[-1]
        found += _of_model(measured.devices, str(model), size, rows[rows["batch_size"] == size])
    return found


def _of_model(devices: Sequence[Device], model: str, batch_size: int, rows: pd.DataFrame) -> list[BlockTime]:
    """Kind -> block -> round -> what the hosts of that kind took, then the means."""
    names: dict[int, str] = {}
    stage_s: tuple[dict[int, dict[_Round, float]], ...] = ({}, {})
    for row in rows.to_dict("records"):
        cut, last = int(row["split_index"]), int(row["n_cuts"])
        number = (str(row["profile"]), int(row["round"]))
        names[cut] = str(row["split_name"])
        for k in (0, 1):
            # All local there is one stage, and nothing is left for the second host.
            seconds = 0.0 if k == 1 and cut == last else row.get(f"stage{k + 1}_exec_s", math.nan)
            if isinstance(seconds, float) and math.isfinite(seconds):
                stage_s[k].setdefault(cut, {})[number] = seconds
    taken: dict[tuple[str, int], dict[_Round, list[float]]] = {}
    hosts: dict[str, list[str]] = {}
    for k, device in enumerate(devices):
        sign = 1 if k == 0 else -1
        for before, after in pairwise(sorted(stage_s[k])):
            if after != before + 1:
                continue
            for number in stage_s[k][before].keys() & stage_s[k][after].keys():
                seconds = sign * (stage_s[k][after][number] - stage_s[k][before][number])
                taken.setdefault((device.kind, after), {}).setdefault(number, []).append(seconds)
        if device.host not in hosts.setdefault(device.kind, []):
            hosts[device.kind].append(device.host)
    times = []
    for (kind, block), by_round in sorted(taken.items(), key=lambda item: item[0][1]):
        interval = t_interval([statistics.fmean(seconds) for _, seconds in sorted(by_round.items())])
        times.append(
            BlockTime(
                model=model,
                batch_size=batch_size,
                engine=str(rows["engine"].iloc[0]),
                kind=kind,
                on_gpu=any(device.gpu for device in devices if device.kind == kind),
                block=block,
                name=names[block],
                exec_s=interval.mean,
                exec_s_low=interval.low,
                exec_s_high=interval.high,
                n=interval.n,
                source="cells",
                hosts="+".join(hosts[kind]),
            )
        )
    return times


def told_apart(found: Sequence[tuple[Measured, Sequence[BlockTime]]]) -> list[BlockTime]:
    """The block times of several pipelines; a model on the same kind in two of them is told apart by pipeline."""
    times: dict[tuple[str, str], int] = {}
    for _, blocks in found:
        for key in {(block.model, block.kind) for block in blocks}:
            times[key] = times.get(key, 0) + 1
    return [
        replace(block, kind=f"{block.kind} ({measured.directory.name}/{measured.pipeline})")
        if times[block.model, block.kind] > 1
        else block
        for measured, blocks in found
        for block in blocks
    ]
