"""What keeping freed memory costs and saves: one stage in a process of its own, by three allocators.

glibc gives large blocks back to the kernel; its heap can keep them; `pages` keeps them too and moves their pages. One
thread on one core, inputs as they would arrive, no pipeline around it; processes in random order, one at a time.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from statistics import median
from typing import Any

from benchmarks.report import Ratio, Table
from benchmarks.settings import effort

BATCH_SIZE = 8
CELLS = (("mobilenet_v2", "P3", 2), ("resnet18", "P2", 1), ("vgg16", "P14", 1))
"""Model, cut, stage."""
_UNITS = ("time_s", "peak_bytes", "faults")


def run() -> tuple[list[Ratio], Any, list[Table]]:
    """Median time of a batch, peak above the idle process, page faults per batch; least and most of the processes."""
    jobs = [
        (cell, allocator)
        for cell in effort(CELLS, CELLS[1:2])
        for allocator in _environments()
        for _ in range(effort(4, 1))
    ]
    random.Random(0).shuffle(jobs)
    raw: dict[str, dict[str, list[float]]] = {}
    for (model, name, stage), allocator in jobs:
        command = [sys.executable, "-m", "benchmarks.allocators", model, name, str(stage)]
        environment = os.environ | _environments()[allocator]
        found = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
        kept = raw.setdefault(f"{model} {name} stage {stage}, {allocator}", {key: [] for key in _UNITS})
        for key in _UNITS:
            kept[key].append(found[key])
    rows = []
    for (model, name, stage), allocator in sorted(
        set(jobs), key=lambda job: (job[0], list(_environments()).index(job[1]))
    ):
        kept = raw[f"{model} {name} stage {stage}, {allocator}"]
        milliseconds, megabytes = (
            [value * 1e3 for value in kept["time_s"]],
            [value / 1e6 for value in kept["peak_bytes"]],
        )
        rows.append(
            [
                f"{model} {name} stage {stage}",
                allocator,
                f"{median(milliseconds):.0f} ({min(milliseconds):.0f} to {max(milliseconds):.0f})",
                f"{median(megabytes):.1f} ({min(megabytes):.1f} to {max(megabytes):.1f})",
                f"{median(kept['faults']):.0f}",
            ]
        )
    columns = ["stage", "allocator", "ms a batch", "peak above the idle process, MB", "page faults a batch"]
    return [], raw, [Table(f"Allocators, eager, batch {BATCH_SIZE}", columns, rows)]


def _environments() -> dict[str, dict[str, str]]:
    from paretopipe_runtime.allocator import choice

    ours = choice.environment({})
    return {
        "glibc": {},
        "glibc, keeping": {"GLIBC_TUNABLES": ours["GLIBC_TUNABLES"]},
        "pages": ours,
    }


def _one(model: str, name: str, stage: int) -> dict[str, float]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import resource

    import torch

    from paretopipe_runtime.model.engines.builder import Builder
    from paretopipe_runtime.model.memory import trim
    from paretopipe_runtime.model.resident import ResidentModel
    from paretopipe_runtime.pipeline.process_stats import peak_bytes, reset_peak, resident_bytes

    torch.set_num_threads(1)
    resident = ResidentModel.load(model)
    cuts = resident.cuts(BATCH_SIZE)
    cut = next(cut for cut in cuts if cut.paper_name == name)
    lo, hi = (cuts[0], cut) if stage == 1 else (cut, cuts[-1])
    compute = Builder(torch.device("cpu"), 1).part("eager", resident, lo, hi).compute
    with torch.inference_mode():
        tensor = torch.empty_strided(lo.shape, lo.stride).normal_()
        for _ in range(3):
            compute(tensor)
        trim()
        before_bytes, faults, times = resident_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
        reset_peak()
        for _ in range(effort(20, 2)):
            start_s = time.perf_counter()
            compute(tensor)
            times.append(time.perf_counter() - start_s)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"time_s": median(times), "peak_bytes": peak_bytes() - before_bytes, "faults": faults / len(times)}


if __name__ == "__main__":
    print(json.dumps(_one(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
