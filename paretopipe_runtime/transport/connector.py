"""How a stage gets its two channels: from the stage before it, and to the one after it (after the last: the driver).

Stages form a ring. All but the driver wait for their predecessor before they call their successor, so no two wait
for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from paretopipe_runtime.transport.channel import Receiver, Sender, SocketReceiver, SocketSender, shut_down
from paretopipe_runtime.transport.endpoint import connect, listen
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.handshake import accept, connect_side
from paretopipe_runtime.transport.link_model import LinkSpec

HANDSHAKE_S = 10.0


@dataclass(frozen=True)
class Place:
    """A stage's place in the ring: stage `index` of `count` on `host`, and what may cross its connections."""

    host: str
    index: int
    count: int
    secret: str
    facts: dict[str, str]
    listen_address: str
    listen_port: int
    incoming_limit_bytes: int
    """Largest payload from the stage before; at the driver, from the last stage."""
    egress: LinkSpec | None = None

    @property
    def before(self) -> int:
        """Index of the stage that sends to this one."""
        return (self.index - 1) % self.count

    @property
    def after(self) -> int:
        """Index of the stage that this one sends to."""
        return (self.index + 1) % self.count


@dataclass(frozen=True)
class Peer:
    """Where the next stage (after the last one: the driver) listens."""

    address: str
    port: int


class Connector(Protocol):
    """Makes the channels of one stage for one cell. `close` may come from another thread at any time."""

    @property
    def port(self) -> int:
        """Where the stage before this one finds it."""

    def describe(self) -> dict[str, Any]:
        """What a record says about how activations travelled (`transport`)."""

    def open(self, peer: Peer) -> tuple[Receiver, Sender]:
        """Connect both ways. Raises TransportError."""

    def close(self) -> None:
        """End everything, waking threads that are blocked in it; safe to call twice."""


class SocketConnector:
    """One TCP connection per hop, proven by the handshake."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._closed = False
        self._closers: list[Callable[[], None]] = []
        self._listener = listen(place.listen_address, place.listen_port)
        self._on_close(partial(shut_down, self._listener))

    @property
    def port(self) -> int:
        """The port of the listening socket."""
        return int(self._listener.getsockname()[1])

    def describe(self) -> dict[str, Any]:
        """One stream per hop."""
        return {"streams": 1}

    def open(self, peer: Peer) -> tuple[Receiver, Sender]:
        """Connect both ways. Raises TransportError."""
        if self._place.index == 0:
            sender = self._connect(peer)
            return self._accept(), sender
        receiver = self._accept()
        return receiver, self._connect(peer)

    def _accept(self) -> SocketReceiver:
        place = self._place
        facts = place.facts | {"hop": f"{place.before}->{place.index}"}
        sock, _ = accept(self._listener, place.secret, place.host, facts, HANDSHAKE_S)
        receiver = SocketReceiver(sock, place.incoming_limit_bytes)
        self._on_close(receiver.close)
        return receiver

    def _connect(self, peer: Peer) -> SocketSender:
        place = self._place
        sock = connect(peer.address, peer.port, HANDSHAKE_S)
        self._on_close(partial(shut_down, sock))
        facts = place.facts | {"hop": f"{place.index}->{place.after}"}
        connect_side(sock, place.secret, place.host, facts, HANDSHAKE_S)
        sender = SocketSender(sock, place.egress)
        self._on_close(sender.close)
        return sender

    def _on_close(self, closer: Callable[[], None]) -> None:
        with self._lock:
            if not self._closed:
                self._closers.append(closer)
                return
        closer()
        raise TransportError("aborted", "stopped while connecting")

    def close(self) -> None:
        """Close all sockets."""
        with self._lock:
            self._closed = True
            closers, self._closers = self._closers, []
        for closer in reversed(closers):
            closer()
