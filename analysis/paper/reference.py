"""What the reference paper prints, from the files in `data` (their source: `data/SOURCE.md`)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

TITLE = "Where to Split? A Pareto-Front Analysis of DNN Partitioning for Edge Inference"
CITATION = f'Masud, Foley, Rajarajan, Lama: "{TITLE}", 2026, arXiv:2601.08025'

BATCH_SIZE = 8
ENGINE, BACKEND, GRANULARITY = "eager", "socket", "block"
"""What the paper's tables and frontiers were measured with, in the words of a record."""
RPC = "rpc"
"""The other backend of Figure 7."""
PI_CORES = 4
PI_MEMORY_BYTES = 4e9
"""Of the Raspberry Pi 4B of both tables; nominal."""
SERVER_GPU = "RTX 4090"
DURESS_DELAY_S, DURESS_RATE_BIT_S = 0.2, 5e6
"""Imposed on what the first Pi sends, nothing on the way back."""
LATENCY_CHANGE_PCT, THROUGHPUT_CHANGE_PCT = -76.0, 53.0
"""Of sockets against RPC, as the paper states them; at different splits."""


@dataclass(frozen=True)
class ReferenceModel:
    """A row of Table I."""

    name: str
    model: str
    """Its torchvision name."""
    parameters: int
    blocks: int
    size_mb: float
    accuracy_pct: float
    """On CIFAR-10."""


@dataclass(frozen=True)
class ReferenceSplit:
    """A row of Table II or III."""

    name: str
    model: str
    split: str
    values: Mapping[str, float]
    """Column of the paper's table -> its figure, in the unit that the column's name ends with."""


@dataclass(frozen=True)
class SplitTable:
    """Table II or III."""

    number: str
    pipeline: str
    """What it was measured on, as `Measured.kind` has it."""
    columns: tuple[str, ...]
    rows: tuple[ReferenceSplit, ...]


@dataclass(frozen=True)
class ReferenceBackend:
    """A bar of Figure 7: a backend where its throughput was highest."""

    model: str
    backend: str
    split: str
    throughput_img_s: float


def reference_models() -> tuple[ReferenceModel, ...]:
    """Table I."""
    return tuple(
        ReferenceModel(
            name=row["model"],
            model=row["torchvision_name"],
            parameters=int(row["parameters"]),
            blocks=int(row["blocks"]),
            size_mb=float(row["size_mb"]),
            accuracy_pct=float(row["accuracy_cifar10_pct"]),
        )
        for row in _rows("table1_models.csv")
    )


def split_tables() -> tuple[SplitTable, SplitTable]:
    """Tables II and III."""
    return (
        _split_table("II", "CPU to CPU", "table2_pi_to_pi.csv"),
        _split_table("III", "CPU to GPU", "table3_pi_to_gpu.csv"),
    )


def reference_backends() -> tuple[ReferenceBackend, ...]:
    """Figure 7."""
    names = _torchvision_names()
    return tuple(
        ReferenceBackend(names[row["model"]], row["backend"], row["split"], float(row["throughput_img_s"]))
        for row in _rows("figure7_backends.csv")
    )


def _split_table(number: str, pipeline: str, file: str) -> SplitTable:
    names = _torchvision_names()
    rows = _rows(file)
    columns = tuple(column for column in rows[0] if column not in ("model", "split"))
    found = (
        ReferenceSplit(row["model"], names[row["model"]], row["split"], {c: float(row[c]) for c in columns})
        for row in rows
    )
    return SplitTable(number, pipeline, columns, tuple(found))


def _torchvision_names() -> dict[str, str]:
    return {row["model"]: row["torchvision_name"] for row in _rows("table1_models.csv")}


def _rows(name: str) -> list[dict[str, str]]:
    text = (files("analysis.paper") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
