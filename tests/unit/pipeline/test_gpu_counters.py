"""NVML's figures become running totals; a module of the same functions stands in for pynvml and its GPUs."""

from __future__ import annotations

import math
import os
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from paretopipe_runtime.host.facts import host_facts
from paretopipe_runtime.pipeline import gpu_counters
from paretopipe_runtime.pipeline.counters import Counters
from paretopipe_runtime.pipeline.gpu_counters import NvmlCounters, NvmlError, counters_on

NOT_SUPPORTED = "Not Supported"


class NVMLError(Exception):
    pass


class FakeGpu(SimpleNamespace):
    """A GPU that answers with its attributes; NOT_SUPPORTED is an error, as NVML's."""

    def __init__(self, uuid: str, **answers: Any) -> None:
        values = {"busy_pct": 50, "energy_mj": 7_000, "power_mw": 100_000, "processes": {}, "used": 900, "name": uuid}
        super().__init__(uuid=uuid, **(values | answers))


def fake_nvml(*gpus: FakeGpu) -> Any:
    nvml: Any = ModuleType("pynvml")
    nvml.NVMLError, nvml.NVMLLibraryMismatchError = NVMLError, type("Mismatch", (Exception,), {})
    nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM = 1, 2

    def answer(name: str, shape: Any = lambda value: value) -> Any:
        def question(gpu: FakeGpu, *_what: object) -> Any:
            value = getattr(gpu, name)
            if value == NOT_SUPPORTED:
                raise NVMLError(NOT_SUPPORTED)
            return shape(value)

        return question

    def by_uuid(uuid: str) -> FakeGpu:
        for gpu in gpus:
            if gpu.uuid == uuid:
                return gpu
        raise NVMLError("Not Found")

    nvml.nvmlInit = nvml.nvmlShutdown = lambda: None
    nvml.nvmlDeviceGetCount = lambda: len(gpus)
    nvml.nvmlDeviceGetHandleByIndex = lambda index: gpus[index]
    nvml.nvmlDeviceGetHandleByUUID = by_uuid
    nvml.nvmlDeviceGetUtilizationRates = answer("busy_pct", lambda value: SimpleNamespace(gpu=value))
    nvml.nvmlDeviceGetTotalEnergyConsumption = answer("energy_mj")
    nvml.nvmlDeviceGetPowerUsage = answer("power_mw")
    nvml.nvmlDeviceGetMemoryInfo = answer("used", lambda value: SimpleNamespace(used=value, total=1000))
    nvml.nvmlDeviceGetComputeRunningProcesses = answer(
        "processes", lambda found: [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in found.items()]
    )
    nvml.nvmlDeviceGetName, nvml.nvmlDeviceGetUUID = answer("name"), answer("uuid")
    nvml.nvmlDeviceGetEnforcedPowerLimit = answer("power_mw")
    nvml.nvmlDeviceGetClockInfo = nvml.nvmlDeviceGetMaxClockInfo = lambda _gpu, clock: 1000 * clock
    nvml.nvmlSystemGetDriverVersion = nvml.nvmlSystemGetNVMLVersion = lambda: "580.1"
    return nvml


def counting(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu, *others: FakeGpu) -> NvmlCounters:
    """Counters whose thread sleeps, so that the test samples."""
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(*others, gpu))
    counters = NvmlCounters(gpu.uuid, interval_s=3600.0)
    counters.close()
    return counters


def test_utilisation_adds_up_to_busy_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a", busy_pct=50)
    counters = counting(monkeypatch, gpu)
    start_s = time.monotonic()
    counters.sample(start_s)
    before_s = counters.read()[0]
    counters.sample(start_s + 2.0)
    gpu.busy_pct = 100
    counters.sample(start_s + 2.5)
    gpu.busy_pct = 0
    counters.sample(start_s + 9.0)
    assert counters.read()[0] - before_s == pytest.approx(2.0 * 0.5 + 0.5 * 1.0)


def test_energy_is_the_counters_since_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a", energy_mj=7_000_000)
    counters = counting(monkeypatch, gpu)
    assert counters.read()[1] == 0
    gpu.energy_mj += 2_500
    counters.sample(time.monotonic())
    assert counters.read()[1] == pytest.approx(2.5)
    assert counters.describe() == {"busy": "utilisation", "energy": "counter", "memory": "device"}


def test_without_that_counter_power_adds_up_to_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a", energy_mj=NOT_SUPPORTED, power_mw=80_000)
    counters = counting(monkeypatch, gpu)
    start_s = time.monotonic()
    counters.sample(start_s)
    before_j = counters.read()[1]
    counters.sample(start_s + 0.5)
    assert counters.read()[1] - before_j == pytest.approx(40.0)
    assert counters.describe()["energy"] == "power"


def test_what_a_gpu_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a", **dict.fromkeys(("busy_pct", "energy_mj", "power_mw", "processes", "used"), NOT_SUPPORTED))
    counters = counting(monkeypatch, gpu)
    assert all(math.isnan(value) for value in counters.read())
    assert counters.describe() == {"busy": None, "energy": None, "memory": None}


def test_what_a_gpu_stops_telling_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a")
    counters = counting(monkeypatch, gpu)
    assert counters.read()[0] >= 0
    for busy_pct in (NOT_SUPPORTED, 50):
        gpu.busy_pct = busy_pct
        counters.sample(time.monotonic())
        assert math.isnan(counters.read()[0])


def test_memory_is_this_processs_where_nvml_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a", processes={1: 111, os.getpid(): 500}, used=900)
    counters = counting(monkeypatch, gpu)
    assert counters.read()[2] == 500
    assert counters.describe()["memory"] == "process"
    gpu.processes = {1: 111}
    counters.sample(time.monotonic())
    assert math.isnan(counters.read()[2])  # and not suddenly the whole GPU's


@pytest.mark.parametrize("processes", [{}, {1: 111}, {os.getpid(): None}, NOT_SUPPORTED])
def test_memory_is_the_whole_gpus_where_nvml_does_not_know_processes(
    monkeypatch: pytest.MonkeyPatch, processes: Any
) -> None:
    counters = counting(monkeypatch, FakeGpu("GPU-a", processes=processes, used=900))
    assert counters.read()[2] == 900
    assert counters.describe()["memory"] == "device"


def test_a_gpu_is_found_by_its_uuid_not_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """With CUDA_VISIBLE_DEVICES=1 torch's cuda:0 is NVML's GPU 1."""
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(FakeGpu("GPU-a", used=1), FakeGpu("GPU-b", used=2)))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(uuid="b"))
    counters, facts = counters_on(torch.device("cuda", 0))
    assert counters is not None
    counters.close()
    assert counters.read()[2] == 2
    assert facts == {"busy": "utilisation", "energy": "counter", "memory": "device"}


def test_a_machine_without_nvml_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml()

    def init() -> None:
        raise NVMLError("NVML Shared Library Not Found")

    nvml.nvmlInit = init
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(gpu_counters, "gpu_uuid", lambda _device: "GPU-a")
    assert counters_on(torch.device("cuda", 0)) == (None, {"missing": "NVML: NVML Shared Library Not Found"})
    assert host_facts(None)["gpu"] is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NvmlError, match="nvidia-ml-py is missing"):
        NvmlCounters("GPU-a")
    assert host_facts(None)["gpu"] is None


def test_a_cpu_has_no_gpu_counters() -> None:
    assert counters_on(torch.device("cpu")) == (None, {})


def test_a_thread_samples_by_itself_and_reaches_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a", busy_pct=100)
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(gpu))
    sampling = NvmlCounters("GPU-a", interval_s=0.01)
    try:
        counters = Counters(None, sampling)
        deadline_s = time.monotonic() + 10.0
        while counters.read()["gpu_busy_s"] < 0.05 and time.monotonic() < deadline_s:
            gpu.energy_mj += 1
            time.sleep(0.005)
        assert counters.read()["gpu_busy_s"] >= 0.05
        assert counters.read()["gpu_energy_j"] > 0
        assert counters.read()["gpu_mem_bytes"] == 900
    finally:
        sampling.close()


def test_facts_name_every_gpu_with_null_for_what_it_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpu("GPU-a"), FakeGpu("GPU-b", power_mw=NOT_SUPPORTED, used=NOT_SUPPORTED)
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(*gpus))
    first, second = host_facts(None)["gpu"]
    assert first == {
        "name": "GPU-a",
        "uuid": "GPU-a",
        "memory_total_bytes": 1000,
        "driver_version": "580.1",
        "nvml_version": "580.1",
        "power_limit_w": 100.0,
        "clocks": {
            "sm_hz": 1_000_000_000,
            "sm_max_hz": 1_000_000_000,
            "memory_hz": 2_000_000_000,
            "memory_max_hz": 2_000_000_000,
        },
    }
    assert (second["uuid"], second["power_limit_w"], second["memory_total_bytes"]) == ("GPU-b", None, None)
