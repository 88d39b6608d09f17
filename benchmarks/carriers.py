"""The ways of getting a tensor from one process to another that `transports` sets side by side.

Each is used as a pipeline would use it, with what its makers offer against copies. All stop the clock alike: as soon
as a payload is whole at the far end, one byte comes back over a plain TCP connection.
"""

# ruff: noqa: D102 - methods are described once, in Carrier

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.namespaces import INTERFACE
from paretopipe_runtime.transport.backends import BACKENDS
from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender
from paretopipe_runtime.transport.connector import Peer, Place
from paretopipe_runtime.transport.endpoint import connect, listen
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import StageTimes
from paretopipe_runtime.transport.rpc_connector import RpcConnector
from paretopipe_runtime.transport.rpc_process import RpcProcess

TIMES = (StageTimes(*(0.0 for _ in StageTimes._fields)),)
"""What a batch carries from the first stage to the second."""
TIMEOUT_S = 60.0
_NUMBER = struct.Struct("<Q")


@dataclass(frozen=True)
class End:
    """Where one end of a carrier is. `port` and the nine after it are the carrier's own."""

    near: bool
    own: str
    peer: str
    port: int
    limit_bytes: int
    side_line: socket.socket
    """A plain connection to the other end, for what is not measured, and for the byte that stops the clock."""

    def exchange(self, number: int) -> int:
        """Tell the other end a number, and get its own."""
        self.side_line.sendall(_NUMBER.pack(number))
        (theirs,) = _NUMBER.unpack(self.side_line.recv(_NUMBER.size, socket.MSG_WAITALL))
        return int(theirs)

    def stream(self) -> socket.socket:
        """One tuned TCP connection to the other end."""
        return accept_one(self.own, self.port) if not self.near else connect_soon(self.peer, self.port)


class Carrier:
    """One way, between two processes."""

    def send(self, tensor: torch.Tensor) -> None:
        """Near end: start a contiguous uint8 tensor on its way."""
        raise NotImplementedError

    def sent(self) -> None:
        """Near end: wait until the tensor's memory may be used again; not timed."""

    def expect(self, nbytes: int) -> None:
        """Far end: the size of what comes next, for those that have no header to say so."""

    def serve(self, hops: int, arrived: Callable[[int], None]) -> None:
        """Far end: take `hops` payloads, and report the size of each as soon as it is whole."""
        raise NotImplementedError


class Bare(Carrier):
    """sendall, and recv_into one preallocated buffer: the least that TCP costs from Python."""

    def __init__(self, end: End) -> None:
        self._sock = end.stream()
        self._buffer = memoryview(bytearray(0 if end.near else end.limit_bytes))
        self._nbytes = 0

    def send(self, tensor: torch.Tensor) -> None:
        self._sock.sendall(tensor.numpy().data)

    def expect(self, nbytes: int) -> None:
        self._nbytes = nbytes

    def serve(self, hops: int, arrived: Callable[[int], None]) -> None:
        view = self._buffer[: self._nbytes]
        for _ in range(hops):
            done = 0
            while done < len(view):
                count = self._sock.recv_into(view[done:])
                assert count, "the connection ended"
                done += count
            arrived(done)


class Socket(Carrier):
    """This project's `socket` backend: header with the stage's times, payload into a ring of buffers."""

    def __init__(self, end: End) -> None:
        sock = end.stream()
        self._sender = SocketSender(sock)
        self._receiver = SocketReceiver(sock, 0 if end.near else end.limit_bytes)

    def send(self, tensor: torch.Tensor) -> None:
        self._sender.send(0, self._sender.serialize(tensor), TIMES, lambda: None)

    def serve(self, hops: int, arrived: Callable[[int], None]) -> None:
        for _ in range(hops):
            batch = self._receiver.recv()
            assert batch is not None
            arrived(batch.tensor.nbytes)
            batch.release()


class ZeroMq(Carrier):
    """PUSH to PULL over tcp. `copy=False` both ways: the message is the tensor's memory, and read where it arrived.

    (pyzmq copies messages below 64 KiB anyway, because that is quicker.)
    """

    def __init__(self, end: End) -> None:
        import zmq

        context = zmq.Context()
        self._socket = context.socket(zmq.PUSH if end.near else zmq.PULL)
        if end.near:
            self._socket.connect(f"tcp://{end.peer}:{end.port}")
        else:
            self._socket.bind(f"tcp://{end.own}:{end.port}")

    def send(self, tensor: torch.Tensor) -> None:
        self._socket.send(tensor.numpy().data, copy=False)

    def serve(self, hops: int, arrived: Callable[[int], None]) -> None:
        for _ in range(hops):
            arrived(torch.frombuffer(self._socket.recv(copy=False).buffer, dtype=torch.uint8).nbytes)


class Gloo(Carrier):
    """torch.distributed's point-to-point send and recv over gloo, into a preallocated tensor."""

    def __init__(self, end: End) -> None:
        from torch import distributed

        self._distributed = distributed
        master = end.own if end.near else end.peer
        distributed.init_process_group(
            "gloo", init_method=f"tcp://{master}:{end.port}", rank=0 if end.near else 1, world_size=2
        )
        self._buffer = torch.empty(0 if end.near else end.limit_bytes, dtype=torch.uint8)
        self._nbytes = 0

    def send(self, tensor: torch.Tensor) -> None:
        self._distributed.send(tensor, 1)

    def expect(self, nbytes: int) -> None:
        self._nbytes = nbytes

    def serve(self, hops: int, arrived: Callable[[int], None]) -> None:
        view = self._buffer[: self._nbytes]
        for _ in range(hops):
            self._distributed.recv(view, 0)
            arrived(view.nbytes)


_arrivals: queue.SimpleQueue[torch.Tensor] = queue.SimpleQueue()


def _deliver(tensor: torch.Tensor) -> None:
    _arrivals.put(tensor)


class RawRpc(Carrier):
    """torch.distributed.rpc with nothing around it: a call whose argument is the tensor, taken by another thread."""

    def __init__(self, end: End, channel: str) -> None:
        from torch.distributed import rpc

        self._rpc = rpc
        master = end.own if end.near else end.peer
        # Both are private arguments; without them TensorPipe passes by the network between two namespaces.
        options = rpc.TensorPipeRpcBackendOptions(
            init_method=f"tcp://{master}:{end.port}", rpc_timeout=TIMEOUT_S, _transports=["uv"], _channels=[channel]
        )
        name, rank = ("near", 0) if end.near else ("far", 1)
        rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)  # type: ignore[no-untyped-call]
        self._pending: Any = None

    def send(self, tensor: torch.Tensor) -> None:
        self._pending = self._rpc.rpc_async("far", _deliver, args=(tensor,))

    def sent(self) -> None:
        self._pending.wait()

    def serve(self, hops: int, arrived: Callable[[int], None]) -> None:
        for _ in range(hops):
            arrived(_arrivals.get(timeout=TIMEOUT_S).nbytes)


class Rpc(Carrier):
    """This project's `rpc` backends: a call with the same header, and the tensor's memory."""

    def __init__(self, end: End, backend: str) -> None:
        place = Place(
            host="near" if end.near else "far",
            index=0 if end.near else 1,
            count=2,
            secret="00" * 32,  # in namespaces that nobody else is in
            facts={},
            listen_address=end.own,
            listen_port=0,
            incoming_limit_bytes=end.limit_bytes,
        )
        connector = RpcConnector(place, BACKENDS[backend], INTERFACE, "group of this benchmark", RpcProcess())
        peer = Peer(end.peer, end.exchange(connector.port))
        own_meeting = connector.rendezvous_port or 0
        their_meeting = end.exchange(own_meeting)
        meeting = Peer(end.own, own_meeting) if end.near else Peer(end.peer, their_meeting)
        self._receiver, self._sender = connector.open(peer, meeting)
        self._connector = connector
        self._free = threading.Event()

    def send(self, tensor: torch.Tensor) -> None:
        self._free.clear()
        self._sender.send(0, self._sender.serialize(tensor), TIMES, self._free.set)

    def sent(self) -> None:
        assert self._free.wait(TIMEOUT_S)

    def serve(self, hops: int, arrived: Callable[[int], None]) -> None:
        for _ in range(hops):
            batch = self._receiver.recv()
            assert batch is not None
            arrived(batch.tensor.nbytes)
            batch.release()


CARRIERS: dict[str, Callable[[End], Carrier]] = {
    "bare socket": Bare,
    "socket": Socket,
    "zeromq": ZeroMq,
    "gloo": Gloo,
    "raw rpc": lambda end: RawRpc(end, "basic"),
    "raw rpc-mpt_uv": lambda end: RawRpc(end, "mpt_uv"),
    "rpc": lambda end: Rpc(end, "rpc"),
    "rpc-mpt_uv": lambda end: Rpc(end, "rpc-mpt_uv"),
}


def use_data_interface() -> None:
    """Tell torch's libraries which interface is the data network's; both read these variables only."""
    os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = INTERFACE


def accept_one(address: str, port: int) -> socket.socket:
    """The next connection to a port."""
    listener = listen(address, port)
    listener.settimeout(TIMEOUT_S)
    sock, _ = listener.accept()
    listener.close()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(None)
    return sock


def connect_soon(address: str, port: int) -> socket.socket:
    """A connection to a port where somebody is about to listen."""
    give_up_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return connect(address, port, 5)
        except TransportError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.05)
