"""What a worker can be asked to do. Each operation takes and gives JSON; tensors stay here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torchvision

from paretopipe_runtime import __version__
from paretopipe_runtime.allocator import choice as allocator
from paretopipe_runtime.host.cell import PreparedCell, link_spec, stage_bounds
from paretopipe_runtime.host.models import Models
from paretopipe_runtime.model.device import gpu_facts, open_device, release_cached
from paretopipe_runtime.model.engines import registry
from paretopipe_runtime.model.engines.base import EngineError
from paretopipe_runtime.model.memory import trim
from paretopipe_runtime.pipeline.counters import Counters
from paretopipe_runtime.pipeline.driver import MeasurePlan, OutputCheck
from paretopipe_runtime.pipeline.gpu_counters import counters_on
from paretopipe_runtime.pipeline.process_stats import reset_peak, resident_bytes
from paretopipe_runtime.pipeline.window import WindowPlan
from paretopipe_runtime.transport import probe, rpc_group
from paretopipe_runtime.transport.backends import BACKENDS
from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender, shut_down
from paretopipe_runtime.transport.connector import Connector, Peer, Place, SocketConnector
from paretopipe_runtime.transport.endpoint import connect, listen
from paretopipe_runtime.transport.handshake import accept, connect_side
from paretopipe_runtime.transport.rpc_connector import RpcConnector
from paretopipe_runtime.transport.rpc_process import RpcProcess
from paretopipe_runtime.transport.streams import MAX_STREAMS

JsonObject = dict[str, Any]
Emit = Callable[[JsonObject], None]

OPERATIONS = frozenset(
    {"describe", "facts", "measure", "memory", "prepare", "profile_blocks", "release", "serve"}
    | {"close_rpc", "probe", "probe_listen", "probe_serve"}
)

# Pipeline results equal the unsplit model's within this, where hosts differ in CPU or thread count.
OUTPUT_TOLERANCE = 1e-3


class RequestError(Exception):
    """A request that cannot be met as it stands."""


class Operations:
    """The state of a worker: models that are resident, inputs, and the cell that is prepared."""

    def __init__(self, host: str, emit: Emit, device: str = "cpu", engine: str = "best") -> None:
        self._host = host
        self._emit = emit
        self._device, self._device_error = torch.device("cpu"), None
        try:
            self._device = open_device(device)
        except EngineError as error:
            self._device_error = error
        self._gpu, gpu_counters = counters_on(self._device)
        missing = self._device_error
        self._device_facts = {
            "device": device,
            "device_error": missing and {"message": missing.message, "remedy": missing.remedy},
            "gpu_device": gpu_facts(self._device),
            "gpu_counters": gpu_counters,
        }
        self._resident = Models(str(self._device), engine, torch.get_num_threads())
        self._counters: dict[str | None, Counters] = {}
        self._cell: PreparedCell | None = None
        self._cell_params: JsonObject = {}
        self._rpc = RpcProcess()
        self._abortable: Callable[[], None] | None = None
        self._lock = threading.Lock()

    @property
    def _models(self) -> Models:
        """The models. Raises EngineError on a host without the device that was promised: it computes nothing at all."""
        if self._device_error is not None:
            raise EngineError(self._device_error.message, self._device_error.remedy)
        return self._resident

    # Facts and models ----------------------------------------------------------------------------------------

    def facts(self, _params: JsonObject) -> JsonObject:
        """Versions and numeric settings of this worker."""
        return {
            "paretopipe": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "threads": torch.get_num_threads(),
            "cuda_available": torch.cuda.is_available(),
            "rpc_available": rpc_group.available(),
            "engines": registry.missing(self._device),
            "rss_bytes": resident_bytes(),
            "allocator": allocator.in_use(os.environ),
            "peak_memory": "since the cell was prepared" if reset_peak() else "since the worker started",
            "worker_pid": os.getpid(),
            **self._device_facts,
        }

    def describe(self, params: JsonObject) -> JsonObject:
        """Cuts and hashes of a model (see `Models.describe`)."""
        return self._models.describe(params)

    def profile_blocks(self, params: JsonObject) -> JsonObject:
        """Times of a model's parts (see `Models.profile_blocks`)."""
        return self._models.profile_blocks(params)

    def memory(self, _params: JsonObject) -> JsonObject:
        """Resident memory now, after the allocator has given back what it can."""
        trim()
        return {"rss_bytes": resident_bytes()}

    # A cell --------------------------------------------------------------------------------------------------

    def prepare(self, params: JsonObject) -> JsonObject:
        """Build this host's stage of a cell and listen for the stage before it."""
        self.release({})
        model = self._models.model(params)
        cuts = model.cuts(params["batch_size"], params["granularity"])
        index, count = int(params["stage"]), int(params["stages"])
        lo, hi = stage_bounds(params["cuts"], cuts[-1].index, index)
        if index == 0:
            # Here and not in `measure`, where the peers already wait for this host: a whole vgg16 takes a
            # Raspberry Pi longer than they do.
            self._models.reference(model, params, encoded=_crosses_encoded(params))
        stage = self._models.build(params, cuts, lo, hi)
        sizes = {cut.index: cut.nbytes for cut in cuts}
        sizes[cuts[0].index] = self._models.image_limit_bytes(model, params)
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
            "backend": params["backend"],
        }
        place = Place(
            host=self._host,
            index=index,
            count=count,
            secret=params["secret"],
            facts=facts,
            listen_address=params["listen_address"],
            listen_port=params["listen_port"],
            incoming_limit_bytes=sizes[lo] if index > 0 else sizes[cuts[-1].index],
            egress=link_spec(params["egress"]),
            streams=_streams(params),
            page_locked=self._device.type == "cuda" and index > 0 and lo != hi,
        )
        connector = self._connector(params, place) if count > 1 else None
        self._cell_params = params
        self._cell = PreparedCell(stage.compute, connector, self._counters_of(params["interface"]))
        return {
            "port": self._cell.port,
            "rendezvous_port": connector.rendezvous_port if connector else None,
            "parameter_bytes": stage.parameter_bytes,
            "engine": stage.engine,
            "setup_s": stage.setup_s,
            "transport": BACKENDS[params["backend"]].as_json() | connector.describe() if connector else None,
            "graph_hash": model.graph_hash,
            "weight_hash": model.weight_hash,
        }

    def _connector(self, params: JsonObject, place: Place) -> Connector:
        backend = BACKENDS[params["backend"]]
        if backend.kind == "socket":
            return SocketConnector(place)
        return RpcConnector(place, backend, params["interface"], params.get("rpc_group"), self._rpc)

    def _counters_of(self, interface: str | None) -> Counters:
        if interface not in self._counters:
            self._counters[interface] = Counters(interface, self._gpu)
        return self._counters[interface]

    def serve(self, params: JsonObject) -> JsonObject:
        """Run the prepared stage behind the driver until the stream ends."""
        cell = self._prepared()
        reset_peak()
        with self._abort_with(cell.abort):
            cell.serve(Peer(**params["peer"]), _peer(params.get("rendezvous")))
        return {}

    def measure(self, params: JsonObject) -> JsonObject:
        """Drive the prepared cell: warm-up, a window per depth, checks."""
        cell, prepared = self._prepared(), self._cell_params
        model = self._models.model(prepared)
        reference = self._models.reference(model, prepared, encoded=_crosses_encoded(prepared))
        window = params["window"]
        plan = MeasurePlan(
            tuple(params["depths"]),
            WindowPlan(window["batches"], window["seconds"], window["min_batches"]),
            params["warmup_batches"],
            prepared["batch_size"],
        )
        peer, rendezvous = _peer(params["peer"]), _peer(params.get("rendezvous"))

        def on_window(result: JsonObject, output: OutputCheck) -> None:
            checked = asdict(output) | {"within_tolerance": output.max_rel_err <= OUTPUT_TOLERANCE}
            self._emit({"event": "window", **result, "output": checked})

        reset_peak()
        with self._abort_with(cell.abort):
            cell.drive(peer, rendezvous, self._models.input(prepared, model), plan, reference, on_window)
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
            trim()
            release_cached(self._device)
        return {}

    def close_rpc(self, _params: JsonObject) -> JsonObject:
        """End the RPC group, if there is one. Raises TransportError where only a restart of the worker ends it."""
        self.release({})
        self._rpc.close()
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


def _streams(params: JsonObject) -> int:
    streams = int(params.get("streams", 1))
    if not 1 <= streams <= MAX_STREAMS:
        raise RequestError(f"streams: {streams}; 1 to {MAX_STREAMS} are possible")
    return streams


def _peer(value: JsonObject | None) -> Peer | None:
    return Peer(**value) if value else None


def _close_both(receiver: SocketReceiver, sender: SocketSender) -> None:
    receiver.close()
    sender.close()


def _crosses_encoded(params: JsonObject) -> bool:
    """Whether the images themselves are sent to the second host."""
    return bool(params["stages"] > 1 and params["cuts"][0] == 0)
