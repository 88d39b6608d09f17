"""What a person waits for: --help, and a sweep beyond its measuring."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Ratio
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
    out = Path(tempfile.mkdtemp(prefix="paretopipe-bench-"))
    command = [_program("pp-matrix"), "run", "--model", "mobilenet_v2", "--split", "1:20", "--rounds", "1"]
    command += ["--out", str(out / "sweep")]
    try:
        start_s = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        wall_s = time.perf_counter() - start_s
        records = read_lines(out / "sweep" / "records.jsonl")
    finally:
        shutil.rmtree(out)
    measuring_s = sum(record["window_s"] + record["warmup_s"] for record in records)
    cells = len({record["cell"] for record in records})
    detail = f"{wall_s:.1f} s for {cells} cells, {measuring_s:.1f} s of it measuring"
    ratio = Ratio("sweep of 20 cells / its measuring", wall_s / measuring_s, 1.25, False, detail=detail)
    return [ratio], {"wall_s": wall_s, "measuring_s": measuring_s, "cells": cells}
