"""The engines by name, and whether this host has them."""

from __future__ import annotations

import torch

from paretopipe_runtime.model.engines.base import Engine, EngineError
from paretopipe_runtime.model.engines.compiled import Compiled
from paretopipe_runtime.model.engines.eager import Eager
from paretopipe_runtime.model.engines.fused import Fused
from paretopipe_runtime.model.engines.onnx_runtime import OnnxRuntime

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Eager(), Fused(), OnnxRuntime(), Compiled())}
CANDIDATES = ("eager", "fused", "onnxruntime")
"""What `best` picks from; `compiled` takes too long to prepare a stage for being tried unasked."""


def missing(device: torch.device) -> dict[str, str | None]:
    """Every engine, and why this host cannot have it; None where it can. Imports nothing."""
    return {name: engine.why_not(device) for name, engine in ENGINES.items()}


def require(name: str, device: torch.device) -> Engine:
    """An engine that this host has. Raises EngineError with the remedy."""
    if name not in ENGINES:
        raise EngineError(f"engine {name!r} is not in this version", f"valid: {', '.join(ENGINES)}, best")
    engine = ENGINES[name]
    reason = engine.why_not(device)
    if reason is not None:
        raise EngineError(f"engine {name} cannot be had: {reason}", engine.remedy(device))
    return engine
