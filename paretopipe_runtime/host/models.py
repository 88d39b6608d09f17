"""What a worker knows of models: those that are resident, their inputs, and stages built from them by an engine."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from paretopipe_runtime.model.cuts import Cut
from paretopipe_runtime.model.engines.base import Compute, EngineError, StageToBuild
from paretopipe_runtime.model.engines.registry import ENGINES
from paretopipe_runtime.model.resident import ResidentModel
from paretopipe_runtime.model.timing import time_segments
from paretopipe_runtime.pipeline.inputs import Input, open_input
from paretopipe_runtime.pipeline.jpeg import JpegDecode, JpegEncode, worst_case_bytes

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class BuiltStage:
    """A stage ready to run: CPU tensor in, CPU tensor out."""

    compute: Compute
    engine: str
    """Who computes; where `best` was asked for, the engine that was picked."""
    setup_s: float
    """What building it took; in no window."""
    parameter_bytes: int


class Models:
    """Resident models, inputs and reference outputs of one worker.

    `device` (`cpu`, `cuda`, `cuda:1`) and `engine` are the host's, from the inventory: `engine` is what a cell's
    `best` means here.
    """

    def __init__(self, device: str = "cpu", engine: str = "best", threads: int = 1) -> None:
        self._device = torch.device(device)
        self._engine = engine
        self._threads = threads
        self._models: dict[tuple[str, str, int], ResidentModel] = {}
        self._inputs: dict[tuple[str, int, int, int], Input] = {}
        self._references: dict[str, torch.Tensor] = {}

    def model(self, params: JsonObject) -> ResidentModel:
        """The model that a request names, loaded once. Raises ModelError."""
        key = (params["model"], params["weights"], int(params["seed"]))
        if key not in self._models:
            self._models[key] = ResidentModel.load(key[0], weights=key[1], seed=key[2])
        return self._models[key]

    def input(self, params: JsonObject, model: ResidentModel) -> Input:
        """The images that a request names, opened once. Raises InputError."""
        key = (params["input"], int(params["batch_size"]), model.image_size, int(params["seed"]))
        if key not in self._inputs:
            self._inputs[key] = open_input(*key)
        return self._inputs[key]

    def describe(self, params: JsonObject) -> JsonObject:
        """Cuts, hashes and, if `timed`, seconds between neighbouring cuts from one pass after a warm-up pass."""
        model = self.model(params)
        cuts = model.cuts(params["batch_size"], params["granularity"])
        described = [
            {"index": cut.index, "name": cut.name, "paper_name": cut.paper_name, "nbytes": cut.nbytes} for cut in cuts
        ]
        answer: JsonObject = {
            "cuts": described,
            "n_blocks": len(model.blocks),
            "parameters": model.parameters,
            "graph_hash": model.graph_hash,
            "weight_hash": model.weight_hash,
        }
        if params.get("source", True):
            images = self.input(params, model).batch(0)
            answer["image_shape"] = list(images.shape[2:])
            described[0]["nbytes"] = self._encode(params)(images).nbytes
        if params.get("timed"):
            answer["segment_exec_s"] = self._segment_times(model, cuts, params, repeats=1)[0]
        return answer

    def profile_blocks(self, params: JsonObject) -> JsonObject:
        """Seconds of every part between two cuts, `repeats` times, and what each sends."""
        model = self.model(params)
        cuts = model.cuts(params["batch_size"], params["granularity"])
        passes = self._segment_times(model, cuts, params, repeats=int(params["repeats"]))
        rows = []
        for index, (hi, stage) in enumerate(zip(cuts[1:], model.block_stages(cuts), strict=True)):
            rows.append(
                {
                    "name": hi.name,
                    "cut_index": hi.index,
                    "paper_name": hi.paper_name,
                    "exec_samples_s": [one[index] for one in passes],
                    "out_bytes": hi.nbytes,
                    "parameters": sum(p.numel() for p in stage.parameters()),
                }
            )
        return {"rows": rows}

    def _segment_times(
        self, model: ResidentModel, cuts: Sequence[Cut], params: JsonObject, repeats: int
    ) -> list[list[float]]:
        """Passes over all segments; the first, which maps the weights, is not among them."""
        images = _blank_images(model, params)
        segments = model.block_stages(cuts)
        segments[0] = nn.Sequential(model.preprocess(), segments[0])
        passes = time_segments(segments, images, repeats + 1)[1:]
        del segments
        trim()
        return passes

    def _encode(self, params: JsonObject) -> nn.Module:
        return JpegEncode() if params["input_encoding"] == "jpeg" else nn.Identity()

    def _decode(self, params: JsonObject) -> nn.Module:
        return JpegDecode(params["batch_size"]) if params["input_encoding"] == "jpeg" else nn.Identity()

    def build(self, params: JsonObject, cuts: Sequence[Cut], lo: int, hi: int) -> BuiltStage:
        """The stage between two cut indexes, by the engine that is asked for. Raises EngineError.

        Images are encoded only where they are about to cross a link (cut 0).
        """
        start_s = time.perf_counter()
        model = self.model(params)
        first, last = cuts[0].index, cuts[-1].index
        by_index = {cut.index: cut for cut in cuts}
        engine = self._engine if params["engine"] == "best" else params["engine"]
        if engine == "best":
            engine = "eager"
        if engine not in ENGINES:
            raise EngineError(f"engine {engine!r} is not in this version", f"valid: {', '.join(ENGINES)}")
        parts: list[nn.Module | Compute] = []
        own_bytes = 0
        if hi == first:
            parts.append(self._encode(params) if params["stage"] == 0 else nn.Identity())
        elif lo == first:
            if params["stage"] > 0:
                parts.append(self._decode(params))
            parts.append(model.preprocess())
        if lo != hi:
            stage = model.stage(None if lo == first else by_index[lo], None if hi == last else by_index[hi])
            own_bytes = sum(t.nbytes for t in [*stage.parameters(), *stage.buffers()])
            before = by_index[lo]
            key = f"{model.graph_hash}-{model.weight_hash}-{params['granularity']}-{lo}-{hi}-b{params['batch_size']}"
            parts.append(
                ENGINES[engine].build(
                    StageToBuild(stage, before.shape, before.stride, before.dtype, key, self._device, self._threads)
                )
            )
        return BuiltStage(_chain(parts), engine, time.perf_counter() - start_s, own_bytes)

    def reference(self, model: ResidentModel, params: JsonObject, *, encoded: bool) -> torch.Tensor:
        """The unsplit model's result for the first batch, computed once on this host."""
        fields = ("model", "weights", "seed", "batch_size", "input")
        encoded = encoded and params["input_encoding"] != "raw"
        key = repr(([params[name] for name in fields], encoded))
        if key not in self._references:
            images = self.input(params, model).batch(0)
            with torch.inference_mode():
                if encoded:
                    images = self._decode(params)(self._encode(params)(images))
                self._references[key] = model.whole()(model.preprocess()(images))
            trim()
        return self._references[key]

    def image_limit_bytes(self, model: ResidentModel, params: JsonObject) -> int:
        """The largest payload of cut 0; `image_shape` comes from the driver's host, which has the images."""
        height, width = (int(side) for side in params["image_shape"])
        if params["input_encoding"] == "jpeg":
            return worst_case_bytes(int(params["batch_size"]), height, width)
        return int(params["batch_size"]) * 3 * height * width


def _chain(parts: Sequence[nn.Module | Compute]) -> Compute:
    def compute(tensor: torch.Tensor) -> torch.Tensor:
        for part in parts:
            tensor = part(tensor)
        return tensor

    return compute


def _blank_images(model: ResidentModel, params: JsonObject) -> torch.Tensor:
    return torch.zeros(int(params["batch_size"]), 3, model.image_size, model.image_size, dtype=torch.uint8)


def trim() -> None:
    """Free what is only held by cycles (fx modules are), and give freed memory back to the system (malloc_trim(3))."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
