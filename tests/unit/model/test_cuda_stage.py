"""The logic of a stage on a GPU, with torch's GPU surface replaced: what a GPU really does is in tests/gpu."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from paretopipe_runtime.model import cuda_stage
from paretopipe_runtime.model.cuda_stage import HELD_RESULTS, CudaStage

CPU = torch.device("cpu")
log: list[str] = []
page_locked: list[torch.Tensor] = []


class FakeEvent:
    """Takes the place of its recording among everything else that happens as its time, in milliseconds."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.name = "timing" if enable_timing else "done"
        assert enable_timing != blocking

    def record(self) -> None:
        log.append(f"{self.name} recorded")
        self.at_ms = 10.0 * len(log)

    def synchronize(self) -> None:
        log.append(f"{self.name} awaited")

    def elapsed_time(self, later: FakeEvent) -> float:
        return later.at_ms - self.at_ms


@pytest.fixture(autouse=True)
def _fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def allocate(like: torch.Tensor) -> torch.Tensor:
        log.append("allocated")
        page_locked.append(torch.empty(like.shape, dtype=like.dtype))
        return page_locked[-1]

    monkeypatch.setattr(torch.cuda, "device", lambda _device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(cuda_stage, "_page_locked", allocate)
    log.clear()
    page_locked.clear()
    yield
    log.clear()
    page_locked.clear()


def layouts() -> list[torch.Tensor]:
    whole = torch.randn(2, 6, 4, 5)
    return [
        whole,
        whole.to(memory_format=torch.channels_last),
        whole[:, 1:3],  # parts of each image, with gaps between
        whole[0, 0, 0, :1].expand(3),  # one value seen three times
        whole[:, :0],
        (whole * 100).to(torch.uint8),
        torch.tensor(1.5),
    ]


@pytest.mark.parametrize("tensor", layouts(), ids=lambda t: f"{t.dtype}-{list(t.shape)}-{t.stride()}")
def test_values_and_strides_go_in_and_come_out(tensor: torch.Tensor) -> None:
    seen: list[torch.Tensor] = []
    result = CudaStage(lambda t: seen.append(t) or t, CPU)(tensor)  # type: ignore[func-returns-value]
    for after in (seen[0], result):
        assert after.stride() == tensor.stride()
        assert after.dtype == tensor.dtype
        assert torch.equal(after, tensor)
    if tensor.numel():
        assert result.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()


def test_results_that_are_held_are_not_written_over() -> None:
    stage = CudaStage(lambda t: t + 1, CPU)
    held = [stage(torch.full((2, 3), float(k))) for k in range(10)]
    assert [result[0, 0].item() for result in held] == [k + 1.0 for k in range(10)]
    assert len({result.data_ptr() for result in held}) == 10


def test_the_call_returns_after_the_copy_back() -> None:
    CudaStage(lambda t: log.append("computed") or t * 2, CPU)(torch.ones(3))  # type: ignore[func-returns-value]
    assert log == [
        *("allocated", "timing recorded", "computed", "timing recorded"),
        *("allocated", "done recorded", "done awaited"),
    ]


def test_kernel_seconds_are_between_the_events_around_the_computation() -> None:
    stage = CudaStage(lambda t: log.append("computed") or t, CPU)  # type: ignore[func-returns-value]
    assert stage.kernel_s != stage.kernel_s  # nothing computed yet: unknown
    stage(torch.ones(3))
    assert stage.kernel_s == pytest.approx(0.020)


def test_only_what_is_not_page_locked_is_copied_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.ones(3)
    CudaStage(lambda t: t, CPU)(tensor)
    assert len(page_locked) == 2
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda _self: True)
    CudaStage(lambda t: t, CPU)(tensor)
    assert len(page_locked) == 3


def test_warming_up_holds_as_many_results_as_a_stage_will() -> None:
    seen: list[torch.Tensor] = []
    CudaStage(lambda t: seen.append(t) or t, CPU).warm_up(torch.zeros(2, 3))  # type: ignore[func-returns-value]
    assert len(seen) >= HELD_RESULTS


def test_an_error_of_the_device_is_passed_on() -> None:
    def compute(_tensor: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore")

    with pytest.raises(RuntimeError, match="out of memory"):
        CudaStage(compute, CPU)(torch.ones(3))
