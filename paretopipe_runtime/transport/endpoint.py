"""TCP endpoints on the data network: listening, connecting, and options that every data socket gets.

Keepalive and TCP_USER_TIMEOUT (tcp(7)) find a peer that vanished without a word in seconds, where a plain
socket would wait for minutes. Buffer sizes are left to the kernel's auto-tuning.
"""

from __future__ import annotations

import errno
import socket

from paretopipe_runtime.transport.errors import TransportError

USER_TIMEOUT_S = 10.0


def tune(sock: socket.socket) -> None:
    """Set the options of a connected data socket."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT_S * 1000))


def listen(address: str, port: int = 0) -> socket.socket:
    """A socket that listens on the data address only; port 0 takes any free one.

    Raises TransportError if the port is taken or the address is not this host's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(128)  # a hop may have many streams
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise TransportError(
                "port-busy",
                f"port {port} on {address} is in use",
                f"end what listens there (ss -ltnp 'sport = :{port}') or set paretopipe_data_port: 0",
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise TransportError(
                "unreachable",
                f"{address} is not an address of this host",
                "set paretopipe_data_address to one that `ip -brief address` shows there",
            ) from error
        raise TransportError("unreachable", f"cannot listen on {address} port {port}: {error.strerror}") from error
    return sock


def connect(address: str, port: int, timeout_s: float) -> socket.socket:
    """A tuned connection to a listening peer.

    Raises TransportError if nobody answers there within `timeout_s`.
    """
    try:
        sock = socket.create_connection((address, port), timeout=timeout_s)
    except OSError as error:
        reason = error.strerror or "timed out" if not isinstance(error, TimeoutError) else "timed out"
        raise TransportError(
            "unreachable",
            f"no connection to {address} port {port}: {reason}",
            "check paretopipe_data_address of both hosts, routes and firewalls",
        ) from error
    tune(sock)
    sock.settimeout(None)
    return sock


def recv_at_least(sock: socket.socket, view: memoryview, least: int) -> int:
    """Read into `view` until `least` bytes are there; returns how many came, which may be more.

    Raises TransportError (`peer-lost`) if the connection ends first.
    """
    # MSG_WAITALL (recv(2)): one wake-up for a whole payload instead of one per arriving piece.
    flags = socket.MSG_WAITALL if least == len(view) else 0
    done = 0
    while done < least:
        try:
            count = sock.recv_into(view[done:] if done else view, 0, flags)
        except OSError as error:
            raise TransportError("peer-lost", f"the connection broke: {error.strerror or error}") from error
        if count == 0:
            raise TransportError("peer-lost", "the peer closed the connection in the middle of the stream")
        done += count
    return done


def recv_exactly(sock: socket.socket, view: memoryview) -> None:
    """Fill `view` from the socket without allocating. Raises TransportError as `recv_at_least` does."""
    recv_at_least(sock, view, len(view))


def send_all(sock: socket.socket, *parts: bytes | memoryview) -> None:
    """Send the parts as one stream, gathered by the kernel (sendmsg), without joining them in memory.

    Raises TransportError (`peer-lost`) if the peer is gone.
    """
    try:
        sent = sock.sendmsg(parts)
        if sent == sum(map(len, parts)):
            return
        views = [memoryview(part) for part in parts]
        while views:
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if views:
                views[0] = views[0][sent:]
                sent = sock.sendmsg(views)
    except OSError as error:
        raise TransportError("peer-lost", f"the connection broke: {error.strerror or error}") from error
