"""Which engine is the fastest on this host, found by trying them on a whole model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

from paretopipe_runtime.model.engines.base import Compute, EngineError
from paretopipe_runtime.model.errors import first_line

ROUNDS = 2
_ENOUGH_S = 0.5
_MOST_PASSES = 5


@dataclass(frozen=True)
class Pick:
    """The fastest engine, and what it was picked from."""

    engine: str
    exec_s: dict[str, float]
    """Median seconds per batch of every engine that was tried."""
    left_out: dict[str, str]
    """Engines that could not be tried, and why."""
    profiling_s: float


def pick(
    builders: Mapping[str, Callable[[], Compute]],
    left_out: Mapping[str, str],
    example: torch.Tensor,
    clock: Callable[[], float] = time.perf_counter,
) -> Pick:
    """Try every engine in two rounds, the second in reverse order, so that a host that gets slower is fair to all.

    In a round an engine is built, runs once unmeasured, then for half a second (1 to 5 passes). One is in memory at a
    time, so that trying takes no more of it than computing. Raises EngineError where none can be had.
    """
    start_s = clock()
    seconds: dict[str, list[float]] = {name: [] for name in builders}
    failed: dict[str, str] = {}
    for number in range(ROUNDS):
        for name in list(seconds) if number % 2 == 0 else reversed(list(seconds)):
            if name in failed:
                continue
            try:
                seconds[name] += _passes(builders[name](), example, clock)
            except (EngineError, RuntimeError, MemoryError) as error:
                failed[name] = first_line(error)
    exec_s = {name: median(samples) for name, samples in seconds.items() if name not in failed}
    left_out = {**left_out, **failed}
    if not exec_s:
        raise EngineError("no engine can compute this model: " + "; ".join(f"{k}: {v}" for k, v in left_out.items()))
    return Pick(min(exec_s, key=exec_s.__getitem__), exec_s, left_out, clock() - start_s)


@torch.inference_mode()
def _passes(compute: Compute, example: torch.Tensor, clock: Callable[[], float]) -> list[float]:
    samples: list[float] = []
    for _ in range(_MOST_PASSES + 1):
        value = example.clone()  # a stage may work in place
        begin_s = clock()
        compute(value)
        samples.append(clock() - begin_s)
        if sum(samples[1:]) >= _ENOUGH_S:
            break
    return samples[1:]
