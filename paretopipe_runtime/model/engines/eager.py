"""The engine of the reference paper: torch runs the graph node by node."""

from __future__ import annotations

import torch

from paretopipe_runtime.model.engines.base import Compute, StageToBuild


class Eager:
    """Torch as it is."""

    name = "eager"

    def why_not(self, _device: torch.device) -> str | None:
        """Torch is always there."""
        return None

    def remedy(self, _device: torch.device) -> str:
        """Nothing can be missing."""
        return ""

    def build(self, stage: StageToBuild) -> Compute:
        """The stage itself, on its device.

        By its `forward`: that lets go of the input after its last use, while a call of the module would hold it.
        """
        compute: Compute = stage.module.to(stage.device).forward
        return compute
