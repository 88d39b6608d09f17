"""What a worker can be asked to do. Each operation takes and gives JSON; tensors stay here."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn

from paretopipe_runtime import __version__
from paretopipe_runtime.host.cell import Peer, PreparedCell, StageSpec, link_spec, stage_bounds
from paretopipe_runtime.model.cuts import Cut
from paretopipe_runtime.model.resident import ResidentModel
from paretopipe_runtime.model.timing import time_segments
from paretopipe_runtime.pipeline.driver import MeasurePlan, OutputCheck
from paretopipe_runtime.pipeline.inputs import Input, open_input
from paretopipe_runtime.pipeline.jpeg import JpegDecode, JpegEncode, worst_case_bytes
from paretopipe_runtime.pipeline.process_stats import reset_peak, resident_bytes
from paretopipe_runtime.pipeline.window import WindowPlan
from paretopipe_runtime.transport import probe
from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender, shut_down
from paretopipe_runtime.transport.endpoint import connect, listen
from paretopipe_runtime.transport.handshake import accept, connect_side

JsonObject = dict[str, Any]
Emit = Callable[[JsonObject], None]

OPERATIONS = frozenset(
    {"describe", "facts", "measure", "memory", "prepare", "profile_blocks", "release", "serve"}
    | {"probe", "probe_listen", "probe_serve"}
)

# Pipeline results equal the unsplit model's within this, where hosts differ in CPU or thread count.
OUTPUT_TOLERANCE = 1e-3


class RequestError(Exception):
    """A request that cannot be met as it stands."""


class Operations:
    """The state of a worker: models that are resident, inputs, and the cell that is prepared."""

    def __init__(self, host: str, emit: Emit) -> None:
        self._host = host
        self._emit = emit
        self._models: dict[tuple[str, str, int], ResidentModel] = {}
        self._inputs: dict[tuple[str, int, int, int], Input] = {}
        self._references: dict[str, torch.Tensor] = {}
        self._cell: PreparedCell | None = None
        self._cell_params: JsonObject = {}
        self._abortable: Callable[[], None] | None = None
        self._lock = threading.Lock()

    # Facts and models ----------------------------------------------------------------------------------------

    def facts(self, _params: JsonObject) -> JsonObject:
        """Versions and numeric settings of this worker."""
        return {
            "paretopipe": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "threads": torch.get_num_threads(),
            "cuda_available": torch.cuda.is_available(),
            "rss_bytes": resident_bytes(),
            "peak_memory": "since the cell was prepared" if reset_peak() else "since the worker started",
            "worker_pid": os.getpid(),
        }

    def memory(self, _params: JsonObject) -> JsonObject:
        """Resident memory now, after the allocator has given back what it can."""
        _trim()
        return {"rss_bytes": resident_bytes()}

    def _model(self, params: JsonObject) -> ResidentModel:
        key = (params["model"], params["weights"], int(params["seed"]))
        if key not in self._models:
            self._models[key] = ResidentModel.load(key[0], weights=key[1], seed=key[2])
        return self._models[key]

    def _input(self, params: JsonObject, model: ResidentModel) -> Input:
        key = (params["input"], int(params["batch_size"]), model.image_size, int(params["seed"]))
        if key not in self._inputs:
            self._inputs[key] = open_input(*key)
        return self._inputs[key]

    def describe(self, params: JsonObject) -> JsonObject:
        """Cuts, hashes and, if `timed`, seconds between neighbouring cuts from one pass after a warm-up pass."""
        model = self._model(params)
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
            images = self._input(params, model).batch(0)
            answer["image_shape"] = list(images.shape[2:])
            described[0]["nbytes"] = self._encode(params)(images).nbytes
        if params.get("timed"):
            answer["segment_exec_s"] = self._segment_times(model, cuts, params, repeats=1)[0]
        return answer

    def profile_blocks(self, params: JsonObject) -> JsonObject:
        """Seconds of every part between two cuts, `repeats` times, and what each sends."""
        model = self._model(params)
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
        _trim()
        return passes

    # A cell --------------------------------------------------------------------------------------------------

    def _encode(self, params: JsonObject) -> nn.Module:
        return JpegEncode() if params["input_encoding"] == "jpeg" else nn.Identity()

    def _decode(self, params: JsonObject) -> nn.Module:
        return JpegDecode(params["batch_size"]) if params["input_encoding"] == "jpeg" else nn.Identity()

    def _compute(
        self, model: ResidentModel, cuts: Sequence[Cut], lo: int, hi: int, params: JsonObject
    ) -> nn.Sequential:
        """The modules of a stage. Images are encoded only where they are about to cross a link (cut 0)."""
        first, last = cuts[0].index, cuts[-1].index
        by_index = {cut.index: cut for cut in cuts}
        if hi == first:
            return nn.Sequential(self._encode(params) if params["stage"] == 0 else nn.Identity())
        parts: list[nn.Module] = []
        if lo == first:
            if params["stage"] > 0:
                parts.append(self._decode(params))
            parts.append(model.preprocess())
        if lo != hi:
            parts.append(model.stage(None if lo == first else by_index[lo], None if hi == last else by_index[hi]))
        return nn.Sequential(*parts)

    def _reference(self, model: ResidentModel, params: JsonObject, *, encoded: bool) -> torch.Tensor:
        """The unsplit model's result for the first batch, computed once on this host."""
        fields = ("model", "weights", "seed", "batch_size", "input")
        encoded = encoded and params["input_encoding"] != "raw"
        key = repr(([params[name] for name in fields], encoded))
        if key not in self._references:
            images = self._input(params, model).batch(0)
            with torch.inference_mode():
                if encoded:
                    images = self._decode(params)(self._encode(params)(images))
                self._references[key] = model.whole()(model.preprocess()(images))
            _trim()
        return self._references[key]

    def prepare(self, params: JsonObject) -> JsonObject:
        """Build this host's stage of a cell and listen for the stage before it."""
        self.release({})
        model = self._model(params)
        cuts = model.cuts(params["batch_size"], params["granularity"])
        index, count = int(params["stage"]), int(params["stages"])
        lo, hi = stage_bounds(params["cuts"], cuts[-1].index, index)
        stage = self._compute(model, cuts, lo, hi, params)
        sizes = {cut.index: cut.nbytes for cut in cuts}
        sizes[cuts[0].index] = self._image_limit_bytes(model, params)
        facts = {
            "paretopipe": __version__,
            # Without the local label: a Raspberry Pi's +cpu and a GPU server's +cu130 are one version (PEP 440).
            "torch": torch.__version__.partition("+")[0],
            "torchvision": torchvision.__version__.partition("+")[0],
            "model": params["model"],
            "graph_hash": model.graph_hash,
            "weight_hash": model.weight_hash,
            "cell": params["cell"],
            "cuts": ",".join(str(cut) for cut in params["cuts"]),
            "batch_size": str(params["batch_size"]),
            "input_encoding": params["input_encoding"],
        }
        spec = StageSpec(
            host=self._host,
            index=index,
            count=count,
            secret=params["secret"],
            facts=facts,
            listen_address=params["listen_address"],
            listen_port=params["listen_port"],
            incoming_limit_bytes=sizes[lo] if index > 0 else sizes[cuts[-1].index],
            egress=link_spec(params["egress"]),
        )
        self._cell_params = params
        self._cell = PreparedCell(spec, stage)
        return {
            "port": self._cell.port,
            "parameter_bytes": sum(t.nbytes for t in [*stage.parameters(), *stage.buffers()]),
            "graph_hash": model.graph_hash,
            "weight_hash": model.weight_hash,
        }

    def _image_limit_bytes(self, model: ResidentModel, params: JsonObject) -> int:
        """The largest payload of cut 0; `image_shape` comes from the driver's host, which has the images."""
        height, width = (int(side) for side in params["image_shape"])
        if params["input_encoding"] == "jpeg":
            return worst_case_bytes(int(params["batch_size"]), height, width)
        return int(params["batch_size"]) * 3 * height * width

    def serve(self, params: JsonObject) -> JsonObject:
        """Run the prepared stage behind the driver until the stream ends."""
        cell = self._prepared()
        reset_peak()
        with self._abort_with(cell.abort):
            cell.serve(Peer(**params["peer"]))
        return {}

    def measure(self, params: JsonObject) -> JsonObject:
        """Drive the prepared cell: warm-up, a window per depth, checks."""
        cell, prepared = self._prepared(), self._cell_params
        model = self._model(prepared)
        crosses_encoded = cell.spec.count > 1 and prepared["cuts"][0] == 0
        reference = self._reference(model, prepared, encoded=crosses_encoded)
        window = params["window"]
        plan = MeasurePlan(
            tuple(params["depths"]),
            WindowPlan(window["batches"], window["seconds"], window["min_batches"]),
            params["warmup_batches"],
            prepared["batch_size"],
        )
        peer = Peer(**params["peer"]) if params["peer"] else None

        def on_window(result: JsonObject, output: OutputCheck) -> None:
            checked = asdict(output) | {"within_tolerance": output.max_rel_err <= OUTPUT_TOLERANCE}
            self._emit({"event": "window", **result, "output": checked})

        reset_peak()
        with self._abort_with(cell.abort):
            cell.drive(peer, self._input(prepared, model), plan, reference, on_window)
        return {}

    def _prepared(self) -> PreparedCell:
        if self._cell is None:
            raise RequestError("no cell is prepared")
        return self._cell

    def release(self, _params: JsonObject) -> JsonObject:
        """Forget the prepared cell; its stage's memory goes with it."""
        if self._cell is not None:
            self._cell.close()
            self._cell = None
            _trim()
        return {}

    # The data path -------------------------------------------------------------------------------------------

    def probe_listen(self, params: JsonObject) -> JsonObject:
        """Listen for a prober; `probe_serve` answers it."""
        self.release({})
        self._probe_listener = listen(params["listen_address"], params["listen_port"])
        return {"port": self._probe_listener.getsockname()[1]}

    def probe_serve(self, params: JsonObject) -> JsonObject:
        """Answer one prober; gives the bandwidth that arrived here."""
        listener = self._probe_listener
        with self._abort_with(partial(shut_down, listener)):
            sock, _ = accept(listener, params["secret"], self._host, {"purpose": "probe"}, params["timeout_s"])
        listener.close()
        receiver = SocketReceiver(sock, probe.FRAME_BYTES, buffers=1)
        sender = SocketSender(sock, link_spec(params["egress"]))
        try:
            with self._abort_with(receiver.close):
                received = probe.serve(receiver, sender)
        finally:
            sender.close()
        return {"bandwidth_bit_s": received.bandwidth_bit_s, "bandwidth_bytes": received.nbytes}

    def probe(self, params: JsonObject) -> JsonObject:
        """Measure the path to a host where `probe_serve` waits; gives the round trips."""
        peer = Peer(**params["peer"])
        sock = connect(peer.address, peer.port, params["timeout_s"])
        connect_side(sock, params["secret"], self._host, {"purpose": "probe"}, params["timeout_s"])
        receiver = SocketReceiver(sock, probe.FRAME_BYTES, buffers=1)
        sender = SocketSender(sock, link_spec(params["egress"]))
        try:
            with self._abort_with(partial(_close_both, receiver, sender)):
                samples = probe.probe(receiver, sender, params["rate_bit_s"])
        finally:
            sender.close()
        return {"rtt_samples_s": samples}

    # Interruption --------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """End the operation in progress, from another thread; without one, nothing happens."""
        with self._lock:
            abort = self._abortable
        if abort is not None:
            abort()
        elif (cell := self._cell) is not None:
            cell.abort()  # prepared, and about to run

    def _abort_with(self, abort: Callable[[], None]) -> _Abortable:
        return _Abortable(self, abort)

    def set_abortable(self, abort: Callable[[], None] | None) -> None:
        """Say how the operation in progress can be ended."""
        with self._lock:
            self._abortable = abort


class _Abortable:
    def __init__(self, operations: Operations, abort: Callable[[], None]) -> None:
        self._operations = operations
        self._abort = abort

    def __enter__(self) -> None:
        self._operations.set_abortable(self._abort)

    def __exit__(self, *_: object) -> None:
        self._operations.set_abortable(None)


def _close_both(receiver: SocketReceiver, sender: SocketSender) -> None:
    receiver.close()
    sender.close()


def _blank_images(model: ResidentModel, params: JsonObject) -> torch.Tensor:
    return torch.zeros(int(params["batch_size"]), 3, model.image_size, model.image_size, dtype=torch.uint8)


def _trim() -> None:
    """Free what is only held by cycles (fx modules are), and give freed memory back to the system (malloc_trim(3))."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
