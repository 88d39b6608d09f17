"""Whether torch computes on this host: a convolution and a matrix product, on the CPU and where asked on a GPU.

Run as a program of its own (`python -m paretopipe_runtime.model.self_check [--cuda]`): a wheel with instructions that
the CPU lacks kills the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import torch
import torchvision
from torch.nn.functional import conv2d

from paretopipe_runtime.allocator.choice import in_use

JsonObject = dict[str, Any]


class SelfCheckError(Exception):
    """What does not work, and the remedy, in a line."""


def check_convolution(device: str) -> float:
    """Convolve `[2, 8, 32, 32]` with `[4, 8, 3, 3]`; returns the time in seconds, first call's overhead included.

    The numbers are small integers, so every order of summation gives exactly the same float32 (TF32 too), and the
    result must equal numpy's. Raises SelfCheckError if it does not.
    """
    random = np.random.default_rng(0)
    image = random.integers(-4, 5, (2, 8, 32, 32)).astype(np.float32)
    kernel = random.integers(-4, 5, (4, 8, 3, 3)).astype(np.float32)
    started_s = time.perf_counter()
    result = conv2d(torch.from_numpy(image).to(device), torch.from_numpy(kernel).to(device)).cpu().numpy()
    elapsed_s = time.perf_counter() - started_s
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(2, 3))
    if not np.array_equal(result, np.einsum("nchwij,ocij->nohw", windows, kernel)):
        raise SelfCheckError(f"a convolution on {device} gives wrong numbers; this torch wheel does not fit the host")
    return elapsed_s


def check_matrix_product(device: str) -> None:
    """Multiply two `[64, 64]` matrices, exactly as above; raises SelfCheckError if the result is not numpy's.

    It goes through another library than the convolution: the package index's 64-bit ARM wheels from 2.11 on die here,
    and only here, on a Cortex-A72 (SIGILL in NVIDIA's BLAS).
    """
    random = np.random.default_rng(1)
    left, right = (random.integers(-4, 5, (64, 64)).astype(np.float32) for _ in range(2))
    result = torch.mm(torch.from_numpy(left).to(device), torch.from_numpy(right).to(device)).cpu().numpy()
    if not np.array_equal(result, left @ right):
        raise SelfCheckError(
            f"a matrix product on {device} gives wrong numbers; this torch wheel does not fit the host"
        )


def check_torchvision() -> None:
    """Call one of torchvision's compiled operators: they are missing where its wheel is not of torch's kind.

    Raises SelfCheckError.
    """
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    if torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist() != [1]:
        raise SelfCheckError("torchvision's operators give wrong results; install torch and torchvision from one index")


def check(cuda: bool) -> JsonObject:
    """Everything, as a JSON object with versions, times and the allocator in use. Raises SelfCheckError."""
    result: JsonObject = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "allocator": in_use(os.environ),
        "conv_s": check_convolution("cpu"),
        "gpu": None,
    }
    check_matrix_product("cpu")
    check_torchvision()
    if cuda:
        if not torch.cuda.is_available():
            build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
            raise SelfCheckError(
                f"CUDA is promised (paretopipe_torch_flavour: cuda) or asked for (paretopipe_device), but torch "
                f"{torch.__version__}, {build}, finds no GPU; look at nvidia-smi, or set another flavour and device"
            )
        result["gpu"] = {
            "name": torch.cuda.get_device_name(0),
            "cuda": torch.version.cuda,
            "conv_s": check_convolution("cuda"),
        }
        check_matrix_product("cuda")
    return result


def main() -> int:
    """Print the result as JSON, or the error as a line."""
    try:
        result = check("--cuda" in sys.argv[1:])
    except (SelfCheckError, RuntimeError) as error:  # torch raises RuntimeError for whatever goes wrong inside
        sys.stderr.write(f"{str(error).splitlines()[0]}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
