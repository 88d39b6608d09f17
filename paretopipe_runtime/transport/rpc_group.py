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
import os
import socket
import threading
import time
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
_FAREWELL_S = 1.0
_SCHEME = "paretopipe"
_RESTART = "the controller restarts the workers after this; rerun the cell"

Done = Callable[[Any, Exception | None], None]


def available() -> bool:
    """Whether this torch has RPC with TensorPipe. Imports nothing."""
    return importlib.util.find_spec("torch.distributed.rpc") is not None and hasattr(torch._C, "_rpc_init")


def _rpc() -> Any:
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


class RpcProcess:
    """This process's part in RPC: at most one group at a time.

    RPC in a process that has seen it fail is not to be trusted: `broken` then says why, and only a new process helps.
    """

    def __init__(self) -> None:
        self._group: _Group | None = None
        self._interface: str | None = None
        self.broken: str | None = None

    def keep_or_end(self, spec: GroupSpec) -> str | None:
        """The id of a living group that fits `spec`; any other is ended first. Raises TransportError (`refused`)."""
        _rpc()
        if self.broken is None and self._interface not in (None, spec.interface):
            # TensorPipe looks TP_SOCKET_IFNAME up once per process.
            self.broken = f"it used {self._interface} and cannot change to {spec.interface}"
        self._require_sound()
        group = self._group
        if group is not None and group.spec == spec and not group.left:
            group.drain(DRAIN_S)
            return group.id
        self.close()
        return None

    def _require_sound(self) -> None:
        if self.broken is not None:
            raise TransportError("refused", f"RPC in this worker is no longer usable: {self.broken}", _RESTART)

    def form(
        self,
        spec: GroupSpec,
        group_id: str,
        rendezvous: Peer,
        listener: socket.socket | None,
        check: Callable[[], None],
    ) -> None:
        """Form a new group with all its members at once; rank 0 gives the rendezvous by its `listener`.

        `check` is called while waiting and may raise. Raises TransportError, and is broken, if the group does not
        come about within FORM_S.
        """
        rpc = _rpc()
        self._interface = spec.interface
        os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = spec.interface
        group = _Group(rpc, spec, group_id)
        # RPC's own timeouts reach days here: it is left behind in its thread rather than waited for.
        forming = _Bounded(lambda: group.form(rendezvous, listener))
        try:
            if not forming.wait(FORM_S, check):
                raise TransportError("unreachable", f"no RPC group within {FORM_S:.0f} s", _RESTART)
        except TransportError as error:
            self.broken = f"forming a group failed ({error.message})"
            raise
        if forming.error is not None:
            self.broken = f"forming a group failed ({reason(forming.error)})"
            raise TransportError("unreachable", f"no RPC group: {reason(forming.error)}", _RESTART)
        self._group = group
        group.check_address()

    @property
    def group(self) -> _Group:
        """The living group."""
        if self._group is None:
            raise TransportError("aborted", "the RPC group has been ended")
        return self._group

    def call(self, rank: int, function: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
        """Call a module-level function on a member without waiting for it.

        `done(result, None)` or `done(None, error)` follows, from a thread of RPC's. Raises TransportError (`peer-lost`)
        if the call cannot even begin.
        """

        def on_done(result: Any, error: Exception | None) -> None:
            if error is not None:
                self.broken = self.broken or reason(error)
            done(result, error)

        try:
            self.group.call(rank, function, args, on_done)
        except RuntimeError as error:
            self.broken = self.broken or reason(error)
            raise TransportError("peer-lost", f"RPC to stage {rank + 1} failed: {reason(error)}") from error

    def close(self) -> None:
        """End the group, if there is one, in bounded time.

        Raises TransportError (`refused`) where RPC is broken, before or by this: only a new process ends it then.
        """
        group, self._group = self._group, None
        if group is not None:
            if self.broken is None and not group.left:
                group.drain(_FAREWELL_S)
                group.say_farewell()
            ending = _Bounded(group.shut_down)
            if not ending.wait(CLOSE_S):
                self.broken = f"it did not end within {CLOSE_S:.0f} s"
            elif ending.error is not None:
                self.broken = f"ending it failed ({reason(ending.error)})"
        self._require_sound()


class _Group:
    """A group that is, or is about to be, alive."""

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
        """See RpcProcess.call. Raises RuntimeError."""
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
        self.drain(_FAREWELL_S)

    def shut_down(self) -> None:
        """End RPC here, without waiting for the others: nothing of a cell that counts is under way any more."""
        _LIVE.pop(self.id, None)
        self._rpc.shutdown(graceful=False)
        self._members = []
        self._server = self._store = None  # the rendezvous closes with it


# What RPC's callbacks find by name.
_LIVE: dict[str, _Group] = {}
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


class _Bounded:
    """Runs something that may hang in a thread of its own."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.error: Exception | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, args=(action,), name="rpc-bounded", daemon=True).start()

    def _run(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - told by whoever waits
            self.error = error
        finally:
            self._done.set()

    def wait(self, limit_s: float, check: Callable[[], None] = lambda: None) -> bool:
        """Whether it ended within `limit_s`; `check` is called now and then and may raise."""
        deadline_s = time.monotonic() + limit_s
        while not self._done.wait(0.05):
            check()
            if time.monotonic() > deadline_s:
                return False
        return True


def reason(error: Exception) -> str:
    """The first line of what RPC says, without where in TensorPipe it says so."""
    return (str(error).strip() or repr(error)).splitlines()[0].partition(" (this error originated")[0]
