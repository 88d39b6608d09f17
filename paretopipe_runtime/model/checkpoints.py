"""Weights from a local state-dict file: `.pt`, `.pth` or `.safetensors`."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from paretopipe_runtime.model.errors import ModelError, first_line
from paretopipe_runtime.model.sources import Source, pieces_of
from paretopipe_runtime.model.tensors import Slot


class _Checkpoint(Protocol):
    """A file that has been opened; `shapes` are known before any tensor is read."""

    shapes: dict[str, tuple[int, ...]]

    def tensor(self, key: str) -> torch.Tensor: ...


def checkpoint_source(path: Path, name: str, module: nn.Module, slots: list[Slot]) -> Source:
    """The values of a local state dict; what a state dict does not hold stays as the model's code made it.

    A missing `num_batches_tracked` is no error: it is not used in inference, and old files lack it.
    Raises `ModelError` when the file is missing, unreadable, not plain tensors, or does not fit the model.
    """
    if not path.is_file():
        raise ModelError(f"no weights file {path} on this host: copy it there, or give random")
    file = _open(path)
    shapes = file.shapes
    stored = [slot for slot in slots if slot.persistent]
    chosen = {slot.name: next((alias for alias in slot.names if alias in shapes), None) for slot in stored}
    missing = [key for key, alias in chosen.items() if alias is None and not key.endswith("num_batches_tracked")]
    expected = set(module.state_dict(keep_vars=True))
    unexpected = [key for key in shapes if key not in expected]
    for what, keys in (("lacks", missing), ("has unexpected", unexpected)):
        if keys:
            raise ModelError(f"{path} does not fit {name}: it {what} {_some(keys)}. Is it another version's?")
    for slot in stored:
        alias = chosen[slot.name]
        if alias is not None and shapes[alias] != tuple(slot.tensor.shape):
            have, want = list(shapes[alias]), list(slot.tensor.shape)
            raise ModelError(f"{path} does not fit {name}: {alias} is {have}, expected {want}. Is it another model's?")

    def source(slot: Slot) -> Iterator[torch.Tensor]:
        alias = chosen.get(slot.name)
        if alias is None:
            return pieces_of(slot.tensor)
        with _readable(path):
            return pieces_of(file.tensor(alias).to(slot.tensor.dtype))

    return source


def _open(path: Path) -> _Checkpoint:
    with _readable(path):
        return _Safetensors(path) if path.suffix == ".safetensors" else _StateDict(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors and was not loaded: write it with torch.save(model.state_dict(), path)"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as a state dict: {first_line(error)}") from error


class _Safetensors:
    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file: Any = cast("Any", safe_open)(path, framework="pt")  # its stubs are not typed
        keys: list[str] = self._file.keys()
        self.shapes = {key: tuple(self._file.get_slice(key).get_shape()) for key in keys}

    def tensor(self, key: str) -> torch.Tensor:
        tensor: torch.Tensor = self._file.get_tensor(key)
        return tensor


class _StateDict:
    def __init__(self, path: Path) -> None:
        # Files of before torch 1.6 are not archives and cannot be mapped.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
            loaded = loaded["state_dict"]
        if not isinstance(loaded, dict) or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()
        ):
            raise ModelError(
                f"{path} is not a state dict (names to tensors): write it with torch.save(model.state_dict(), path)"
            )
        if all(key.startswith("module.") for key in loaded):  # written by DataParallel
            loaded = {key.removeprefix("module."): tensor for key, tensor in loaded.items()}
        self._tensors: dict[str, torch.Tensor] = {_current_key(key): tensor for key, tensor in loaded.items()}
        self.shapes = {key: tuple(tensor.shape) for key, tensor in self._tensors.items()}

    def tensor(self, key: str) -> torch.Tensor:
        return self._tensors[key]


def _current_key(key: str) -> str:
    """torchvision's published DenseNet files still say `denselayer1.norm.1` for a module that is now called `norm1`."""
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
