"""What a stage's process, its data interface and its GPU have used so far, read for every batch.

All are running totals: a window's use is the difference between its ends, so nothing has to be sampled in step with
the batches.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Protocol, TypedDict

from paretopipe_runtime.pipeline.process_stats import peak_bytes


class Readings(TypedDict):
    """The fields of `StageTimes` that are counters."""

    cpu_time_s: float
    peak_rss_bytes: float
    gpu_busy_s: float
    gpu_energy_j: float
    gpu_mem_bytes: float
    tx_bytes: float
    rx_bytes: float


class GpuCounters(Protocol):
    """A GPU's running totals."""

    def read(self) -> tuple[float, float, float]:
        """Seconds busy so far, joules so far, bytes of memory in use now; NaN for what the GPU does not tell."""


class Counters:
    """Reads everything at once. `interface` is the data interface's name; without one its counters are NaN."""

    def __init__(self, interface: str | None = None, gpu: GpuCounters | None = None) -> None:
        self._gpu = gpu
        self._files = [] if interface is None else _counter_files(interface)

    def read(self) -> Readings:
        """The totals now."""
        # A sysfs attribute read at offset 0 is made anew: no need to open it again (kernel doc, sysfs.rst).
        tx, rx = [float(os.pread(file, 32, 0)) for file in self._files] or (math.nan, math.nan)
        busy_s, energy_j, memory_bytes = self._gpu.read() if self._gpu else (math.nan,) * 3
        return {
            "cpu_time_s": time.process_time(),
            "peak_rss_bytes": peak_bytes(),
            "gpu_busy_s": busy_s,
            "gpu_energy_j": energy_j,
            "gpu_mem_bytes": memory_bytes,
            "tx_bytes": tx,
            "rx_bytes": rx,
        }


def _counter_files(interface: str) -> list[int]:
    directory = Path("/sys/class/net") / interface / "statistics"
    try:
        return [os.open(directory / name, os.O_RDONLY) for name in ("tx_bytes", "rx_bytes")]
    except OSError:
        return []  # the emulated Pi's sysfs, say: recorded as unknown
