"""How a stage gets its two channels: from the stage before it, and to the one after it (after the last: the driver).

Stages form a ring. All but the driver wait for their predecessor before they call their successor, so no two wait
for each other.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from paretopipe_runtime.transport.channel import Receiver, Sender, SocketReceiver, SocketSender, shut_down
from paretopipe_runtime.transport.endpoint import connect, listen, recv_exactly, send_all
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.handshake import accept, connect_side
from paretopipe_runtime.transport.link_model import LinkSpec
from paretopipe_runtime.transport.streams import StripedReceiver, StripedSender

HANDSHAKE_S = 10.0

_T = TypeVar("_T")


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
    streams: int = 1
    """TCP connections per hop of the socket backend, the same at all stages."""
    page_locked: bool = False
    """Whether payloads over sockets are received where a GPU fetches them without a copy in between."""

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
    """Where a stage listens: the next one (after the last one: the driver), or the driver's rendezvous."""

    address: str
    port: int


class Connector(Protocol):
    """Makes the channels of one stage for one cell. `close` may come from another thread at any time."""

    @property
    def port(self) -> int:
        """Where the stage before this one finds it."""

    @property
    def rendezvous_port(self) -> int | None:
        """Where all stages of a group meet, if this stage is their meeting point and there is need of one."""

    def describe(self) -> dict[str, Any]:
        """What a record says about how activations travelled (`transport`)."""

    def open(self, peer: Peer, rendezvous: Peer | None = None) -> tuple[Receiver, Sender]:
        """Connect both ways. Raises TransportError."""

    def close(self) -> None:
        """End everything, waking threads that are blocked in it; safe to call twice."""


class Neighbour(NamedTuple):
    """A proven connection, and the name of the host at its other end."""

    sock: socket.socket
    host: str


class Ring:
    """A stage's connections with both its neighbours, each proven by the handshake. `close` ends them."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._closed = False
        self._closers: list[Callable[[], None]] = []
        self._listener = listen(place.listen_address, place.listen_port)
        self.on_close(partial(shut_down, self._listener))

    @property
    def port(self) -> int:
        """The port of the listening socket."""
        return int(self._listener.getsockname()[1])

    def open(self, peer: Peer) -> tuple[list[Neighbour], list[Neighbour]]:
        """The connections from the stage before and to the stage after, which is at `peer`. Raises TransportError."""
        if self._place.index == 0:
            after = self._connect_all(peer)
            return self._accept_all(), after
        before = self._accept_all()
        return before, self._connect_all(peer)

    def _accept_all(self) -> list[Neighbour]:
        place = self._place
        facts = place.facts | {"hop": f"{place.before}->{place.index}", "streams": str(place.streams)}

        def accept_one(_index: int) -> tuple[int, Neighbour]:
            neighbour = Neighbour(*accept(self._listener, place.secret, place.host, facts, HANDSHAKE_S))
            self.on_close(partial(shut_down, neighbour.sock))
            return (_told_index(neighbour.sock) if place.streams > 1 else 0), neighbour

        found = dict(self._together(accept_one))
        if sorted(found) != list(range(place.streams)):
            raise TransportError("handshake", f"{place.streams} connections came, numbered {sorted(found)}")
        return [found[index] for index in range(place.streams)]

    def _connect_all(self, peer: Peer) -> list[Neighbour]:
        place = self._place
        facts = place.facts | {"hop": f"{place.index}->{place.after}", "streams": str(place.streams)}

        def connect_one(index: int) -> Neighbour:
            sock = connect(peer.address, peer.port, HANDSHAKE_S)
            self.on_close(partial(shut_down, sock))
            neighbour = Neighbour(sock, connect_side(sock, place.secret, place.host, facts, HANDSHAKE_S))
            if place.streams > 1:
                send_all(sock, bytes([index]))
            return neighbour

        return self._together(connect_one)

    def _together(self, make: Callable[[int], _T]) -> list[_T]:
        """Make all connections of a hop at once: handshakes take round trips. If one fails, `close` ends the rest."""
        if self._place.streams == 1:
            return [make(0)]
        pool = ThreadPoolExecutor(self._place.streams, "handshake")
        made = [pool.submit(make, index) for index in range(self._place.streams)]
        pool.shutdown(wait=False)
        return [one.result() for one in made]

    def on_close(self, closer: Callable[[], None]) -> None:
        """Have something closed with the ring, the newest first. Raises TransportError if it is closed already."""
        with self._lock:
            if not self._closed:
                self._closers.append(closer)
                return
        closer()
        raise TransportError("aborted", "stopped while connecting")

    def close(self) -> None:
        """Close all that was opened; safe to call twice, from any thread."""
        with self._lock:
            self._closed = True
            closers, self._closers = self._closers, []
        for closer in reversed(closers):
            closer()


def _told_index(sock: socket.socket) -> int:
    told = bytearray(1)
    sock.settimeout(HANDSHAKE_S)
    recv_exactly(sock, memoryview(told))
    sock.settimeout(None)
    return told[0]


class SocketConnector:
    """One TCP connection per hop, or several (see `streams`), each proven by the handshake.

    The constructor raises TransportError (`refused`) for several behind the link model, which models one.
    """

    rendezvous_port = None

    def __init__(self, place: Place) -> None:
        if place.egress is not None and place.streams > 1:
            raise TransportError("refused", "the link model models one connection per hop", "use streams: 1")
        self._place = place
        self._ring = Ring(place)

    @property
    def port(self) -> int:
        """The port of the listening socket."""
        return self._ring.port

    def describe(self) -> dict[str, Any]:
        """The TCP connections of a hop; a payload takes one of them or several."""
        return {"streams": self._place.streams}

    def open(self, peer: Peer, rendezvous: Peer | None = None) -> tuple[Receiver, Sender]:
        """Connect both ways. Raises TransportError."""
        del rendezvous
        place = self._place
        before, after = ([one.sock for one in side] for side in self._ring.open(peer))
        receiver: SocketReceiver
        sender: SocketSender
        if place.streams == 1:
            receiver = SocketReceiver(before[0], place.incoming_limit_bytes, page_locked=place.page_locked)
            sender = SocketSender(after[0], place.egress)
        else:
            receiver = StripedReceiver(before, place.incoming_limit_bytes, page_locked=place.page_locked)
            sender = StripedSender(after)
        self._ring.on_close(receiver.close)
        self._ring.on_close(sender.close)
        return receiver, sender

    def close(self) -> None:
        """Close all sockets."""
        self._ring.close()
