"""This process's one membership in RPC: kept from cell to cell, ended in bounded time, given up once it has failed."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from paretopipe_runtime.transport import rpc_group
from paretopipe_runtime.transport.connector import Peer
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.rpc_group import (
    CLOSE_S,
    DRAIN_S,
    FAREWELL_S,
    RESTART,
    Done,
    Group,
    GroupSpec,
    load_rpc,
    reason,
)


class RpcProcess:
    """This process's part in RPC: at most one group at a time.

    RPC in a process that has seen it fail is not to be trusted: `broken` then says why, and only a new process helps.
    """

    def __init__(self) -> None:
        self._group: Group | None = None
        self._interface: str | None = None
        self.broken: str | None = None

    def keep_or_end(self, spec: GroupSpec) -> str | None:
        """The id of a living group that fits `spec`; any other is ended first. Raises TransportError (`refused`)."""
        load_rpc()
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
            raise TransportError("refused", f"RPC in this worker is no longer usable: {self.broken}", RESTART)

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
        rpc = load_rpc()
        self._interface = spec.interface
        os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = spec.interface
        group = Group(rpc, spec, group_id)
        # RPC's own timeouts reach days here: it is left behind in its thread rather than waited for.
        forming = _Bounded(lambda: group.form(rendezvous, listener))
        try:
            if not forming.wait(rpc_group.FORM_S, check):
                raise TransportError("unreachable", f"no RPC group within {rpc_group.FORM_S:.0f} s", RESTART)
        except TransportError as error:
            self.broken = f"forming a group failed ({error.message})"
            raise
        if forming.error is not None:
            self.broken = f"forming a group failed ({reason(forming.error)})"
            raise TransportError("unreachable", f"no RPC group: {reason(forming.error)}", RESTART)
        self._group = group
        group.check_address()

    @property
    def group(self) -> Group:
        """The living group."""
        if self._group is None:
            raise TransportError("aborted", "the RPC group has been ended")
        return self._group

    def call(self, rank: int, function: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
        """Call a module-level function on a member without waiting for it.

        `done(result, None)` or `done(None, error)` follows, from a thread of RPC's. Raises TransportError (`peer-lost`)
        if the call cannot even begin.
        """

        group = self.group

        def on_done(result: Any, error: Exception | None) -> None:
            # Where a group is being left, calls of a cell that is over may fail: that is no fault.
            if error is not None and self._group is group and not group.left:
                self.broken = self.broken or reason(error)
            done(result, error)

        try:
            group.call(rank, function, args, on_done)
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
                group.drain(FAREWELL_S)
                group.say_farewell()
            ending = _Bounded(group.shut_down)
            if not ending.wait(CLOSE_S):
                self.broken = f"it did not end within {CLOSE_S:.0f} s"
            elif ending.error is not None:
                self.broken = f"ending it failed ({reason(ending.error)})"
        self._require_sound()


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
