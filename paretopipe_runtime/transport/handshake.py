"""Before a tensor flows, both ends prove that they hold this run's secret and would compute the same thing.

Each side sends a hello (nonce and facts as JSON, length-checked), then an HMAC-SHA256 (RFC 2104) over its role and
both hellos under the run's secret. Facts are looked at only after the peer is proven. A stranger cannot end a
run: the listening side turns it away and keeps waiting until its deadline.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import struct
import time
from collections.abc import Mapping

from paretopipe_runtime.transport.endpoint import recv_exactly, send_all, tune
from paretopipe_runtime.transport.errors import TransportError

PROTOCOL = "paretopipe/1"
_LENGTH = struct.Struct("<I")
_MAX_HELLO_BYTES = 8192
_MAC_BYTES = hashlib.sha256().digest_size
_ACCEPTED, _WRONG_SECRET = b"A", b"S"

Facts = Mapping[str, str]

# What a difference means and what to do about it, most telling first.
_REMEDIES = {
    "paretopipe": "install the same paretopipe on both hosts",
    "torch": "install the same torch on both hosts (versions are pinned in constraints.txt)",
    "model": "this is a fault of the controller: the hosts were told different models",
    "graph_hash": "the model traces differently: install the same torchvision (or the same model code) on both hosts",
    "weight_hash": "give both hosts the same weights (same file, or the same seed)",
}


def secret_bytes(secret: str) -> bytes:
    """The key behind a run's secret (hex, from the controller over the control channel)."""
    return bytes.fromhex(secret)


def _send_block(sock: socket.socket, block: bytes) -> None:
    send_all(sock, _LENGTH.pack(len(block)), block)


def _recv(sock: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    recv_exactly(sock, memoryview(buffer))
    return bytes(buffer)


def _recv_block(sock: socket.socket) -> bytes:
    (size,) = _LENGTH.unpack(_recv(sock, _LENGTH.size))
    if size > _MAX_HELLO_BYTES:
        raise TransportError("handshake", f"a hello of {size} B was announced: not a ParetoPipe peer")
    return _recv(sock, size)


def _hello(name: str, facts: Facts) -> bytes:
    return json.dumps(
        {"protocol": PROTOCOL, "nonce": secrets.token_hex(16), "host": name, "facts": dict(facts)}, sort_keys=True
    ).encode()


def _parse(block: bytes) -> tuple[str, dict[str, str]]:
    try:
        hello = json.loads(block)
        protocol, host, facts = hello["protocol"], str(hello["host"]), hello["facts"]
        facts = {str(key): str(value) for key, value in facts.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TransportError("handshake", "the peer's hello is not ParetoPipe's") from error
    if protocol != PROTOCOL:
        raise TransportError("handshake", f"peer {host} speaks {protocol!r}, this host {PROTOCOL!r}")
    return host, facts


def _mac(key: bytes, role: bytes, client_hello: bytes, server_hello: bytes) -> bytes:
    lengths = _LENGTH.pack(len(client_hello)) + _LENGTH.pack(len(server_hello))
    return hmac.new(key, role + lengths + client_hello + server_hello, hashlib.sha256).digest()


def compare_facts(own_name: str, own: Facts, peer_name: str, peer: Facts) -> None:
    """Raise TransportError naming the first fact that differs, both values, and the remedy."""
    for key in [*_REMEDIES, *sorted(set(own) | set(peer))]:
        if own.get(key) != peer.get(key):
            raise TransportError(
                "handshake",
                f"{key} differs: {own_name} has {own.get(key)}, {peer_name} has {peer.get(key)}",
                _REMEDIES.get(key, "the two ends were prepared for different cells; rerun the cell"),
            )


def connect_side(sock: socket.socket, secret: str, name: str, facts: Facts, timeout_s: float) -> str:
    """Handshake on a connection that this host opened; returns the peer's name.

    Raises TransportError if the peer does not hold the secret, refuses ours, or differs in a fact.
    """
    key = secret_bytes(secret)
    sock.settimeout(timeout_s)
    try:
        own = _hello(name, facts)
        _send_block(sock, own)
        peer = _recv_block(sock)
        send_all(sock, _mac(key, b"connect", own, peer))
        verdict = _recv(sock, 1)
        if verdict != _ACCEPTED:
            raise _wrong_secret(f"the peer at {_peer_address(sock)} refused {name}: it holds another secret")
        if not hmac.compare_digest(_recv(sock, _MAC_BYTES), _mac(key, b"listen", own, peer)):
            raise _wrong_secret(f"the peer at {_peer_address(sock)} does not hold this run's secret")
        peer_name, peer_facts = _parse(peer)
        compare_facts(name, facts, peer_name, peer_facts)
    finally:
        sock.settimeout(None)
    return peer_name


def _wrong_secret(message: str) -> TransportError:
    return TransportError(
        "handshake", message, "another run uses this port? end it, or set paretopipe_data_port: 0, and rerun the cell"
    )


def _peer_address(sock: socket.socket) -> str:
    try:
        host, port, *_ = sock.getpeername()
    except OSError:
        return "an unknown address"
    return f"{host} port {port}"


def listen_side(sock: socket.socket, secret: str, name: str, facts: Facts, timeout_s: float) -> str:
    """Handshake on one accepted connection; returns the peer's name. Raises TransportError as `connect_side` does."""
    key = secret_bytes(secret)
    sock.settimeout(timeout_s)
    try:
        peer = _recv_block(sock)
        own = _hello(name, facts)
        _send_block(sock, own)
        if not hmac.compare_digest(_recv(sock, _MAC_BYTES), _mac(key, b"connect", peer, own)):
            send_all(sock, _WRONG_SECRET)
            raise _StrangerError(f"a peer at {_peer_address(sock)} does not hold this run's secret")
        send_all(sock, _ACCEPTED, _mac(key, b"listen", peer, own))
        peer_name, peer_facts = _parse(peer)
        compare_facts(name, facts, peer_name, peer_facts)
    finally:
        sock.settimeout(None)
    return peer_name


class _StrangerError(TransportError):
    def __init__(self, message: str) -> None:
        super().__init__("handshake", message, _wrong_secret("").remedy)


def accept(
    listener: socket.socket, secret: str, name: str, facts: Facts, timeout_s: float
) -> tuple[socket.socket, str]:
    """Wait for the peer that holds the secret; returns its connection, tuned, and its name.

    Raises TransportError if it does not come within `timeout_s` (naming what came instead), or differs in a fact.
    """
    deadline = time.monotonic() + timeout_s
    turned_away: str | None = None
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            address, port, *_ = listener.getsockname()
            message = f"no peer connected to {name} ({address} port {port}) within {timeout_s:.0f} s"
            if turned_away:
                raise _wrong_secret(f"{message}; turned away: {turned_away}")
            raise TransportError("unreachable", message, "check the data addresses and firewalls of both hosts")
        listener.settimeout(remaining)
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            continue
        except OSError as error:
            raise TransportError("aborted", "stopped while waiting for a peer") from error
        tune(sock)
        try:
            # A stranger that says nothing must not use up the time of the peer that is expected.
            peer_name = listen_side(sock, secret, name, facts, min(5.0, remaining))
        except _StrangerError as error:
            turned_away = error.message
            sock.close()
        except TransportError as error:
            sock.close()
            if error.remedy is not None:
                raise
            turned_away = error.message
        else:
            return sock, peer_name
