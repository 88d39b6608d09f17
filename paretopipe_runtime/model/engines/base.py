"""What an engine is: it takes a stage of the traced model and makes something that computes the same, faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import fx

Compute = Callable[[torch.Tensor], torch.Tensor]
"""Input of any dense layout on the engine's device -> output there. Called under inference mode, by one thread."""


class EngineError(Exception):
    """An engine that cannot be had on this host, or cannot take this stage: what, and the remedy."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class StageToBuild:
    """A stage as `ResidentModel.stage` gives it (eval mode, on the CPU), and what an engine needs to prepare it.

    The module is the engine's to change; its tensors may be mapped from a file and are read-only.
    """

    module: fx.GraphModule
    shape: tuple[int, ...]
    """Of the input: `[batch, channels, height, width]`, or what the cut before it sends."""
    stride: tuple[int, ...]
    dtype: torch.dtype
    key: str
    """Names this computation: equal keys mean equal graph, weights, cuts and input shape. For caches on disk."""
    device: torch.device
    threads: int


class Engine(Protocol):
    """One way of computing a stage."""

    @property
    def name(self) -> str:
        """As in specs and records."""

    def why_not(self, device: torch.device) -> str | None:
        """Why this host cannot have it (a package that is missing, say), or None. Cheap, and raises nothing."""

    def remedy(self, device: torch.device) -> str:
        """What a person does about `why_not`."""

    def build(self, stage: StageToBuild) -> Compute:
        """Prepare a stage so that its first batch costs what every batch costs. Raises EngineError."""
