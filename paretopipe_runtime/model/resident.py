"""A model that is resident on a host: traced once, its weights in a file, its stages made in milliseconds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from paretopipe_runtime.model.cuts import Cut, list_cuts
from paretopipe_runtime.model.loading import image_size, normalisation, skeleton, weight_source
from paretopipe_runtime.model.paper_names import paper_model
from paretopipe_runtime.model.preprocess import Preprocess
from paretopipe_runtime.model.stages import extract
from paretopipe_runtime.model.tensors import Slot, slots_of
from paretopipe_runtime.model.tracing import Traced, graph_hash, trace
from paretopipe_runtime.model.weights import WeightStore, cache_key, open_store


@dataclass(frozen=True, eq=False)
class ResidentModel:
    """A traced model without values, and the file that has them.

    `graph_hash` and `weight_hash` are what two hosts compare to know that they hold the same model; `parameters` is
    their number; `image_size` is in pixels.
    """

    name: str
    graph_hash: str
    parameters: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    _paper: str | None
    _traced: Traced
    _slots: list[Slot]
    _store: WeightStore
    _cuts: dict[tuple[int, str], list[Cut]] = field(default_factory=dict)

    @classmethod
    def load(
        cls, name: str, *, weights: str | Path = "random", seed: int = 0, cache_dir: Path | None = None
    ) -> ResidentModel:
        """Build, trace and hash a model; `name`, `weights` and `seed` as in `load_model`. Raises `ModelError`.

        The first time on a host its weights are written to `cache_dir` (default: `weights.cache_directory()`).
        """
        module = skeleton(name)
        traced = trace(module)
        slots = slots_of(module)
        key = cache_key(name, weights, seed, slots)
        mean, std = normalisation(name)
        return cls(
            name=name,
            graph_hash=graph_hash(traced),
            parameters=sum(slot.tensor.numel() for slot in slots if slot.kind == "parameter"),
            image_size=image_size(name),
            mean=mean,
            std=std,
            _paper=paper_model(module),
            _traced=traced,
            _slots=slots,
            _store=open_store(slots, weight_source(name, module, slots, weights, seed), key, cache_dir),
        )

    @property
    def weight_hash(self) -> str:
        """Digest of all tensors' names, dtypes, shapes and values, computed by this process from the file."""
        return self._store.hash

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks' names in execution order."""
        return self._traced.blocks

    def preprocess(self) -> Preprocess:
        """The module that makes this model's input from 8-bit images."""
        return Preprocess(self.image_size, self.mean, self.std)

    def cuts(self, batch_size: int, granularity: str = "block") -> list[Cut]:
        """`cut_points` for float32 input `[batch_size, 3, image_size, image_size]`."""
        known = self._cuts.get((batch_size, granularity))
        if known is None:
            example = torch.empty(batch_size, 3, self.image_size, self.image_size)
            known = self._cuts[batch_size, granularity] = list_cuts(self._traced, example, granularity, self._paper)
        return list(known)

    def stage(self, lo: Cut | None, hi: Cut | None) -> fx.GraphModule:
        """The part between two cuts (None: input, output), holding its own tensors only, in eval mode.

        Large tensors are mapped from the weight file; a stage that is alive shares them with a new one.
        """
        return extract(self._traced, lo, hi, self._resolver()).eval()

    def whole(self) -> nn.Module:
        """The unsplit model, run by the same graph as its stages."""
        return self.stage(None, None)

    def block_stages(self, cuts: Sequence[Cut]) -> list[nn.Module]:
        """One stage between every cut and the next: `len(cuts) - 1` modules."""
        return [self.stage(lo, hi) for lo, hi in pairwise(cuts)]

    def _resolver(self) -> Callable[[str], Any]:
        """Copies what a stage asks for, with tensors of the weight file in place of the skeleton's."""
        slots = {id(slot.tensor): slot for slot in self._slots}
        memo: dict[int, Any] = {}

        def tensor(original: torch.Tensor) -> Any:
            slot = slots.get(id(original))
            if slot is None:
                return original  # a constant that forward made; the graph hash covers it
            if id(original) not in memo:
                stored = self._store.tensor(slot.name)
                memo[id(original)] = (
                    nn.Parameter(stored, requires_grad=False) if isinstance(original, nn.Parameter) else stored
                )
            return memo[id(original)]

        def resolve(target: str) -> Any:
            path, _, attribute = target.rpartition(".")
            found = getattr(self._traced.module.get_submodule(path), attribute)
            if isinstance(found, torch.Tensor):
                return tensor(found)
            for slot in slots_of(found):
                tensor(slot.tensor)
            return copy.deepcopy(found, memo)

        return resolve
