"""torch.compile: inductor turns the stage into C++ (on a GPU: Triton) code, in seconds to minutes. Opt-in.

Measured on mobilenet_v2 with torch 2.14: without freezing, what it compiles is no faster than engine `fused`; with
freezing and the same folding before it, weights are laid out for oneDNN once and it takes 0.7 x the time.
"""

from __future__ import annotations

import os
import shutil
import sys
from weakref import WeakSet

import torch
from torch import fx

from paretopipe_runtime.model.engines.base import Compute, EngineError, StageToBuild
from paretopipe_runtime.model.engines.fused import fold
from paretopipe_runtime.model.errors import first_line

_in_use: WeakSet[fx.GraphModule] = WeakSet()


class Compiled:
    """Torch's compiler; the generated code holds a copy of the weights in its own layout."""

    name = "compiled"

    def why_not(self, _device: torch.device) -> str | None:
        """Inductor needs a C++ compiler: `$CXX`, else g++."""
        compiler = os.environ.get("CXX", "g++")
        return None if shutil.which(compiler) else f"there is no C++ compiler ({compiler})"

    def remedy(self, _device: torch.device) -> str:
        """How to install one."""
        return "apt-get install g++ on that host, or name another compiler in CXX"

    def build(self, stage: StageToBuild) -> Compute:
        """Compile by computing an example. Raises EngineError."""
        from torch._inductor import config  # a second of imports

        if not _in_use:
            _forget()
        folded = fold(stage.module).to(stage.device)
        layout = torch.channels_last if len(stage.shape) == 4 else torch.contiguous_format
        folded.to(memory_format=torch.channels_last)
        module = torch.compile(folded, fullgraph=True, dynamic=False)
        _in_use.add(folded)

        def compute(tensor: torch.Tensor) -> torch.Tensor:
            # Code is compiled for one layout: another would compile again, in a window.
            result: torch.Tensor = module(tensor.contiguous(memory_format=layout))
            return result

        example = torch.zeros(stage.shape, dtype=stage.dtype, device=stage.device)
        try:
            with torch.inference_mode(), config.patch(freezing=True):
                compute(example)
        except RuntimeError as error:
            raise EngineError(
                f"torch {torch.__version__} cannot compile this stage: {first_line(error)}", "choose another engine"
            ) from error
        return compute


def _forget() -> None:
    """Drop the code of stages that are gone: generated modules hold the frozen weights, and stay registered."""
    from torch._inductor.codecache import PyCodeCache

    torch.compiler.reset()
    PyCodeCache.cache_clear()
    for name in [name for name in sys.modules if name.startswith("torch._inductor.runtime.compile_tasks.")]:
        del sys.modules[name]
