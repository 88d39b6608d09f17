"""What a worker knows of models: those that are resident, their inputs, and stages built from them by an engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from paretopipe_runtime.model.cuts import Cut
from paretopipe_runtime.model.engines.base import Compute
from paretopipe_runtime.model.engines.best import Pick
from paretopipe_runtime.model.engines.builder import Builder, Chain
from paretopipe_runtime.model.engines.registry import require
from paretopipe_runtime.model.memory import keep, trim
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
    `best` means here; where it is `best` too, the engines are tried on every model and batch size.
    """

    def __init__(self, device: str = "cpu", engine: str = "best", threads: int = 1) -> None:
        self._builder = Builder(torch.device(device), threads)
        self._engine = engine
        self._models: dict[tuple[str, str, int], ResidentModel] = {}
        self._inputs: dict[tuple[str, int, int, int], Input] = {}
        self._references: dict[str, torch.Tensor] = {}
        self._picks: dict[tuple[str, str, int, int], Pick] = {}

    def model(self, params: JsonObject) -> ResidentModel:
        """The model that a request names, loaded once. Raises ModelError."""
        key = (params["model"], params["weights"], int(params["seed"]))
        if key not in self._models:
            self._models[key] = ResidentModel.load(key[0], weights=key[1], seed=key[2])
            keep()
        return self._models[key]

    def input(self, params: JsonObject, model: ResidentModel) -> Input:
        """The images that a request names, opened once. Raises InputError."""
        key = (params["input"], int(params["batch_size"]), model.image_size, int(params["seed"]))
        if key not in self._inputs:
            self._inputs[key] = open_input(*key)
        return self._inputs[key]

    def describe(self, params: JsonObject) -> JsonObject:
        """Cuts, hashes and, if `timed`, seconds between neighbouring cuts from one pass after a warm-up pass, eager.

        Where an engine is asked for, `engines` says which one that is here, and what it was picked from. Raises
        EngineError where this host does not have it.
        """
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
            answer["segment_exec_s"] = self._segment_times("eager", model, cuts, params, repeats=1)[0]
        if params.get("engine"):
            answer["engines"] = self._describe_engine(params)
        return answer

    def _describe_engine(self, params: JsonObject) -> JsonObject:
        key = _model_and_batch(params)
        known = key in self._picks
        picked = self._engine_for(params)
        found = self._picks[key] if self._must_try(params) else None
        return {
            "asked": params["engine"],
            "picked": picked,
            "exec_s": found and found.exec_s,
            "left_out": found and found.left_out,
            "profiling_s": found.profiling_s if found and not known else 0.0,
        }

    def _must_try(self, params: JsonObject) -> bool:
        return bool(params["engine"] == self._engine == "best")

    def _engine_for(self, params: JsonObject) -> str:
        """The engine that a request means here; finding it out takes seconds, once. Raises EngineError."""
        if not self._must_try(params):
            asked: str = self._engine if params["engine"] == "best" else params["engine"]
            return require(asked, self._builder.device).name
        key = _model_and_batch(params)
        if key not in self._picks:
            self._picks[key] = self._builder.fastest(self.model(params), int(params["batch_size"]))
        return self._picks[key].engine

    def profile_blocks(self, params: JsonObject) -> JsonObject:
        """Seconds of every part between two cuts by the engine asked for, `repeats` times, and what each sends.

        On a GPU they leave out the copies at both ends of a stage.
        """
        model = self.model(params)
        cuts = model.cuts(params["batch_size"], params["granularity"])
        engine = self._engine_for(params)
        passes = self._segment_times(engine, model, cuts, params, repeats=int(params["repeats"]))
        rows = []
        for index, (lo, hi) in enumerate(pairwise(cuts)):
            rows.append(
                {
                    "name": hi.name,
                    "cut_index": hi.index,
                    "paper_name": hi.paper_name,
                    "exec_samples_s": [one[index] for one in passes],
                    "out_bytes": hi.nbytes,
                    "parameters": sum(p.numel() for p in model.stage(lo, hi).parameters()),
                }
            )
        return {"rows": rows, "engine": engine}

    def _segment_times(
        self, engine: str, model: ResidentModel, cuts: Sequence[Cut], params: JsonObject, repeats: int
    ) -> list[list[float]]:
        """Passes over all segments; the first, which maps the weights, is not among them."""
        device = self._builder.device
        segments = [self._builder.part(engine, model, lo, hi).compute for lo, hi in pairwise(cuts)]
        segments[0] = Chain([model.preprocess().to(device), segments[0]])
        images = torch.zeros(int(params["batch_size"]), 3, model.image_size, model.image_size, dtype=torch.uint8)
        timed = [self._builder.timed_apart(segment) for segment in segments]
        passes = time_segments(timed, images.to(device), repeats + 1)[1:]
        del segments, timed
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
        first = cuts[0].index
        by_index = {cut.index: cut for cut in cuts}
        engine = self._engine_for(params)
        parts: list[Compute] = []
        own_bytes = 0
        if hi == first and params["stage"] == 0:
            parts.append(self._encode(params))
        if lo == first and lo != hi and params["stage"] > 0:
            parts.append(self._decode(params))
        if lo != hi:
            part = self._builder.part(engine, model, by_index[lo], by_index[hi])
            own_bytes = part.parameter_bytes
            parts.append(self._on_host(part.compute, model, by_index[lo], params))
        trim()  # what building left behind: an engine copies weights on the way to those that it keeps
        return BuiltStage(Chain(parts), engine, time.perf_counter() - start_s, own_bytes)

    def _on_host(self, compute: Compute, model: ResidentModel, lo: Cut, params: JsonObject) -> Compute:
        """CPU tensor in and out. Images become the model's input on the device: they are smaller as they come."""
        if lo.index > 0:
            return self._builder.on_host(compute, lambda: torch.empty_strided(lo.shape, lo.stride, dtype=lo.dtype))
        images = (int(params["batch_size"]), 3, *params["image_shape"])
        compute = Chain([model.preprocess().to(self._builder.device), compute])
        return self._builder.on_host(compute, lambda: torch.zeros(images, dtype=torch.uint8))

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


def _model_and_batch(params: JsonObject) -> tuple[str, str, int, int]:
    return params["model"], params["weights"], int(params["seed"]), int(params["batch_size"])
