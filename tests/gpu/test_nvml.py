"""NVML's figures of a GPU at work and at rest."""

from __future__ import annotations

import time

import torch

from paretopipe_runtime.host.facts import host_facts
from paretopipe_runtime.model.device import gpu_facts, gpu_uuid
from paretopipe_runtime.pipeline.gpu_counters import NvmlCounters, counters_on
from tests.gpu.conftest import needs_gpu

pytestmark = needs_gpu
ALLOCATED_BYTES = 512 << 20
LOAD_S = 3.0


def test_a_loaded_gpu_is_busy_and_uses_energy_and_memory(gpu: torch.device) -> None:
    counters, facts = counters_on(gpu)
    assert isinstance(counters, NvmlCounters), facts
    try:
        held = torch.zeros(ALLOCATED_BYTES, dtype=torch.uint8, device=gpu)
        matrix = torch.randn(4096, 4096, device=gpu)
        busy_s, energy_j, _ = counters.read()
        start_s = time.monotonic()
        while time.monotonic() - start_s < LOAD_S:
            matrix = (matrix @ matrix).clamp(-1, 1)
            torch.cuda.synchronize(gpu)
        elapsed_s = time.monotonic() - start_s
        busy_after_s, energy_after_j, memory_bytes = counters.read()
        # NVML averages over up to a second: the load's first one may not be in it.
        assert 0.3 * elapsed_s < busy_after_s - busy_s <= 1.1 * elapsed_s
        assert 10 * elapsed_s < energy_after_j - energy_j < 2000 * elapsed_s
        assert memory_bytes >= ALLOCATED_BYTES
        del held
    finally:
        counters.close()


def test_reading_is_cheap_enough_for_every_batch(gpu: torch.device) -> None:
    counters = NvmlCounters(gpu_uuid(gpu))
    try:
        start_s = time.perf_counter()
        for _ in range(1000):
            counters.read()
        assert time.perf_counter() - start_s < 0.1
    finally:
        counters.close()


def test_torchs_gpu_is_one_of_nvmls(gpu: torch.device) -> None:
    own = gpu_facts(gpu)
    assert own is not None
    found = [seen for seen in host_facts(None)["gpu"] if seen["uuid"] == own["uuid"]]
    assert len(found) == 1
    assert found[0]["name"] == own["name"]
    assert found[0]["driver_version"]
    assert own["tf32"] is False
