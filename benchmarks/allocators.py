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
from benchmarks.settings import CannotRunError, effort
from paretopipe_runtime.allocator import building, choice

BATCH_SIZE = 8
CELLS = (("mobilenet_v2", "P3", 2), ("resnet18", "P2", 1), ("vgg16", "P14", 1))
"""Model, cut, stage."""
_UNITS = ("time_s", "peak_bytes", "faults")


def run() -> tuple[list[Ratio], Any, list[Table]]:
    """Median time of a batch, peak above the idle process, page faults per batch; least and most of the processes."""
    environments = _environments()
    kinds = [(cell, allocator) for cell in effort(CELLS, CELLS[1:2]) for allocator in environments]
    jobs = kinds * effort(4, 1)
    random.Random(0).shuffle(jobs)
    raw = {_label(*kind): {key: list[float]() for key in _UNITS} for kind in kinds}
    for cell, allocator in jobs:
        command = [sys.executable, "-m", "benchmarks.allocators", *map(str, cell)]
        done = subprocess.run(command, env=os.environ | environments[allocator], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{_label(cell, allocator)}: {done.stderr.strip().splitlines()[-1:]}")
        for key, value in json.loads(done.stdout).items():
            raw[_label(cell, allocator)][key].append(value)
    rows = []
    for cell, allocator in kinds:
        kept = raw[_label(cell, allocator)]
        spreads = [_spread(kept["time_s"], 1e3, 0), _spread(kept["peak_bytes"], 1e-6, 1)]
        rows.append([_stage(cell), allocator, *spreads, f"{median(kept['faults']):.0f}"])
    columns = ["stage", "allocator", "ms a batch", "peak above the idle process, MB", "page faults a batch"]
    return [], raw, [Table(f"Allocators, eager, batch {BATCH_SIZE}", columns, rows)]


def _stage(cell: tuple[str, str, int]) -> str:
    return f"{cell[0]} {cell[1]} stage {cell[2]}"


def _label(cell: tuple[str, str, int], allocator: str) -> str:
    return f"{_stage(cell)}, {allocator}"


def _spread(values: list[float], factor: float, digits: int) -> str:
    middle, least, most = (f"{value * factor:.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


def _environments() -> dict[str, dict[str, str]]:
    """What every allocator takes in the environment. Raises CannotRunError where `pages` cannot be had."""
    try:
        building.library()
    except building.UnavailableError as error:
        raise CannotRunError(f"the allocator of pages.c cannot be had: {error}; {building.REMEDY}") from error
    ours = choice.environment(os.environ)
    return {
        "glibc": {},
        "glibc, keeping": {key: value for key, value in ours.items() if key == "GLIBC_TUNABLES"},
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
