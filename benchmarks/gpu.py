"""Stages on a GPU: what a stage costs beyond its kernels, and six models at cut 0 and P1, CPU host -> GPU host.

`python -m benchmarks.gpu` (docs/gpu.md) writes benchmarks/out/gpu.json and gpu.md; exit status 2 without a GPU.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pipeline import BATCH_SIZE, at, cell, describe, measure_valid
from benchmarks.report import HEADER, OUT, Ratio, Table, save
from benchmarks.settings import CannotRunError, effort
from paretopipe_matrix.errors import InventoryError
from paretopipe_matrix.hosts.inventory import load_inventory
from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import CellError, JsonObject, Profile, Window

MODELS = ("mobilenet_v2", "resnet18", "resnet50", "inception_v3", "alexnet", "vgg16")
CUTS = ("0", "P1")
DEPTHS = (1, 4)
OVERHEAD_MODEL = "resnet50"
OVERHEAD_ASKED = 0.15
CORES_PER_HOST = 4
LAN = Profile("lan")


@contextmanager
def session(device: str) -> Iterator[Session]:
    """Two hosts on this machine with cores of their own, the second one with a GPU."""
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, min(CORES_PER_HOST, len(cores) // 2))
    hosts = {
        "edge": {"ansible_connection": "local", "paretopipe_cpus": cores[:share]},
        "server": {
            "ansible_connection": "local",
            "paretopipe_cpus": cores[share : 2 * share],
            "paretopipe_device": device,
        },
    }
    variables = {"paretopipe_pipelines": {"local": list(hosts)}}
    with tempfile.TemporaryDirectory(prefix="paretopipe-bench-") as directory:
        path = Path(directory) / "gpu.yml"
        path.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))  # JSON is YAML
        try:
            opened = Session(load_inventory(path), ["local"], None)
        except CellError as error:
            raise CannotRunError(f"{error.message}; {error.remedy}") from error
        try:
            opened.apply("local", LAN)
            yield opened
        finally:
            opened.close()


def overhead(stage: JsonObject) -> float:
    """Share by which computing and framing take longer than the kernels: copies, launching, waiting."""
    return float((stage["exec_s"] + stage["serialize_s"]) / stage["kernel_s"] - 1)


def run(device: str = "cuda") -> tuple[list[Ratio], Any, list[Table]]:
    """Three visits to the cells of the claim, one to each of the others. Raises CannotRunError without a GPU."""
    window = Window(None, effort(1.5, 0.2), effort(20, 5))
    claims, rows, cells = [], [], []
    with session(device) as opened:
        facts = opened.facts()
        for model in effort(MODELS, (OVERHEAD_MODEL,)):
            described = describe(opened, model)
            for name in CUTS:
                one = cell(described, at(described, name), LAN, DEPTHS, window)
                visits = [measure_valid(opened, one) for _ in range(3 if model == OVERHEAD_MODEL else 1)]
                visits.sort(key=lambda visit: overhead(visit[1]["stages"][-1]))
                if model == OVERHEAD_MODEL:
                    claims.append(_claim(name, [overhead(visit[1]["stages"][-1]) for visit in visits]))
                points = visits[len(visits) // 2]
                rows += [_row(model, name, depth, point) for depth, point in points.items()]
                cells.append({"model": model, "cut": name, "visits": visits})
    server = facts["server"]
    gpu = server["gpu_device"] or {"name": "no GPU"}
    table = Table(
        f"CPU host (eager, {len(facts['edge']['cpus'])} cores) -> {gpu['name']}, batch {BATCH_SIZE}, loopback",
        [
            *("model", "cut", "depth", "latency ms", "img/s", "stage 2 exec ms", "kernel ms", "beyond kernel %"),
            *("GPU busy %", "GPU W", "GPU MB", "worst error"),
        ],
        rows,
    )
    return claims, {"facts": facts, "cells": cells}, [table]


def _claim(cut: str, found: list[float]) -> Ratio:
    return Ratio(
        f"GPU stage beyond its kernels, {OVERHEAD_MODEL} {_label(cut)}",
        median(found),
        OVERHEAD_ASKED,
        False,
        detail=f"batch {BATCH_SIZE}, depth 1; {len(found)} visits: {', '.join(f'{value:.3f}' for value in found)}",
    )


def _label(cut: str) -> str:
    return "cut 0" if cut == "0" else cut


def _row(model: str, cut: str, depth: int, point: JsonObject) -> list[str]:
    stage = point["stages"][-1]
    figures = [
        (point["latency_s"], 1e3),
        (point["throughput_img_s"], 1.0),
        (stage["exec_s"], 1e3),
        (stage["kernel_s"], 1e3),
        (None if stage["kernel_s"] is None else overhead(stage), 100.0),
        (stage["gpu_util_pct"], 1.0),
        (stage["gpu_power_w"], 1.0),
        (stage["gpu_mem_bytes"], 1e-6),
        (point["output_max_rel_err"], 1.0),
    ]
    return [model, _label(cut), str(depth), *("" if value is None else f"{value * by:.3g}" for value, by in figures)]


def main() -> int:
    """Measure, print, and write both files."""
    start_s = time.perf_counter()
    try:
        claims, raw, tables = run()
    except (CannotRunError, InventoryError) as reason:
        print(f"benchmark gpu was not run: {reason}", file=sys.stderr)
        return 2
    save("gpu", claims, raw, tables, time.perf_counter() - start_s)
    lines = [HEADER, *(claim.row() for claim in claims), "", *(line for table in tables for line in table.lines())]
    (OUT / "gpu.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0 if all(claim.passed for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
