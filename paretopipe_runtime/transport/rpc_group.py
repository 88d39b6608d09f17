"""The only module that touches torch.distributed.rpc: forming a group of stages, calling into it, ending it.

RPC authenticates nobody and unpickles whatever its peers send: whoever reaches its ports can run code here. It is
for trusted networks only. The ports (TensorPipe's own, free ones on the data interface's address, 17 with `mpt_uv`,
and on the first stage's host the rendezvous) are open while a group lives, which is no longer than a run.

A group is formed once and serves cell after cell. The rendezvous is a TCPStore on a socket that we bind to the data
address ourselves: left alone, TCPStore listens on all addresses.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import socket
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from paretopipe_runtime.transport.connector import Peer
from paretopipe_runtime.transport.errors import TransportError

WORKER_THREADS = 4
"""What runs incoming calls; ours only put a message into a queue."""
FORM_S = 20.0
"""Forming takes a few dozen round trips."""
CALL_S = 600.0
"""How long a call may be under way. TensorPipe's default of 60 s would end cells with large activations on a slow
link; a peer that is gone is noticed in seconds by the connections that the stages keep beside RPC."""
CLOSE_S = 5.0
DRAIN_S = 10.0
FAREWELL_S = 1.0
_SCHEME = "paretopipe"
RESTART = "the controller restarts the workers after this; rerun the cell"

Done = Callable[[Any, Exception | None], None]


def available() -> bool:
    """Whether this torch has RPC with TensorPipe. Imports nothing."""
    return importlib.util.find_spec("torch.distributed.rpc") is not None and hasattr(torch._C, "_rpc_init")


def load_rpc() -> Any:
    """The module. Raises TransportError (`refused`) where this torch has none."""
    if not available():
        raise TransportError(
            "refused",
            f"torch {torch.__version__} has no torch.distributed.rpc",
            "use backend socket, or install a torch that has it (2.14 does) on all hosts",
        )
    return importlib.import_module("torch.distributed.rpc")


@dataclass(frozen=True)
class GroupSpec:
    """What a living group must agree in to be used again."""

    token: str
    """The controller's name for it."""
    rank: int
    world: int
    transports: tuple[str, ...]
    channels: tuple[str, ...]
    interface: str
    """The network interface that TensorPipe listens on and calls from."""
    address: str
    """The data address, which must be the interface's."""


class Group:
    """A group of RPC that this process is, or is about to be, a member of; `rpc` is torch's module."""

    def __init__(self, rpc: Any, spec: GroupSpec, group_id: str) -> None:
        self._rpc = rpc
        self.spec = spec
        self.id = group_id
        self.left = False
        """Whether a member has gone, so that the group cannot be used again."""
        self._members: list[Any] = []
        self._server: Any = None
        self._store: Any = None
        self._changed = threading.Condition()
        self._outstanding = 0

    def _name(self, rank: int) -> str:
        # A new name for every group: RPC counts its collective steps per set of names, and a member that was in
        # another group before would be at another count.
        return f"{self.id}-{rank}"

    def form(self, rendezvous: Peer, listener: socket.socket | None) -> None:
        """Join. Blocks until all members have."""
        from torch.distributed.rendezvous import register_rendezvous_handler

        spec, rpc = self.spec, self._rpc
        if listener is not None:
            self._server = _serve_store(rendezvous, listener)
        # A connection of its own for RPC, which never lets go of the store of its first group.
        store = self._store = _join_store(rendezvous)
        with contextlib.suppress(RuntimeError):  # registered by an earlier group
            register_rendezvous_handler(_SCHEME, _hand_over)  # type: ignore[no-untyped-call]
        _OFFERED.append((store, spec.rank, spec.world))
        # RPC keeps a process-wide count of groups in its keys, which differs between members with different pasts.
        rpc._init_counter = 0
        options = rpc.TensorPipeRpcBackendOptions(
            num_worker_threads=WORKER_THREADS,
            rpc_timeout=FORM_S,
            init_method=f"{_SCHEME}://",
            _transports=list(spec.transports),
            _channels=list(spec.channels),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about how RPC itself uses gloo
            rpc.init_rpc(self._name(spec.rank), rank=spec.rank, world_size=spec.world, rpc_backend_options=options)
        _LIVE[self.id] = self
        self._members = [rpc.get_worker_info(self._name(rank)) for rank in range(spec.world)]

    def check_address(self) -> None:
        """Raise TransportError if TensorPipe's address, which it takes from the interface, is not the data address."""
        key = f"rpc_prefix_0/addrs/{self._name(self.spec.rank)}"
        if self._store is None or not self._store.check([key]):
            return  # a torch that keeps it elsewhere
        url = self._store.get(key).decode()
        if self.spec.address not in url:
            raise TransportError(
                "refused",
                f"RPC listens on {url}, the first address of {self.spec.interface}, not on {self.spec.address}",
                "make the data address the interface's first one, or use backend socket",
            )

    def call(self, rank: int, function: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
        """Call a module-level function on a member; `done(result, error)` follows from another thread.

        Raises RuntimeError if the call cannot even begin.
        """
        with self._changed:
            self._outstanding += 1
        try:
            future = self._rpc.rpc_async(self._members[rank], function, args=args, timeout=CALL_S)
        except BaseException:
            self._one_less()
            raise

        def on_done(completed: Any) -> None:
            try:
                result, error = completed.value(), None
            except Exception as raised:  # noqa: BLE001 - RPC raises anything, also what the other side raised
                result, error = None, raised
            try:
                done(result, error)
            finally:
                self._one_less()

        future.add_done_callback(on_done)

    def _one_less(self) -> None:
        with self._changed:
            self._outstanding -= 1
            self._changed.notify_all()

    @property
    def outstanding(self) -> int:
        """Calls under way from here."""
        return self._outstanding

    def drain(self, limit_s: float) -> None:
        """Wait until nothing from here is under way, or for `limit_s`: then the rest travels before what is next."""
        with self._changed:
            self._changed.wait_for(lambda: self._outstanding == 0, limit_s)

    def say_farewell(self) -> None:
        """Tell the others that this member goes, so that none takes the group for alive."""
        for rank in range(self.spec.world):
            if rank != self.spec.rank:
                with contextlib.suppress(RuntimeError):  # it is gone itself
                    self.call(rank, farewell, (self.id,), lambda _result, _error: None)
        self.drain(FAREWELL_S)

    def shut_down(self) -> None:
        """End RPC here, without waiting for the others: nothing of a cell that counts is under way any more."""
        _LIVE.pop(self.id, None)
        self._rpc.shutdown(graceful=False)
        self._members = []
        self._server = self._store = None  # the rendezvous closes with it


# What RPC's callbacks find by name.
_LIVE: dict[str, Group] = {}
_OFFERED: list[tuple[Any, int, int]] = []


def _hand_over(_url: str, **_kwargs: object) -> Any:
    """The rendezvous handler: the store is there already."""
    yield _OFFERED.pop()


def farewell(group_id: str) -> None:
    """Called by a member that leaves."""
    group = _LIVE.get(group_id)
    if group is not None:
        group.left = True


def _serve_store(rendezvous: Peer, listener: socket.socket) -> Any:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    return TCPStore(
        rendezvous.address,
        rendezvous.port,
        is_master=True,
        timeout=timedelta(seconds=FORM_S),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def _join_store(rendezvous: Peer) -> Any:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    limit = timedelta(seconds=FORM_S)
    return TCPStore(rendezvous.address, rendezvous.port, is_master=False, timeout=limit, wait_for_workers=False)


def reason(error: Exception) -> str:
    """The first line of what RPC says, without where in TensorPipe it says so."""
    return (str(error).strip() or repr(error)).splitlines()[0].partition(" (this error originated")[0]
