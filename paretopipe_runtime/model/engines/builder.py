"""Parts of a resident model, made ready on this host's device by an engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from paretopipe_runtime.model.cuts import Cut
from paretopipe_runtime.model.engines.base import Compute, StageToBuild
from paretopipe_runtime.model.engines.best import Pick, pick
from paretopipe_runtime.model.engines.registry import CANDIDATES, missing, require
from paretopipe_runtime.model.memory import trim
from paretopipe_runtime.model.resident import ResidentModel


class Part(NamedTuple):
    """What lies between two cuts, and what it holds."""

    compute: Compute
    """Tensor on the host's device -> tensor there."""
    parameters: int
    parameter_bytes: int
    """Of parameters and buffers, as the model has them."""


class Chain:
    """One computation after the other; `kernel_s` is what the one on an accelerator says of its last call."""

    def __init__(self, parts: Sequence[Compute]) -> None:
        self._parts = tuple(parts)

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """The last one's result. What a part is given is held by nobody else, so a part can let go of it early."""
        held = [tensor]
        del tensor
        for part in self._parts:
            held.append(part(held.pop()))
        return held.pop()

    @property
    def kernel_s(self) -> float:
        """Seconds; NaN without an accelerator."""
        return next((part.kernel_s for part in self._parts if hasattr(part, "kernel_s")), math.nan)


class Builder:
    """Builds for one device, with a number of threads."""

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device = device
        self._threads = threads

    def part(self, engine: str, model: ResidentModel, lo: Cut, hi: Cut) -> Part:
        """The part between two cuts by an engine. Raises EngineError."""
        ready = require(engine, self.device)
        module = model.stage(lo, hi)
        tensors = [*module.parameters(), *module.buffers()]
        parameters, held_bytes = sum(p.numel() for p in module.parameters()), sum(t.nbytes for t in tensors)
        del tensors
        key = f"{model.graph_hash}-{model.weight_hash}-{lo.node}-{hi.node}-{list(lo.shape)}"
        stage = StageToBuild(module, lo.shape, lo.stride, lo.dtype, key, self.device, self._threads)
        return Part(ready.build(stage), parameters, held_bytes)

    def on_host(self, compute: Compute, example: Callable[[], torch.Tensor]) -> Compute:
        """CPU tensor in, CPU tensor out; `example` makes one as it will arrive. Raises EngineError."""
        if self.device.type == "cpu":
            return compute
        from paretopipe_runtime.model.cuda_stage import CudaStage

        staged = CudaStage(compute, self.device)
        staged.warm_up(example())
        return staged

    def timed_apart(self, compute: Compute) -> Compute:
        """The same, so that it has ended when it returns."""
        return Chain([compute, self._wait]) if self.device.type == "cuda" else compute

    def _wait(self, tensor: torch.Tensor) -> torch.Tensor:
        torch.cuda.synchronize(self.device)
        return tensor

    def fastest(self, model: ResidentModel, batch_size: int) -> Pick:
        """The engine that computes the whole model fastest here. Takes seconds, on a slow host minutes."""
        why_not = missing(self.device)
        left_out = {name: reason for name in CANDIDATES if (reason := why_not[name]) is not None}
        first, *_, last = model.cuts(batch_size)
        example = torch.randn(first.shape, dtype=first.dtype, generator=torch.Generator().manual_seed(0))

        def build(engine: str) -> Compute:
            trim()  # the engine before is gone for good
            return self.on_host(self.part(engine, model, first, last).compute, lambda: example)

        tried = pick({name: partial(build, name) for name in CANDIDATES if name not in left_out}, left_out, example)
        trim()
        return tried
