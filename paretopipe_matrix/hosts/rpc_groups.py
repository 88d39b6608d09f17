"""Which hosts are joined in which RPC group, and getting rid of groups that may be broken.

A worker is in one group at a time: torch has one RPC agent per process. A group is named by a token, kept from cell
to cell as long as the same hosts use the same backend, and never used again once one of them has left it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from paretopipe_matrix.testbed import CellError, JsonObject

_CLOSE_S = 20.0


class Hosts(Protocol):
    """What is needed of `paretopipe_matrix.hosts.fleet.Fleet`."""

    def together(self, operation: str, params: Mapping[str, JsonObject], timeout_s: float) -> object:
        """Ask several hosts at once; raises CellError."""

    def restart(self, hosts: Sequence[str]) -> None:
        """Give hosts new workers; raises CellError."""


@dataclass(frozen=True)
class _Group:
    pipeline: str
    backend: str
    hosts: tuple[str, ...]
    token: str = field(default_factory=lambda: secrets.token_hex(16))


class RpcGroups:
    """The groups of one run. Lanes ask at the same time, about different hosts."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._of: dict[str, _Group] = {}
        self._lock = threading.Lock()

    def token(self, pipeline: str, hosts: Sequence[str], backend: str) -> str:
        """The token of the group of these hosts: the one that they are in, or a new one, after leaving others."""
        with self._lock:
            group = self._of.get(hosts[0])
            joined = group is not None and all(self._of.get(host) is group for host in hosts)
        if group and joined and (group.pipeline, group.backend, group.hosts) == (pipeline, backend, tuple(hosts)):
            return group.token
        self.leave(hosts)
        group = _Group(pipeline, backend, tuple(hosts))
        with self._lock:
            self._of |= dict.fromkeys(hosts, group)
        return group.token

    def leave(self, hosts: Iterable[str]) -> None:
        """End the groups that these hosts are in, in order. Where that cannot be done, their workers are replaced."""
        members = self._forget(hosts)
        if not members:
            return
        try:
            self._hosts.together("close_rpc", {host: {} for host in members}, _CLOSE_S)
        except CellError:
            self._replace(members)

    def replace(self, hosts: Sequence[str]) -> None:
        """After a failed cell: whatever its group left behind goes with the workers."""
        members = self._forget(hosts)
        self._replace(list(dict.fromkeys([*hosts, *members])))

    def _replace(self, hosts: Sequence[str]) -> None:
        # A host where not even that can be done fails the next cell, which says why.
        with suppress(CellError):
            self._hosts.restart(hosts)

    def _forget(self, hosts: Iterable[str]) -> list[str]:
        """Forget the groups of these hosts; all hosts that were in them."""
        with self._lock:
            groups = {self._of[host] for host in hosts if host in self._of}
            members = [host for group in groups for host in group.hosts]
            for host in members:
                self._of.pop(host, None)
        return members

    def close(self) -> None:
        """End all groups; the workers are about to end anyway."""
        with self._lock:
            members = self._of.keys()
            self._of = {}
        if members:
            with suppress(CellError):
                self._hosts.together("close_rpc", {host: {} for host in members}, _CLOSE_S)
