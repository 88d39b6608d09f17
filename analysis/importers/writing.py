"""From imported points to records, and a results directory of them (docs/formats.md)."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.importers.defects import Defect
from analysis.output import slug
from paretopipe_runtime.results import append_lines

JsonObject = dict[str, Any]

SCHEMA = 1
TESTBED = PIPELINE = "imported"
UNKNOWN = "unknown"
KEEP_DEFECTIVE = "--keep-defective"

_STAGE_KEYS = (
    *("host", "engine", "setup_s", "exec_s", "serialize_s", "recv_s", "queue_s", "out_queue_s", "kernel_s", "cpu_pct"),
    *("mem_pct", "gpu_util_pct", "gpu_mem_pct", "gpu_mem_bytes", "gpu_power_w", "rss_bytes", "tx_bytes", "rx_bytes"),
)
_AXES = (
    *("model", "split", "split_index", "split_name", "n_cuts", "granularity", "backend", "engine", "pipeline"),
    *("profile", "batch_size"),
)
_UNKNOWN_KEYS = (
    *("latency_p50_s", "latency_p90_s", "network_s", "bytes_per_batch", "rtt_s", "bandwidth_bit_s", "window_s"),
    *("window_batches", "warmup_batches", "warmup_s", "transport", "output_bitwise", "output_max_rel_err"),
    *("graph_hash", "weight_hash", "segment", "started_at", "error"),
)


class SourceError(Exception):
    """A source that cannot be imported; one line that says which and why."""


@dataclass(frozen=True)
class Point:
    """One measurement of a source, in the units of a record; None is unknown."""

    source: str
    """Name of the file."""
    model: str
    split: str
    split_index: str
    granularity: str
    backend: str
    engine: str
    profile: str
    batch_size: int
    latency_s: float
    throughput_img_s: float
    depth: int | None = None
    round: int | None = None
    """None: the place in file order among those with the same axes."""
    parts_s: tuple[float | None, ...] = ()
    """`exec_s` per stage."""
    network_s: float | None = None
    bytes_per_batch: float | None = None
    defects: tuple[Defect, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More keys of its record."""

    @property
    def cell(self) -> str:
        """A readable name and a hash of the axes, with `imported` in it; as in measured runs without the depth."""
        identity = [self.model, self.granularity, self.split_index, self.split, self.backend, self.engine]
        identity += [self.profile, str(self.batch_size), PIPELINE]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
        split = f"cut{self.split}" if self.split[:1].isdigit() else self.split
        parts = (self.model, split, self.backend, self.engine, self.profile, f"b{self.batch_size}", PIPELINE)
        return f"{slug('-'.join(parts))}-{digest}"


@dataclass(frozen=True)
class DefectCount:
    """How many of the points have a defect."""

    defect: Defect
    """The first one of its kind."""
    count: int


@dataclass(frozen=True)
class Imported:
    """What an importer makes of its sources."""

    kind: str
    """What the sources are, in words."""
    records: tuple[JsonObject, ...]
    defects: tuple[DefectCount, ...]
    remarks: tuple[str, ...]
    """What was assumed, left out or converted, one line each."""

    def lines(self, *, keep_defective: bool) -> list[str]:
        """What a person must know of it, one line each; the defects with what they lead to."""
        total, valid = len(self.records), sum(record["valid"] for record in self.records)
        lines = [f"{total} records of {self.kind}: imported, not measured by ParetoPipe", *self.remarks]
        for found in self.defects:
            consequence = "kept" if keep_defective else found.defect.consequence
            suffix = f": {consequence}" if found.defect.consequence else ""
            lines.append(f"{found.count} of {total} records: {found.defect.kind}{suffix}")
        if valid < total:
            hint = (
                "" if keep_defective or not self.defects else f"; {KEEP_DEFECTIVE} lets the others count, still marked"
            )
            lines.append(f"{valid} of {total} records are valid{hint}")
        return lines


def records_of(points: Sequence[Point], *, keep_defective: bool) -> list[JsonObject]:
    """The points as records, in the order given.

    Where a defect invalidates a point, its record is invalid with that reason; what a defect drops is null. With
    `keep_defective` such records are valid and keep all their numbers. The defects are in `imported_defects` either
    way. Raises SourceError where a round of a point is given twice.
    """
    records = [_record(point, keep_defective=keep_defective) for point in _numbered(points)]
    refuse_repeats(records)
    return records


def refuse_repeats(records: Iterable[Mapping[str, Any]]) -> None:
    """Raise SourceError where (cell, depth, round) occurs twice: readers would silently take the last."""
    sources: dict[tuple[str, int | None, int], str] = {}
    for record in records:
        key = record["cell"], record["depth"], record["round"]
        if key in sources:
            both = " and in ".join(dict.fromkeys((sources[key], record["imported_from"])))
            raise SourceError(
                f"round {record['round']} of {record['model']} {record['split']}, {record['backend']}, "
                f"{record['profile']}, depth {record['depth'] or UNKNOWN}, is there twice: in {both}"
            )
        sources[key] = record["imported_from"]


def _numbered(points: Iterable[Point]) -> list[Point]:
    seen: Counter[tuple[str, int | None]] = Counter()
    numbered = []
    for point in points:
        key = point.cell, point.depth
        numbered.append(replace(point, round=seen[key]) if point.round is None else point)
        seen[key] += 1
    return numbered


def _record(point: Point, *, keep_defective: bool) -> JsonObject:
    reasons = [] if keep_defective else [defect.words for defect in point.defects if defect.invalidates]
    dropped = set() if keep_defective else {key for defect in point.defects for key in defect.drops}
    parts = point.parts_s if "exec_s" not in dropped else (None,) * len(point.parts_s)
    known = {"network_s": point.network_s, "bytes_per_batch": point.bytes_per_batch}
    return {
        **{"schema": SCHEMA, "cell": point.cell, "model": point.model, "split": point.split},
        **{"split_index": point.split_index, "split_name": point.split, "n_cuts": None},
        **{"granularity": point.granularity, "backend": point.backend, "engine": point.engine, "pipeline": PIPELINE},
        **{"profile": point.profile, "shaper": None, "batch_size": point.batch_size, "depth": point.depth},
        **{"round": point.round, "status": "ok", "valid": not reasons, "invalid_reason": "; ".join(reasons) or None},
        **{"latency_s": point.latency_s, "throughput_img_s": point.throughput_img_s},
        **dict.fromkeys(_UNKNOWN_KEYS),
        **{key: value for key, value in known.items() if key not in dropped},
        "stages": [stage(k, point.engine, exec_s=part) for k, part in enumerate(parts, start=1)],
        **point.extra,
        **marks(point.source, [defect.words for defect in point.defects]),
    }


def stage(number: int, engine: str, **known: float | None) -> JsonObject:
    """A stage of a record of which only `known` is known; its host is `stage1`, `stage2`, ..."""
    unknown: JsonObject = dict.fromkeys(_STAGE_KEYS)
    return unknown | {"host": f"stage{number}", "engine": engine} | known


def marks(source: str, defects: Sequence[str]) -> JsonObject:
    """The keys that say that a record is imported."""
    return {"imported": True, "imported_from": source, "imported_defects": ";".join(defects)}


def count_defects(points: Iterable[Point]) -> tuple[DefectCount, ...]:
    """How many points have a defect of each kind, in the order of first occurrence."""
    first: dict[str, Defect] = {}
    counts: Counter[str] = Counter()
    for point in points:
        found = {defect.kind: defect for defect in point.defects}
        counts.update(found.keys())
        first = found | first
    return tuple(DefectCount(first[kind], count) for kind, count in counts.items())


def write_results(
    out: Path, imported: Imported, sources: Sequence[str], argv: Sequence[str], *, keep_defective: bool
) -> None:
    """Make `out`, a results directory. Raises SourceError where it exists and is not empty, OSError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SourceError(f"{out} exists and is not empty; name a new directory with --out")
    out.mkdir(parents=True, exist_ok=True)
    append_lines(out / "records.jsonl", imported.records)
    (out / "probes.jsonl").touch()
    run = _run(imported, sources, argv, keep_defective=keep_defective)
    # Last, so that what an interrupted import leaves is no results directory.
    (out / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def _run(imported: Imported, sources: Sequence[str], argv: Sequence[str], *, keep_defective: bool) -> JsonObject:
    cells: dict[str, JsonObject] = {}
    for record in imported.records:
        cell = {"cell": record["cell"], **{axis: record[axis] for axis in _AXES}, "depths": []}
        depths = cells.setdefault(record["cell"], cell)["depths"]
        depths += [record["depth"]] if record["depth"] not in depths else []
    return {
        **{"schema": SCHEMA, "created_at": datetime.now(UTC).isoformat(timespec="seconds"), "testbed": TESTBED},
        **{"spec": {}, "seed": None, "inventory": {"path": None, "hosts": {}, "pipelines": {}}, "profiles": {}},
        "argv": list(argv),
        "versions": {"paretopipe": version("paretopipe"), "python": platform.python_version(), "torch": {}},
        **{"git": None, "hosts": {}, "models": [], "cells": list(cells.values()), "resumed": [], "ansible": []},
        "imported": {
            **{"kind": imported.kind, "sources": list(sources), "keep_defective": keep_defective},
            **{
                "defects": {found.defect.kind: found.count for found in imported.defects},
                "remarks": list(imported.remarks),
            },
        },
    }
