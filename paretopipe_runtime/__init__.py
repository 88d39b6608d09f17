"""ParetoPipe's runtime: what runs on every host of a pipeline, and the library for people with their own model.

`load_model`, `cut_points` and `split` are imported on first use, because they bring torch with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paretopipe_runtime.model.cuts import Cut, cut_points
    from paretopipe_runtime.model.loading import load_model
    from paretopipe_runtime.model.stages import split

__version__ = "0.1.0"
__all__ = ["Cut", "cut_points", "load_model", "split"]

_HOMES = {"Cut": "model.cuts", "cut_points": "model.cuts", "load_model": "model.loading", "split": "model.stages"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"paretopipe_runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
