"""A device is what was promised, or an error that says what is there instead. torch's answers are replaced."""

from __future__ import annotations

import pytest
import torch

from paretopipe_runtime.host.worker import _perform
from paretopipe_runtime.model import device
from paretopipe_runtime.model.device import open_device
from paretopipe_runtime.model.engines.base import EngineError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Test GPU {index}")
    monkeypatch.setattr(torch, "ones", lambda _n, device: torch.zeros(1))


@pytest.fixture
def _settings() -> object:
    settings = (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32)
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32 = settings


def test_the_cpu_is_always_there() -> None:
    assert open_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "cuda:01", "cuda:1 ", "CUDA", "mps", "cpu:0", ""])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(EngineError, match="is not known") as caught:
        open_device(text)
    assert caught.value.remedy == "valid: cpu, cuda, cuda:N (N counts from 0)"


@pytest.mark.usefixtures("two_gpus", "_settings")
@pytest.mark.parametrize(("text", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_is_opened_and_computes_exactly(text: str, index: int) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    assert open_device(text) == torch.device("cuda", index)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_beyond_the_last_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(EngineError, match=r"cuda:2, but torch .* sees only cuda:0 Test GPU 0, cuda:1 Test GPU 1"):
        open_device("cuda:2")


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_does_not_compute_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_n: int, device: torch.device) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    monkeypatch.setattr(torch, "ones", broken)
    with pytest.raises(EngineError, match="Test GPU 1 does not compute: CUDA error: no kernel image"):
        open_device("cuda:1")


def test_no_gpu_and_no_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system. Please check that you have one")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(EngineError, match=r"sees no GPU: Found no NVIDIA driver on your system$") as caught:
        open_device("cuda")
    assert "nvidia-smi" in str(caught.value.remedy)


def test_a_torch_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(EngineError, match="is built without CUDA") as caught:
        open_device("cuda")
    assert "paretopipe_torch_flavour: cuda" in str(caught.value.remedy)


def test_nothing_is_given_back_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("a CPU has no such cache"))
    device.release_cached(torch.device("cpu"))


class _Failing:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def prepare(self, _params: object) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "out-of-memory"),
        (torch.AcceleratorError("CUDA error: out of memory\nCompile with ..."), "out-of-memory"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\n..."), "compute"),
        (EngineError("no GPU", "buy one"), "engine"),
    ],
)
def test_what_a_gpu_says_while_a_stage_is_built_fails_the_cell_with_its_kind(error: Exception, kind: str) -> None:
    answer = _perform(_Failing(error), {"op": "prepare", "params": {}})["error"]
    assert answer["kind"] == kind
    assert "\n" not in answer["message"]
