"""The engines by name."""

from __future__ import annotations

from paretopipe_runtime.model.engines.base import Engine
from paretopipe_runtime.model.engines.eager import Eager

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Eager(),)}
