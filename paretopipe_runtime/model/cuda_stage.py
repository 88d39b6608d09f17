"""A stage on a GPU as the stage loop wants it: CPU tensor in, CPU tensor out, and done when it says so."""

from __future__ import annotations

import math

import torch

from paretopipe_runtime.model.engines.base import Compute
from paretopipe_runtime.transport.channel import span

HELD_RESULTS = 4
"""Results that a stage over sockets holds at once (one computed, one queued, one being sent), and one to spare."""
_WARM_UP_PASSES = 3


class CudaStage:
    """Runs `compute` (device tensor in, device tensor out, on the current stream) between two copies.

    The input may be anywhere in host memory: what is not page-locked is copied to page-locked memory first, because
    only from there a copy is asynchronous and at the bus's full rate. Then copy, computation and copy back are queued
    on the current stream, and the call returns when all are done: `exec_s` of the stage ends with the output on the
    host, ready to send. The output has the strides that the computation gave it.

    Page-locked memory comes from torch's own caching host allocator (docs.pytorch.org, "CUDA semantics", memory
    pinning), which is the ring of staging buffers: a block returns to it with the last reference to its tensor, and
    only after the copies queued on it are done. So a result is not written over while it waits, is sent or
    is held by a remote call, for however long and by however many, and nobody has to count: over sockets the blocks
    settle at three, over rpc at three and the batches under way.

    Errors of the device are RuntimeErrors; those for want of memory have "out of memory" in their first line.
    """

    def __init__(self, compute: Compute, device: torch.device) -> None:
        self._compute = compute
        self._device = device
        with torch.cuda.device(device):
            self._begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            # Waiting asleep: a worker often has one core, and its receiver and sender need it meanwhile.
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.kernel_s = math.nan
        """Seconds from the first to the last of the computation in the last call, by the device's own events. Where
        kernels are short it includes the device's waiting for the next one to be launched; never a copy."""

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Any dense or strided CPU tensor -> the result, page-locked, on the CPU."""
        with torch.cuda.device(self._device):
            on_device = self._to_device(tensor)
            self._begin.record()
            result = self._compute(on_device)
            self._end.record()
            output = _to_host(result)
            self._done.record()
            self._done.synchronize()
        self.kernel_s = self._begin.elapsed_time(self._end) / 1e3
        return output

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        flat = span(tensor)
        if not flat.is_pinned():
            staged = _page_locked(flat)
            staged.copy_(flat)
            flat = staged
        return torch.as_strided(flat.to(self._device, non_blocking=True), tensor.shape, tensor.stride())

    @torch.inference_mode()
    def warm_up(self, example: torch.Tensor) -> None:
        """Compute `example` (as it will arrive: shape, strides, dtype) until a first batch costs what every one does.

        cuDNN picks its algorithms, and there are as many page-locked blocks as a stage over sockets holds.
        """
        held = [self(example) for _ in range(max(_WARM_UP_PASSES, HELD_RESULTS))]
        del held


def _to_host(result: torch.Tensor) -> torch.Tensor:
    flat = span(result)
    host = _page_locked(flat)
    host.copy_(flat, non_blocking=True)
    return torch.as_strided(host, result.shape, result.stride())


def _page_locked(like: torch.Tensor) -> torch.Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
