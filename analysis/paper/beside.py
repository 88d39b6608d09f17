"""Ours against the paper's: every figure that both have, with a ratio where like is compared with like. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.markup import Column
from analysis.numbers import MISSING, significant, with_uncertainty
from analysis.operating_points import HIGH, LOW
from analysis.paper.backends import BackendPoint, SocketsAgainstRpc
from analysis.paper.measured import Device, Measured, without_name
from analysis.paper.model_table import CountedModel
from analysis.paper.reference import (
    BATCH_SIZE,
    LATENCY_CHANGE_PCT,
    PI_CORES,
    PI_MEMORY_BYTES,
    SERVER_GPU,
    THROUGHPUT_CHANGE_PCT,
    ReferenceBackend,
    ReferenceModel,
)
from analysis.paper.split_tables import NET, UNKNOWN, Absent, SplitRow
from analysis.statistics import Interval

MEMORY_TOLERANCE = 0.15
"""How far a host's memory may be off the paper's nominal 4 GB for percentages of it to be compared."""
BESIDE_COLUMNS = (
    *("table", "model", "split", "metric", "paper", "ours", "ours" + LOW, "ours" + HIGH),
    *("ratio", "ratio" + LOW, "ratio" + HIGH, "rounds", "depth", "pipeline", "directory", "note"),
)


@dataclass(frozen=True)
class Beside:
    """One figure of the paper, and ours."""

    table: str
    model: str
    split: str
    metric: str
    paper: float
    ours: Interval
    """NaN where there is none."""
    note: str = ""
    """Why there is no ratio; empty where there is one."""
    depth: int | None = None
    measured: Measured | None = None

    @property
    def ratio(self) -> Interval:
        """Ours / the paper's, whose figures have no interval and are taken as exact; NaN where `note` says why."""
        if self.note or not self.paper:
            return UNKNOWN
        return Interval(self.ours.mean / self.paper, self.ours.half_width / self.paper, self.ours.n)


def models_beside(counted: Iterable[CountedModel], reference: Iterable[ReferenceModel]) -> list[Beside]:
    """Parameters and blocks of Table I; both are counts, without an interval."""
    by_name = {row.model: row for row in reference}
    out = []
    for model in counted:
        printed = by_name.get(model.model)
        if printed is None:
            continue
        for metric, paper, ours in (
            ("parameters", printed.parameters, model.parameters),
            ("blocks", printed.blocks, model.blocks),
        ):
            out.append(Beside("I", printed.model, MISSING, metric, paper, Interval(ours, 0.0, 1)))
    return out


def splits_beside(number: str, rows: Iterable[SplitRow], absent: Iterable[Absent]) -> list[Beside]:
    """Every column of Table II or III, row by row; absent splits once, with the reason."""
    out = []
    for row in rows:
        for metric, paper in row.reference.values.items():
            ours = row.values[metric]
            note = _unlike(metric, ours, row.measured.devices)
            depth = 1 if metric == NET else row.depth
            out.append(
                Beside(number, row.reference.model, row.reference.split, metric, paper, ours, note, depth, row.measured)
            )
    for missing in absent:
        metric = "stage1_exec_s"
        out.append(
            Beside(
                number,
                missing.reference.model,
                missing.reference.split,
                metric,
                missing.reference.values[metric],
                UNKNOWN,
                without_name(missing.why),
                measured=missing.measured,
            )
        )
    return out


def backends_beside(points: Sequence[BackendPoint], reference: Iterable[ReferenceBackend]) -> list[Beside]:
    """Figure 7: the highest throughput of each of the paper's backends, and the paper's, at whatever split it was."""
    out = []
    for printed in reference:
        for point in points:
            if (point.model, point.backend) == (printed.model, printed.backend) and point.best:
                same = point.split == printed.split
                out.append(
                    Beside(
                        table="Fig. 7",
                        model=printed.model,
                        split=printed.split if same else f"{printed.split}, ours {point.split}",
                        metric=f"{printed.backend} images/s",
                        paper=printed.throughput_img_s,
                        ours=point.throughput_img_s,
                        depth=point.depth,
                        measured=point.measured,
                    )
                )
    return out


def claims_beside(measured: Iterable[SocketsAgainstRpc], reference: Sequence[ReferenceBackend]) -> list[Beside]:
    """What the paper states of sockets against RPC, and ours: each at its best cut, then at equal cuts."""
    stated = {"throughput": 1 + THROUGHPUT_CHANGE_PCT / 100, "latency": 1 + LATENCY_CHANGE_PCT / 100}
    model = reference[0].model
    cuts = {row.backend: row.split for row in reference}
    out = []
    for claim in measured:
        if claim.model != model:
            continue
        printed = f"{cuts[claim.socket.backend]} / {cuts[claim.rpc.backend]}"
        ours = f"{_at(claim.socket)} / {_at(claim.rpc)}" if claim.own_best else f"{_at(claim.socket)}, both"
        out.append(
            Beside(
                table="Fig. 7",
                model=model,
                split=f"{printed}, ours {ours}",
                metric=f"{claim.metric}, socket / rpc",
                paper=stated[claim.metric],
                ours=claim.ratio,
                note="" if claim.own_best else "at one cut and depth; the paper's are at different cuts",
                measured=claim.socket.measured,
            )
        )
    return out


def _at(point: BackendPoint) -> str:
    return f"{point.split} D{point.depth}"


def _unlike(metric: str, ours: Interval, devices: Sequence[Device]) -> str:
    """Why a metric of two devices is not compared, or empty."""
    if not ours.n:
        return "not measured"
    if metric == NET:
        return "defined otherwise in the paper"
    device = devices[0] if metric.startswith("stage1") else devices[-1]
    if metric.startswith("gpu"):
        return "" if SERVER_GPU in (device.gpu or "") else f"another GPU: {device.gpu}"
    if metric.endswith("cpu_pct") and device.threads != PI_CORES:
        return f"summed over {device.threads} of its cores here, {PI_CORES} in the paper"
    if metric.endswith("mem_pct"):
        total = device.memory_total_bytes
        if total is None or abs(total / PI_MEMORY_BYTES - 1) > MEMORY_TOLERANCE:
            size = "memory not recorded" if total is None else f"{total / 1e9:.1f} GB"
            return f"of another memory: {size} here, {PI_MEMORY_BYTES / 1e9:.0f} GB in the paper"
    return ""


def beside_columns(rows: Sequence[Beside]) -> list[Column]:
    """The table as people read it; notes are numbered, see `beside_notes`."""
    numbers = {note: index for index, note in enumerate(beside_notes(rows), start=1)}
    several = len({(row.measured.directory, row.measured.pipeline) for row in rows if row.measured}) > 1
    where = tuple(f"{row.measured.directory.name}/{row.measured.pipeline}" if row.measured else "" for row in rows)
    return [
        Column("table", tuple(row.table for row in rows)),
        Column("model", tuple(row.model for row in rows)),
        Column("split", tuple(row.split for row in rows)),
        Column("metric", tuple(row.metric for row in rows)),
        Column("paper", tuple(_count(row.paper) for row in rows), right=True),
        Column("ours", tuple(_ours(row) for row in rows), right=True),
        Column("ratio", tuple(_ratio(row) for row in rows), right=True),
        Column("D", tuple("" if row.depth is None else str(row.depth) for row in rows), right=True),
        *([Column("measured", where, elastic=True)] if several else []),
    ] + ([Column("note", tuple(str(numbers.get(row.note, "")) for row in rows), right=True)] if numbers else [])


def beside_notes(rows: Iterable[Beside]) -> list[str]:
    """The reasons why figures are not compared, each once, in the order of the rows."""
    return list(dict.fromkeys(row.note for row in rows if row.note))


def device_note(measured: Iterable[Measured]) -> str:
    """What a ratio is a ratio of: the paper's devices against ours."""
    kinds = dict.fromkeys(device.kind for source in measured for device in source.devices)
    return (
        f"The paper's devices are a Raspberry Pi 4B ({PI_CORES} cores, {PI_MEMORY_BYTES / 1e9:.0f} GB) and a server "
        f"with an {SERVER_GPU}; here computed: {'; '.join(kinds) or 'hosts not recorded'}. A ratio (ours / the "
        f"paper's) is of devices and software together. Compared are batches of {BATCH_SIZE}, engine eager, "
        "backend socket and a network as it is; the paper's figures have no interval and are taken as exact."
    )


def beside_rows(rows: Iterable[Beside]) -> list[dict[str, Any]]:
    """Rows of `BESIDE_COLUMNS`, for scripts."""
    out = []
    for row in rows:
        ours, ratio = row.ours, row.ratio
        cells: Mapping[str, Any] = {
            "table": row.table,
            "model": row.model,
            "split": row.split,
            "metric": row.metric,
            "paper": row.paper,
            "ours": ours.mean,
            "ours" + LOW: ours.low,
            "ours" + HIGH: ours.high,
            "ratio": ratio.mean,
            "ratio" + LOW: ratio.low,
            "ratio" + HIGH: ratio.high,
            "rounds": ours.n if row.measured else None,
            "depth": row.depth,
            "pipeline": row.measured and row.measured.pipeline,
            "directory": row.measured and str(row.measured.directory),
            "note": row.note,
        }
        out.append(dict(cells))
    return out


def _count(value: float) -> str:
    return f"{value:,d}" if isinstance(value, int) else f"{value:g}"


def _ours(row: Beside) -> str:
    if row.table == "I":
        return f"{int(row.ours.mean):,d}"
    return with_uncertainty(row.ours.mean, row.ours.half_width)


def _ratio(row: Beside) -> str:
    ratio = row.ratio
    if not math.isfinite(ratio.mean):
        return MISSING
    return significant(ratio.mean, 4) if row.table == "I" else with_uncertainty(ratio.mean, ratio.half_width)
