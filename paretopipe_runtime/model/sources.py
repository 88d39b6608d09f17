"""Where a tensor's values come from: a seed, or a module that exists already (`checkpoints`: a state-dict file).

A source turns a `Slot` into flat pieces of at most a few megabytes, in the slot's dtype, so that a model of any size is
written with little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import nn

from paretopipe_runtime.model.errors import ModelError
from paretopipe_runtime.model.tensors import Slot, slots_of

Source = Callable[[Slot], Iterator[torch.Tensor]]
PIECE_ELEMENTS = 1 << 20


def fill(slots: Iterable[Slot], source: Source) -> None:
    """Write every slot's values into its own tensor, in place."""
    with torch.no_grad():
        for slot in slots:
            if slot.tensor.is_contiguous():
                flat, begin = slot.tensor.view(-1), 0
                for piece in source(slot):
                    flat[begin : begin + piece.numel()].copy_(piece)
                    begin += piece.numel()
            else:
                slot.tensor.copy_(torch.cat(list(source(slot))).view(slot.tensor.shape))


def random_source(seed: int) -> Source:
    """Random weights: the same bits on every platform, whatever the order, the threads and torch's generator."""

    def source(slot: Slot) -> Iterator[torch.Tensor]:
        tensor = slot.tensor
        if slot.initial == "keep":
            yield from pieces_of(tensor)
        elif tensor.is_complex():
            raise ModelError(f"no random weights for the complex parameter {slot.name}; give factory or a file")
        elif slot.initial == "uniform":
            for values in uniform(seed, slot.name, tensor.numel(), slot.bound):
                yield torch.from_numpy(values).to(tensor.dtype)
        else:
            value = 1.0 if slot.initial == "ones" else 0.0
            for count in _counts(tensor.numel()):
                yield torch.full((count,), value, dtype=tensor.dtype)

    return source


def uniform(seed: int, name: str, count: int, bound: float) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Yield `count` float32 values in [-bound, bound), in pieces.

    Only integers, exact conversions and one rounded multiplication are used: no library function that may differ
    between processors. PCG64's raw stream is fixed by NumPy's compatibility policy (NEP 19).
    """
    digest = blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()
    stream = np.random.PCG64(int.from_bytes(digest, "little"))
    step = np.float32(bound * 2.0**-23)
    for piece in _counts(count):
        raw = stream.random_raw((piece + 1) // 2).astype("<u8", copy=False).view("<u4")[:piece]
        mantissa = (raw >> np.uint32(8)).astype(np.int32) - np.int32(1 << 23)
        yield mantissa.astype(np.float32) * step


def module_source(name: str, module: nn.Module) -> Source:
    """The values that `module` holds, found by name. Raises `ModelError` where it has none or another shape."""
    tensors = {alias: slot.tensor for slot in slots_of(module) for alias in slot.names}

    def source(slot: Slot) -> Iterator[torch.Tensor]:
        tensor = tensors.get(slot.name)
        if tensor is None or tensor.shape != slot.tensor.shape:
            raise ModelError(f"{name}: the factory does not build the same model twice (see tensor {slot.name})")
        return pieces_of(tensor.to(slot.tensor.dtype))

    return source


def pieces_of(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor's values in row-major order, as flat pieces."""
    flat = tensor.detach().contiguous().view(-1)
    begin = 0
    for count in _counts(flat.numel()):
        yield flat[begin : begin + count]
        begin += count


def _counts(total: int) -> Iterator[int]:
    for begin in range(0, total, PIECE_ELEMENTS):
        yield min(PIECE_ELEMENTS, total - begin)
