"""Which device a host computes on: what the inventory promises is opened, or refused in words; never another one."""

from __future__ import annotations

import re
from typing import Any

import torch

from paretopipe_runtime.model.engines.base import EngineError
from paretopipe_runtime.model.errors import first_line

JsonObject = dict[str, Any]
_CUDA = re.compile(r"cuda(?::(0|[1-9]\d*))?")


def open_device(text: str) -> torch.device:
    """The device that `paretopipe_device` names: `cpu`, `cuda` (the first GPU that torch sees) or `cuda:N`.

    A GPU is made to compute once, which also starts CUDA in this process; then `exact_float32` is set. Raises
    EngineError where it cannot be had, saying what was promised, what torch sees, and the remedy.
    """
    if text == "cpu":
        return torch.device("cpu")
    named = _CUDA.fullmatch(text)
    if named is None:
        raise EngineError(f"paretopipe_device {text!r} is not known", "valid: cpu, cuda, cuda:N (N counts from 0)")
    index = int(named.group(1) or 0)
    why_not = _why_not(text, index)
    if why_not is not None:
        raise why_not
    device = torch.device("cuda", index)
    try:
        torch.ones(1, device=device).add_(1).item()
    except RuntimeError as error:  # a wheel without code for this GPU, a GPU that is full or broken
        name = torch.cuda.get_device_name(index)
        raise EngineError(
            f"paretopipe_device is {text}, but {name} does not compute: {first_line(error)}",
            "see nvidia-smi there: is the GPU free, and is it one that this torch wheel was built for?",
        ) from error
    exact_float32()
    return device


def _why_not(text: str, index: int) -> EngineError | None:
    promised = f"paretopipe_device is {text}, but torch {torch.__version__}"
    if torch.version.cuda is None:
        return EngineError(
            f"{promised} is built without CUDA",
            "set paretopipe_torch_flavour: cuda for this host and provision it again, or set paretopipe_device: cpu",
        )
    count = torch.cuda.device_count()
    if count == 0 or not torch.cuda.is_available():
        return EngineError(
            f"{promised} (for CUDA {torch.version.cuda}) sees no GPU: {_reason()}",
            "nvidia-smi there must list the GPU: install NVIDIA's driver for this CUDA, look at CUDA_VISIBLE_DEVICES; "
            "or set paretopipe_device: cpu",
        )
    if index >= count:
        seen = ", ".join(f"cuda:{number} {torch.cuda.get_device_name(number)}" for number in range(count))
        return EngineError(
            f"{promised} sees only {seen}",
            "correct paretopipe_device in the inventory, or CUDA_VISIBLE_DEVICES on that host",
        )
    return None


def _reason() -> str:
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return first_line(error).partition(". ")[0]
    return "no reason given"


def exact_float32() -> None:
    """Let a GPU compute float32 as float32, and cuDNN try its algorithms on the first batch of a shape.

    TensorFloat-32, cuDNN's default for convolutions, keeps 10 bits of mantissa (docs.pytorch.org, "CUDA semantics"):
    too few for results that must agree with a CPU's within 1e-3 through 50 layers. The trials of
    `torch.backends.cudnn.benchmark` fall into a stage's warm-up, outside of every window.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def gpu_facts(device: torch.device) -> JsonObject | None:
    """What run.json says of the GPU that a worker computes on, and how it computes; None on a CPU."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "uuid": gpu_uuid(device),
        "memory_total_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def gpu_uuid(device: torch.device) -> str:
    """The GPU's UUID as nvidia-smi writes it: torch's index is no name, because CUDA_VISIBLE_DEVICES reorders."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def release_cached(device: torch.device) -> None:
    """Give back GPU and page-locked memory that torch holds for reuse, so that a cell is not charged for the last one.

    What is still referenced stays.
    """
    if device.type != "cuda":
        return
    torch.cuda.empty_cache()
    if hasattr(torch.accelerator, "empty_host_cache"):  # not in every torch of those allowed
        torch.accelerator.empty_host_cache()
