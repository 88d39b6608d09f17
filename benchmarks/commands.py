"""What a person waits for: --help, and a sweep beyond its measuring."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Ratio
from benchmarks.settings import effort
from paretopipe_runtime.results import read_lines


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def help_time() -> tuple[list[Ratio], Any]:
    """Median of five starts."""
    ratios, raw = [], {}
    for name in ("pp-matrix", "pp-analyze"):
        seconds = []
        for _ in range(6):
            start_s = time.perf_counter()
            subprocess.run([_program(name), "--help"], capture_output=True, check=True)
            seconds.append(time.perf_counter() - start_s)
        raw[name] = seconds
        ratios.append(Ratio(f"{name} --help", median(seconds[1:]), 0.5, False, " s"))
    return ratios, raw


def sweep() -> tuple[list[Ratio], Any]:
    """Wall time of `pp-matrix run` over 20 cells, start to exit, against the time in windows and warm-ups."""
    raw = timed_sweep("--split", effort("1:20", "1:4"))
    measuring_s = raw["window_s"] + raw["warmup_s"]
    detail = f"{raw['wall_s']:.1f} s for {raw['cells']} cells, {measuring_s:.1f} s of it measuring"
    name = f"sweep of {raw['cells']} cells / its measuring"
    return [Ratio(name, raw["wall_s"] / measuring_s, 1.25, False, detail=detail)], raw


def timed_sweep(*options: str) -> dict[str, Any]:
    """One round of `pp-matrix run` on mobilenet_v2, start to exit: `wall_s, cells`, and `window_s, warmup_s` of all.

    Raises RuntimeError where a cell failed or is not valid.
    """
    with tempfile.TemporaryDirectory(prefix="paretopipe-bench-") as directory:
        out = Path(directory, "sweep")
        command = [_program("pp-matrix"), "run", "--model", "mobilenet_v2", "--rounds", "1", *options]
        start_s = time.perf_counter()
        run = subprocess.run([*command, "--out", str(out)], capture_output=True, check=False, text=True)
        wall_s = time.perf_counter() - start_s
        if run.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} exited with {run.returncode}:\n{run.stderr}")
        records = read_lines(out / "records.jsonl")
    return {
        "wall_s": wall_s,
        "cells": len({record["cell"] for record in records}),
        "window_s": sum(record["window_s"] for record in records),
        "warmup_s": sum(record["warmup_s"] for record in records),
        "invalid": sum(not record["valid"] for record in records),
        "command": command,
    }
