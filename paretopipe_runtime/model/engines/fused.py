"""Batch normalisation folded into the convolution before it, activations in channels_last layout and passed over less.

Folding is torch.fx.experimental.optimization.fuse: in eval mode a normalisation is a scale and a shift per channel,
which the convolution's weights and bias can take over. oneDNN, which computes torch's convolutions on a CPU, works on
channels_last without reordering its input and output (docs.pytorch.org, "Channels Last Memory Format"). What follows
a convolution there, an activation or an addition, is computed with it (`pointwise`).
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import fx
from torch.fx.experimental.optimization import fuse

from paretopipe_runtime.model.engines.base import Compute, StageToBuild
from paretopipe_runtime.model.engines.pointwise import absorb, offered


class Fused:
    """Torch, with fewer and better laid out steps. Results differ from eager's in the last bits."""

    name = "fused"

    def why_not(self, _device: torch.device) -> str | None:
        """Torch is always there."""
        return None

    def remedy(self, _device: torch.device) -> str:
        """Nothing can be missing."""
        return ""

    def build(self, stage: StageToBuild) -> Compute:
        """Weights that change, by folding, layout or packing, are copies; all others stay mapped from their file."""
        module = fold(stage.module)
        if len(stage.shape) == 4 and offered(stage.device, stage.dtype):
            absorb(module, stage.shape)
        _take_any_layout(module)
        module.to(stage.device).to(memory_format=torch.channels_last)
        if len(stage.shape) != 4:
            return module

        def compute(tensor: torch.Tensor) -> torch.Tensor:
            # What a stage of the same engine sent lies right already: strides travel with the tensor.
            result: torch.Tensor = module(tensor.contiguous(memory_format=torch.channels_last))
            return result

        return compute


def fold(module: fx.GraphModule) -> fx.GraphModule:
    """Fold normalisations into the layers before them, in place; all copies are of single layers.

    A module that the graph calls twice would be folded twice, so a stage with one is left as it is.
    """
    calls = Counter(str(node.target) for node in module.graph.nodes if node.op == "call_module")
    if any(count > 1 and any(True for _ in module.get_submodule(name).parameters()) for name, count in calls.items()):
        return module
    folded = fuse(module, inplace=True, no_trace=True)
    assert isinstance(folded, fx.GraphModule)
    return folded


def _take_any_layout(module: fx.GraphModule) -> None:
    """`view` to another shape refuses what is not contiguous; `reshape` gives the same values, if need be by a copy."""
    for node in module.graph.nodes:
        if node.op == "call_method" and node.target == "view" and not _is_dtype(node):
            node.target = "reshape"
    module.recompile()


def _is_dtype(node: fx.Node) -> bool:
    return "dtype" in node.kwargs or any(isinstance(argument, torch.dtype) for argument in node.args)
