"""One stage on a GPU, without a pipeline around it."""

from __future__ import annotations

import math
import socket
import threading
import time

import pytest
import torch
from torch import nn

from paretopipe_runtime.model.cuda_stage import CudaStage
from paretopipe_runtime.model.resident import ResidentModel
from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender
from tests.gpu.conftest import needs_gpu

pytestmark = needs_gpu


@torch.inference_mode()
@pytest.mark.parametrize("model", ["mobilenet_v2", "resnet18", "inception_v3"])
def test_a_model_gives_what_it_gives_on_the_cpu(gpu: torch.device, model: str) -> None:
    resident = ResidentModel.load(model)
    images = torch.rand(2, 3, resident.image_size, resident.image_size)
    expected = resident.whole()(images)
    result = CudaStage(resident.whole().to(gpu), gpu)(images)
    assert result.device.type == "cpu"
    assert (result - expected).abs().max() <= 1e-3 * expected.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("pinned", [False, True])
def test_any_layout_goes_in_and_comes_out_page_locked(gpu: torch.device, pinned: bool) -> None:
    whole = torch.randn(2, 6, 4, 5, pin_memory=pinned)
    channels_last = torch.randn(2, 6, 4, 5).to(memory_format=torch.channels_last)
    for tensor in (whole, channels_last.pin_memory() if pinned else channels_last, whole[:, 1:3]):
        result = CudaStage(lambda t: t * 2, gpu)(tensor)
        assert torch.equal(result, tensor * 2)
        assert result.is_pinned()
    result = CudaStage(lambda t: t, gpu)(channels_last)
    assert result.stride() == channels_last.stride()


@torch.inference_mode()
def test_results_that_are_held_are_not_written_over(gpu: torch.device) -> None:
    stage = CudaStage(lambda t: t + 1, gpu)
    stage.warm_up(torch.zeros(1 << 20))
    held = [stage(torch.full((1 << 20,), float(k))) for k in range(12)]
    assert [(result.min().item(), result.max().item()) for result in held] == [(k + 1.0, k + 1.0) for k in range(12)]
    assert len({result.data_ptr() for result in held}) == 12


@torch.inference_mode()
def test_page_locked_memory_is_used_again(gpu: torch.device) -> None:
    stage = CudaStage(lambda t: t + 1, gpu)
    stage.warm_up(torch.zeros(1 << 20))
    places = {stage(torch.zeros(1 << 20)).data_ptr() for _ in range(50)}
    assert len(places) <= 8


@torch.inference_mode()
def test_kernel_seconds_are_a_part_of_the_calls(gpu: torch.device) -> None:
    matrix = torch.randn(4096, 4096, device=gpu)
    stage = CudaStage(lambda t: t @ matrix @ matrix, gpu)
    rows = torch.randn(4096, 4096)
    stage.warm_up(rows)
    for _ in range(5):
        start_s = time.perf_counter()
        stage(rows)
        wall_s = time.perf_counter() - start_s
        assert 0 < stage.kernel_s <= wall_s
    assert math.isfinite(stage.kernel_s)


@torch.inference_mode()
def test_float32_is_not_shortened(gpu: torch.device) -> None:
    """TensorFloat-32 would be off by about 1e-3 here."""
    left, right = torch.randn(512, 512), torch.randn(512, 512)
    image, kernel = torch.randn(2, 64, 32, 32), torch.randn(64, 64, 3, 3)
    for compute, a, b in (
        (torch.mm, left, right),
        (lambda x, w: nn.functional.conv2d(x, w, padding=1), image, kernel),
    ):
        exact = compute(a.double(), b.double())
        on_gpu = compute(a.to(gpu), b.to(gpu)).cpu()
        assert (on_gpu - exact).abs().max() < 1e-5 * exact.abs().max()


@torch.inference_mode()
def test_want_of_memory_says_so(gpu: torch.device) -> None:
    stage = CudaStage(lambda _t: torch.empty(1 << 46, device=gpu), gpu)
    with pytest.raises(RuntimeError) as caught:
        stage(torch.ones(1))
    assert "out of memory" in str(caught.value).splitlines()[0]
    assert torch.equal(CudaStage(lambda t: t + 1, gpu)(torch.ones(1)), torch.tensor([2.0]))  # and it works again


def test_payloads_can_be_received_into_page_locked_memory(gpu: torch.device) -> None:
    near, far = socket.socketpair()
    receiver = SocketReceiver(far, 4 << 20, page_locked=True)
    sender = SocketSender(near)
    tensor = torch.randn(1 << 20)
    thread = threading.Thread(target=lambda: sender.send(0, sender.serialize(tensor), (), lambda: None), daemon=True)
    thread.start()
    batch = receiver.recv()
    thread.join()
    assert batch is not None
    assert batch.tensor.is_pinned()
    assert torch.equal(CudaStage(lambda t: t, gpu)(batch.tensor), tensor)
    sender.close()
    receiver.close()
