"""A GPU's running totals by NVML: busy seconds, energy, memory.

NVML tells a utilisation and (older GPUs) a power, no totals of them; and its calls take too long for every batch. So
a thread asks ten times a second and adds up, and reading gives what it knew last.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from paretopipe_runtime.model.device import gpu_uuid

INTERVAL_S = 0.1
Totals = tuple[float, float, float]


class NvmlError(Exception):
    """NVML cannot be had for this GPU; the message says why."""


class NvmlCounters:
    """Counts on the GPU with a UUID (`GPU-...`, as nvidia-smi has it). Raises NvmlError.

    What this GPU does not tell, or stops telling, is NaN; nothing is put in its place. All is the whole GPU's, other
    processes' work included, but for the memory, which is this process's where NVML knows processes (`describe`).
    """

    def __init__(self, uuid: str, interval_s: float = INTERVAL_S) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise NvmlError("the Python package nvidia-ml-py is missing") from error
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            raise NvmlError(f"NVML: {error}") from error
        self._last_s = time.monotonic()
        self._busy_s = 0.0
        self._energy_j = 0.0
        self._first_mj = self._ask(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        self._memory_of = "device" if math.isnan(self._process_memory_bytes()) else "process"
        self._latest: Totals = (0.0, 0.0, math.nan)
        self.sample(self._last_s)
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(interval_s,), name="gpu-counters", daemon=True).start()

    def read(self) -> Totals:
        """Seconds busy and joules used since the start, bytes in use: as of the last sample."""
        return self._latest

    def describe(self) -> dict[str, str | None]:
        """Where the figures come from: `energy` by its own `counter` or added up from `power`, `memory` of whom."""
        busy_s, energy_j, memory_bytes = self._latest
        source = "power" if math.isnan(self._first_mj) else "counter"
        return {
            "busy": None if math.isnan(busy_s) else "utilisation",
            "energy": None if math.isnan(energy_j) else source,
            "memory": None if math.isnan(memory_bytes) else self._memory_of,
        }

    def sample(self, now_s: float) -> None:
        """Add up what happened since the last sample (`now_s`: monotonic)."""
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        self._busy_s += elapsed_s * self._ask(self._nvml.nvmlDeviceGetUtilizationRates, lambda rates: rates.gpu / 100)
        if math.isnan(self._first_mj):
            self._energy_j += elapsed_s * self._ask(self._nvml.nvmlDeviceGetPowerUsage) / 1e3  # milliwatts
        else:
            self._energy_j = (self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption) - self._first_mj) / 1e3
        of_process = self._memory_of == "process"
        memory_bytes = self._process_memory_bytes() if of_process else self._device_memory_bytes()
        self._latest = (self._busy_s, self._energy_j, memory_bytes)  # one assignment: a reader sees all or nothing

    def close(self) -> None:
        """Stop sampling; the totals stay as they are. A worker that ends need not call it."""
        self._ended.set()

    def _run(self, interval_s: float) -> None:
        while not self._ended.wait(interval_s):
            self.sample(time.monotonic())

    def _ask(self, question: Callable[[Any], Any], value: Callable[[Any], float] = float) -> float:
        try:
            return value(question(self._handle))
        except (self._nvml.NVMLError, self._nvml.NVMLLibraryMismatchError):  # not supported here, or the GPU is lost
            return math.nan

    def _process_memory_bytes(self) -> float:
        """This process's; a container with process ids of its own does not find itself in the list."""

        def own(processes: Any) -> float:
            used = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
            return math.nan if not used or used[0] is None else float(used[0])

        return self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses, own)

    def _device_memory_bytes(self) -> float:
        return self._ask(self._nvml.nvmlDeviceGetMemoryInfo, lambda memory: float(memory.used))


def counters_on(device: torch.device) -> tuple[NvmlCounters | None, dict[str, str | None]]:
    """The counters of a worker's device, and what its facts say of them; None on a CPU and where NVML is not there."""
    if device.type != "cuda":
        return None, {}
    try:
        counters = NvmlCounters(gpu_uuid(device))
    except NvmlError as error:
        return None, {"missing": str(error)}
    return counters, counters.describe()
