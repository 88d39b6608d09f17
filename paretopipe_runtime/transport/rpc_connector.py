"""Channels over RPC: the same proven ring of connections as sockets have, and a group of RPC beside it.

RPC itself neither proves who calls nor notices in time that somebody has left. So the ring's handshake comes first,
and its connections stay open and silent during the cell: when one ends, the cell fails at once.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from paretopipe_runtime.transport.backends import Backend
from paretopipe_runtime.transport.channel import Receiver, Sender, shut_down
from paretopipe_runtime.transport.connector import Neighbour, Peer, Place, Ring
from paretopipe_runtime.transport.endpoint import listen
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.rpc_channel import Call, Done, RpcReceiver, RpcSender
from paretopipe_runtime.transport.rpc_group import CALL_S, WORKER_THREADS, GroupSpec, reason
from paretopipe_runtime.transport.rpc_inbox import Inbox, Relay, deliver, hop_token, register, relay, unregister
from paretopipe_runtime.transport.rpc_process import RpcProcess

MPT_UV_LANES = 16
"""What PyTorch gives TensorPipe's `mpt_uv` channel (torch/csrc/distributed/rpc/tensorpipe_agent.cpp, kNumUvThreads)."""
_NO_GROUP = "none"


class RpcConnector:
    """One cell's channels over the group of `process`, formed if there is none that fits.

    `interface` is the data interface's name; `group` is the controller's token for the group. The constructor raises
    TransportError (`refused`) where RPC cannot be had.
    """

    def __init__(
        self, place: Place, backend: Backend, interface: str | None, group: str | None, process: RpcProcess
    ) -> None:
        if place.egress is not None:
            raise TransportError(
                "refused", "the link model cannot shape RPC", "use backend socket, or hosts whose network is shaped"
            )
        self._backend = backend
        self._process = process
        self._spec = GroupSpec(
            token=group or place.secret,
            rank=place.index,
            world=place.count,
            transports=backend.transports,
            channels=backend.channels,
            interface=_interface(place.listen_address, interface),
            address=place.listen_address,
        )
        self._kept = process.keep_or_end(self._spec)
        # All or none have a group: told by the handshake, because who has one would wait for who has none.
        self._place = replace(place, streams=1, facts=place.facts | {"rpc_group": self._kept or _NO_GROUP})
        self._inbox = Inbox(place.incoming_limit_bytes)
        self._relays: list[Relay] = []
        self._ring = Ring(self._place)
        self._meeting: socket.socket | None = None
        if place.index == 0 and self._kept is None:
            self._meeting = listen(place.listen_address)
            self._ring.on_close(partial(shut_down, self._meeting))

    @property
    def port(self) -> int:
        """The port of the ring's listening socket."""
        return self._ring.port

    @property
    def rendezvous_port(self) -> int | None:
        """Where a new group meets; only at the first stage, and only if one has to be formed."""
        return None if self._meeting is None else int(self._meeting.getsockname()[1])

    def describe(self) -> dict[str, Any]:
        """The options that TensorPipe was given; `streams` are the TCP connections that share a tensor."""
        return {
            "streams": MPT_UV_LANES if "mpt_uv" in self._spec.channels else 1,
            "tensorpipe": {
                "transports": list(self._spec.transports),
                "channels": list(self._spec.channels),
                "interface": self._spec.interface,
                "num_worker_threads": WORKER_THREADS,
                "rpc_timeout_s": CALL_S,
            },
        }

    def open(self, peer: Peer, rendezvous: Peer | None = None) -> tuple[Receiver, Sender]:
        """Prove the ring, form the group if there is none, and connect both ways. Raises TransportError."""
        place = self._place
        self._accept(hop_token(place.secret, place.before, place.index), self._inbox)
        if self._by_hub and place.index == 0:
            for index in range(1, place.count - 1):
                passing = Relay(partial(self._pass_on, index + 1))
                self._accept(hop_token(place.secret, index, index + 1), passing)
                self._relays.append(passing)
        (before,), (after,) = self._ring.open(peer)
        sender = RpcSender(self._call(), after.host, self._inbox.fail)
        _Watch({before: lambda: self._inbox.ended, after: lambda: sender.ended}, self._inbox.fail)
        if self._kept is None:
            self._form(rendezvous)
        return RpcReceiver(self._inbox), sender

    @property
    def _by_hub(self) -> bool:
        return self._backend.route == "hub"

    def _accept(self, token: str, end: Inbox | Relay) -> None:
        register(token, end)
        self._ring.on_close(partial(unregister, token))

    def _form(self, rendezvous: Peer | None) -> None:
        if rendezvous is None:
            raise TransportError("refused", "no rendezvous was given, and there is no RPC group yet", "rerun the cell")
        # Named by what its members share and nobody else knows.
        group_id = hop_token(self._place.secret, 0, 0)
        meeting, self._meeting = self._meeting, None
        self._process.form(self._spec, group_id, rendezvous, meeting, self._inbox.check)

    def _call(self) -> Call:
        place = self._place
        token = hop_token(place.secret, place.index, place.after)
        through = self._by_hub and 0 not in (place.index, place.after)
        function, rank = (relay, 0) if through else (deliver, place.after)

        def call(sequence: int, raw_header: bytes, payload: torch.Tensor, done: Done) -> None:
            self._process.call(rank, function, (token, sequence, raw_header, payload), done)

        return call

    def _pass_on(self, rank: int, token: str, sequence: int, raw_header: bytes, payload: torch.Tensor) -> None:
        def done(refusal: str | None, error: Exception | None) -> None:
            said = reason(error) if error is not None else refusal
            if said is not None:
                self._inbox.fail(TransportError("peer-lost", f"passing on to stage {rank + 1} by RPC failed: {said}"))

        try:
            self._process.call(rank, deliver, (token, sequence, raw_header, payload), done)
        except TransportError as error:
            self._inbox.fail(error)

    def close(self) -> None:
        """Close the ring and forget the cell; the group lives on."""
        self._inbox.fail(TransportError("aborted", "stopped while waiting for a batch"))
        self._ring.close()


def _interface(address: str, name: str | None) -> str:
    if name is None and ipaddress.ip_address(address).is_loopback:
        return "lo"
    if name is None:
        raise TransportError(
            "refused",
            f"RPC needs the name of the interface that has {address}, which this host could not find out",
            "use backend socket, or a paretopipe_data_address that `ip -brief address` shows there",
        )
    return name


class _Watch:
    """Watches silent connections: the end of one is an error, unless its stream had ended (`may_end`) before."""

    def __init__(
        self, neighbours: Mapping[Neighbour, Callable[[], bool]], on_error: Callable[[TransportError], None]
    ) -> None:
        # Descriptors of its own: the ring may close its ones, and their numbers be used anew, while this one polls.
        self._watched = {one.sock.dup(): (one.host, may_end) for one, may_end in neighbours.items()}
        self._on_error = on_error
        threading.Thread(target=self._watch, name="rpc-watch", daemon=True).start()

    def _watch(self) -> None:
        poll = select.poll()
        by_number = {sock.fileno(): sock for sock in self._watched}
        for number in by_number:
            poll.register(number, select.POLLIN | select.POLLRDHUP)
        while by_number:
            for number, _ in poll.poll():
                poll.unregister(number)
                sock = by_number.pop(number)
                host, may_end = self._watched[sock]
                sock.close()
                if not may_end():
                    lost = f"the connection with {host} ended in the middle of the stream"
                    self._on_error(TransportError("peer-lost", lost))
