"""From a model's name to an `nn.Module`: a torchvision classification model, or `package.module:factory`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from paretopipe_runtime.model.checkpoints import checkpoint_source
from paretopipe_runtime.model.errors import ModelError as ModelError
from paretopipe_runtime.model.errors import first_line
from paretopipe_runtime.model.sources import Source, fill, module_source, random_source
from paretopipe_runtime.model.tensors import Slot, slots_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_IMAGE_SIZE = 224
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")
# Their own initialisation draws truncated normals for seconds, and warns.
_SLOW_INIT = ("googlenet", "inception_v3")


def load_model(name: str, *, weights: str | Path = "random", seed: int = 0) -> nn.Module:
    """Build a model for inference: eval mode, no gradients, all values in memory.

    `name` is a torchvision classification model (`mobilenet_v2`) or `package.module:factory`, a callable without
    required arguments, found on `sys.path` or in the current directory, that returns an `nn.Module`.
    `weights` is `random` (reproducible from `seed`, the same bits on every platform), `factory` (as the factory
    returns them, with torch's generator seeded by `seed`), or the path of a `.pt`, `.pth` or `.safetensors` state dict.
    Nothing is ever downloaded. Raises `ModelError`.
    """
    if str(weights) == "factory":
        return _factory_module(name, seed)
    module = skeleton(name)
    slots = slots_of(module)
    fill(slots, weight_source(name, module, slots, weights, seed))
    return module


def skeleton(name: str) -> nn.Module:
    """Build a model in eval mode whose parameters are untouched memory: no time, no resident memory.

    Buffers and the constants that the model's own code computes are real. Raises `ModelError`.
    """
    with torch.random.fork_rng(devices=[]), _parameters_untouched():
        torch.manual_seed(0)
        return _for_inference(_build(name))


def weight_source(name: str, module: nn.Module, slots: list[Slot], weights: str | Path, seed: int) -> Source:
    """Where the values of `slots` (those of `module`, the skeleton of `name`) come from. Raises `ModelError`."""
    spec = str(weights)
    if spec == "random":
        return random_source(seed)
    if spec == "factory":
        return module_source(name, _factory_module(name, seed))
    if Path(spec).suffix not in CHECKPOINT_SUFFIXES:
        raise ModelError(
            f"weights {spec!r} not understood: give random, factory (for package.module:factory models), "
            f"or the path of a {', '.join(CHECKPOINT_SUFFIXES)} file"
        )
    return checkpoint_source(Path(spec).expanduser(), name, module, slots)


def image_size(name: str) -> int:
    """Height and width in pixels of the square images that the model was made for.

    From torchvision's metadata of the model's weights (299 for inception_v3). For one's own model: the attribute
    `image_size` of the factory, else 224. Raises `ModelError`.
    """
    if ":" in name:
        size = getattr(_factory(name), "image_size", DEFAULT_IMAGE_SIZE)
        if not isinstance(size, int) or size < 1:
            raise ModelError(f"{name}: image_size must be a positive whole number of pixels, not {size!r}")
        return size
    metadata = _metadata(name)
    return metadata.crop_size if metadata else DEFAULT_IMAGE_SIZE


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, for pixels scaled to 0..1: torchvision's metadata, else ImageNet's."""
    metadata = None if ":" in name else _metadata(name)
    return (metadata.mean, metadata.std) if metadata else (IMAGENET_MEAN, IMAGENET_STD)


class _InPlaceIgnored(TorchFunctionMode):
    """Turns in-place changes of floating parameters into nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if in_place and args and _untouchable(args[0]):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def _parameters_untouched() -> Iterator[None]:
    """While a model is built, neither its in-place operations nor the functions of `torch.nn.init` write parameters.

    Ignoring the in-place operations alone would do, but for truncated normals: they read what they wrote.
    """
    originals = {
        name: function
        for name, function in vars(nn.init).items()
        if name.endswith("_") and not name.startswith("_") and callable(function)
    }
    try:
        for name, function in originals.items():
            setattr(nn.init, name, _unless_parameter(function))
        with _InPlaceIgnored():
            yield
    finally:
        for name, function in originals.items():
            setattr(nn.init, name, function)


def _unless_parameter(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def initialise(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return tensor if _untouchable(tensor) else function(tensor, *args, **kwargs)

    return initialise


def _untouchable(value: Any) -> bool:
    return isinstance(value, nn.Parameter) and value.is_floating_point()


def _build(name: str) -> nn.Module:
    if ":" in name:
        return _call_factory(name)
    _require_classification(name)
    import torchvision

    options: dict[str, Any] = {"init_weights": False} if name in _SLOW_INIT else {}
    if name.startswith("vit_"):  # the only ones that are built for one size: that of their published weights
        options["image_size"] = image_size(name)
    module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return module


def _for_inference(module: nn.Module) -> nn.Module:
    lazy = [name for name, parameter in module.named_parameters() if nn.parameter.is_lazy(parameter)]
    if lazy:
        raise ModelError(f"parameter {lazy[0]} has no shape yet (a Lazy module): run the model once in its factory")
    return module.eval().requires_grad_(False)


def _require_classification(name: str) -> None:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name in known:
        return
    if name in torchvision.models.list_models():
        raise ModelError(f"{name!r} is not a classification model: only those turn one batch of images into one tensor")
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    raise ModelError(
        f"unknown model {name!r}: {hint}Name it as torchvision does, or your own as package.module:factory"
    )


def _factory(name: str) -> Callable[[], Any]:
    module_name, _, attribute = name.partition(":")
    cwd = str(Path.cwd())
    if cwd not in sys.path and "" not in sys.path:
        sys.path.append(cwd)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's code: anything may come out of it
        raise ModelError(
            f"{name}: cannot import {module_name!r} ({first_line(error)}); "
            "it must be in the current directory, installed, or on PYTHONPATH, on every host"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        found = "is not callable" if hasattr(module, attribute) else "does not exist"
        raise ModelError(f"{name}: {attribute!r} {found} in {module.__file__ or module_name}")
    return factory  # type: ignore[no-any-return]


def _call_factory(name: str) -> nn.Module:
    factory = _factory(name)
    try:
        module = factory()
    except Exception as error:  # the user's code: anything may come out of it
        raise ModelError(f"{name}: the factory failed with {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name}: the factory returned {type(module).__name__}, not a torch.nn.Module")
    return module


def _factory_module(name: str, seed: int) -> nn.Module:
    if ":" not in name:
        raise ModelError(
            f"weights 'factory' needs a model named package.module:factory; for {name!r} give random or a file"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _for_inference(_call_factory(name))


@dataclass(frozen=True)
class _Metadata:
    crop_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _metadata(name: str) -> _Metadata | None:
    """What torchvision knows about the model's published weights; None where there are none."""
    _require_classification(name)
    import torchvision

    published = list(torchvision.models.get_model_weights(name))
    if not published:
        return None
    default = getattr(type(published[0]), "DEFAULT", published[0])
    transforms = default.transforms()
    return _Metadata(int(transforms.crop_size[0]), tuple(transforms.mean), tuple(transforms.std))
