"""Every tensor that a module holds, named once, and the rule that gives it random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

import torch
from torch import nn

Kind = Literal["parameter", "buffer", "constant"]
SMALL_BOUND = 0.1
_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True, eq=False)
class Slot:
    """A tensor of a module.

    `names` are all the names it goes by (tied weights have several), the first one counts. A `constant` is a tensor
    attribute that was never registered. `initial` says what random weights put there: `keep`, or uniform in
    [-`bound`, `bound`), or one constant value.
    """

    names: tuple[str, ...]
    tensor: torch.Tensor
    kind: Kind
    persistent: bool
    initial: Literal["keep", "uniform", "ones", "zeros"]
    bound: float

    @property
    def name(self) -> str:
        """The name under which the values are generated, stored and hashed."""
        return self.names[0]


def slots_of(module: nn.Module) -> list[Slot]:
    """List the module's parameters, buffers and unregistered tensors, each once, in order of definition."""
    found: dict[int, Slot] = {}
    for name, tensor, kind, owner in _tensors(module):
        known = found.get(id(tensor))
        if known:
            names = known.names if name in known.names else (*known.names, name)
            found[id(tensor)] = Slot(names, tensor, known.kind, known.persistent, known.initial, known.bound)
            continue
        attribute = name.rpartition(".")[2]
        initial, bound = _initial(owner, attribute, tensor) if kind == "parameter" else ("keep", 0.0)
        persistent = kind == "parameter" or (kind == "buffer" and attribute not in owner._non_persistent_buffers_set)
        found[id(tensor)] = Slot((name,), tensor, kind, persistent, initial, bound)
    return list(found.values())


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor, Kind, nn.Module]]:
    for path, owner in module.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                yield prefix + name, parameter, "parameter", owner
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                yield prefix + name, buffer, "buffer", owner
        for name, value in vars(owner).items():
            if isinstance(value, torch.Tensor):
                yield prefix + name, value, "constant", owner


def _initial(
    owner: nn.Module, attribute: str, tensor: torch.Tensor
) -> tuple[Literal["keep", "uniform", "ones", "zeros"], float]:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return "keep", 0.0
    if attribute.endswith("bias"):
        return "zeros", 0.0
    if isinstance(owner, _NORMS):
        return "ones", 0.0
    if tensor.ndim < 2:
        return "uniform", SMALL_BOUND
    # He et al. 2015 (arXiv:1502.01852), uniform form: variance 2 / fan_in keeps deep ReLU nets' activations finite.
    return "uniform", sqrt(6.0 / max(1, prod(tensor.shape[1:])))
