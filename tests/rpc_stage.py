"""One stage of a pipeline that adds one, as a process of its own: what the tests of the rpc backend talk to.

A process can be in one RPC group only, so stages cannot share one. They are forked from a process that has torch
already: importing it for each would take longer than the tests.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECRET = "5e" * 32
_CLONE_NEWNET = 0x40000000
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["paretopipe_runtime.host.cell", "paretopipe_runtime.transport.rpc_connector"])


class Stage:
    """The test's end of a stage process; `namespace` is the network namespace it lives in, `cpus` where it runs."""

    def __init__(self, namespace: str | None = None, cpus: Sequence[int] = ()) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_main, args=(theirs, namespace, tuple(cpus)), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, op: str, **params: Any) -> None:
        """Ask, without waiting."""
        self._connection.send((op, params))

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer: a result, or the `error`'s kind and `message`; `took_s` to get there."""
        answer: dict[str, Any] = self._connection.recv()
        return answer

    def ask(self, op: str, **params: Any) -> dict[str, Any]:
        """Ask and wait."""
        self.send(op, **params)
        return self.answer()

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def prepare(stages: list[Stage], addresses: list[str] | None = None, **params: Any) -> list[dict[str, Any]]:
    """Prepare one cell on all stages at once."""
    for index, stage in enumerate(stages):
        address = addresses[index] if addresses else "127.0.0.1"
        stage.send("prepare", **{"index": index, "count": len(stages), "address": address, "group": "a", **params})
    return [stage.answer() for stage in stages]


def start(stages: Sequence[Stage | None], prepared: list[dict[str, Any]], addresses: list[str] | None = None) -> None:
    """Run the prepared cell, but for stages that are None; the answers are to be waited for."""
    at = addresses or ["127.0.0.1"] * len(stages)
    port = prepared[0]["rendezvous_port"]
    for index, stage in reversed(list(enumerate(stages))):
        after = (index + 1) % len(stages)
        if stage is None:
            continue
        stage.send(
            "run",
            peer={"address": at[after], "port": prepared[after]["port"]},
            rendezvous={"address": at[0], "port": port} if port else None,
        )


def run_cell(stages: list[Stage], addresses: list[str] | None = None, **params: Any) -> list[dict[str, Any]]:
    """Prepare and run a cell; the answers of all stages, the driver's first."""
    start(stages, prepare(stages, addresses, **params), addresses)
    return [stage.answer() for stage in stages]


def _main(connection: Connection, namespace: str | None, cpus: tuple[int, ...]) -> None:
    if namespace is not None:
        with Path("/run/netns", namespace).open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    if cpus:
        os.sched_setaffinity(0, cpus)
    import torch

    torch.set_num_threads(1)
    commands = _Commands()
    while True:
        try:
            op, params = connection.recv()
        except EOFError:
            return
        connection.send(commands.perform(op, params))


class _Commands:
    def __init__(self) -> None:
        from paretopipe_runtime.transport.rpc_process import RpcProcess

        self._process = RpcProcess()

    def perform(self, op: str, params: dict[str, Any]) -> dict[str, Any]:
        from paretopipe_runtime.transport.errors import TransportError

        start_s = time.monotonic()
        try:
            result = getattr(self, op)(**params)
        except TransportError as error:
            result = {"error": error.kind, "message": error.message}
        return result | {"took_s": time.monotonic() - start_s}

    def prepare(
        self,
        index: int,
        count: int,
        address: str,
        group: str,
        backend: str = "rpc",
        interface: str | None = None,
        secret: str = SECRET,
        elements: int = 1000,
        limit_bytes: int = 1 << 24,
        depths: tuple[int, ...] = (1, 3),
        batches: int = 20,
        compute_s: float = 0.0,
        streams: int = 1,
        result_elements: int | None = None,
    ) -> dict[str, Any]:
        from paretopipe_runtime.host.cell import PreparedCell
        from paretopipe_runtime.pipeline.counters import Counters
        from paretopipe_runtime.transport.backends import BACKENDS
        from paretopipe_runtime.transport.connector import Connector, Place, SocketConnector
        from paretopipe_runtime.transport.rpc_connector import RpcConnector

        place = Place(f"stage{index + 1}", index, count, secret, {}, address, 0, limit_bytes, streams=streams)
        connector: Connector
        if backend == "socket":
            connector = SocketConnector(place)
        else:
            connector = RpcConnector(place, BACKENDS[backend], interface, group, self._process)
        self._connector, self._index = connector, index
        self._elements, self._depths, self._batches = elements, tuple(depths), batches
        self._count = count

        # As in a model, where the last stage's result is small, if the test wants it so.
        self._result_elements = elements if result_elements is None else result_elements
        kept = self._result_elements if index == count - 1 else elements

        def add_one(tensor: Any) -> Any:
            time.sleep(compute_s)
            return tensor[:kept] + 1

        self._cell = PreparedCell(add_one, connector, Counters())
        return {"port": connector.port, "rendezvous_port": connector.rendezvous_port, **connector.describe()}

    def run(self, peer: dict[str, Any], rendezvous: dict[str, Any] | None) -> dict[str, Any]:
        import torch

        from paretopipe_runtime.host import cell
        from paretopipe_runtime.pipeline.driver import MeasurePlan
        from paretopipe_runtime.pipeline.window import WindowPlan
        from paretopipe_runtime.transport.connector import Peer
        from paretopipe_runtime.transport.errors import TransportError

        at, meeting = Peer(**peer), Peer(**rendezvous) if rendezvous else None
        if self._index > 0:
            try:
                self._cell.serve(at, meeting)
            except TransportError as error:
                return self._state() | {"error": error.kind, "message": error.message}
            return self._state()
        source = _Source(self._elements)
        windows: list[dict[str, Any]] = []
        outputs: list[bool] = []

        def on_window(result: dict[str, Any], output: Any) -> None:
            windows.append({name: result["measured"][name] for name in ("latency_s", "throughput_img_s")})
            outputs.append(output.bitwise)

        # What the driver itself counts as under way, batch by batch.
        driver_of = cell.Driver
        in_flight: list[int] = []

        class Counted(driver_of):  # type: ignore[valid-type, misc]
            def recv(self) -> Any:
                batch = super().recv()
                in_flight.append(self._in_flight)
                return batch

        cell.Driver = Counted  # type: ignore[misc]
        plan = MeasurePlan(self._depths, WindowPlan(self._batches, None, 1), 2, 1)
        try:
            self._cell.drive(at, meeting, source, plan, torch.zeros(self._result_elements) + self._count, on_window)
        finally:
            cell.Driver = driver_of  # type: ignore[misc]
        return self._state() | {"windows": windows, "bitwise": all(outputs), "most_in_flight": max(in_flight)}

    def _state(self) -> dict[str, Any]:
        from paretopipe_runtime.transport import rpc_inbox

        group = self._process._group
        underway = group.outstanding if group else 0
        if group is not None:
            group.drain(10)
        inbox = getattr(self._connector, "_inbox", None)
        relays = getattr(self._connector, "_relays", [])
        return {
            "peak": inbox.peak if inbox else None,
            "relayed_bytes": sum(one.passed_bytes for one in relays),
            "registered": len(rpc_inbox._inboxes) + len(rpc_inbox._relays),
            "underway_at_end": underway,
            "outstanding": group.outstanding if group else None,
            "group": group.id if group else None,
            "threads": threading.active_count(),
        }

    def close(self) -> dict[str, Any]:
        """End the group."""
        self._process.close()
        return {}

    def listening(self) -> dict[str, Any]:
        """Addresses and ports at which this process listens."""
        import psutil

        connections = psutil.Process().net_connections("tcp")
        return {"at": [list(one.laddr) for one in connections if one.status == psutil.CONN_LISTEN]}

    def patch(self, module: str, name: str, value: Any) -> dict[str, Any]:
        """Change a constant, so that a test need not wait as long as a user would."""
        found = importlib.import_module(f"paretopipe_runtime.transport.{module}")
        assert hasattr(found, name)
        setattr(found, name, value)
        return {}

    def ring_only(self, peer: dict[str, Any], rendezvous: dict[str, Any] | None) -> dict[str, Any]:
        """Join the ring of the prepared cell, but never the group."""
        del rendezvous
        from paretopipe_runtime.transport.connector import Peer

        self._connector._ring.open(Peer(**peer))  # type: ignore[attr-defined]
        return {}


class _Source:
    """Inputs for the driver: zeros, whichever batch it is."""

    def __init__(self, elements: int) -> None:
        import torch

        self._zeros = torch.zeros(elements)

    def batch(self, _index: int) -> Any:
        return self._zeros
