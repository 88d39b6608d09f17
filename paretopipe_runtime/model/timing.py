"""How long each segment of a model takes on this host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import torch


def time_segments(
    modules: Sequence[Callable[[torch.Tensor], torch.Tensor]], example: torch.Tensor, repeats: int
) -> list[list[float]]:
    """Run the segments in turn, `repeats` times: wall seconds of every segment, one list per pass, no warm-up left out.

    Every pass starts from a copy of `example` (made outside the timing), because a segment may work in place.
    """
    passes: list[list[float]] = []
    with torch.inference_mode():
        for _ in range(repeats):
            value = example.clone()
            seconds: list[float] = []
            for module in modules:
                begin = perf_counter()
                value = module(value)
                seconds.append(perf_counter() - begin)
            passes.append(seconds)
    return passes
