"""Who gets in: only a peer with the secret, and only if it would compute the same thing."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from paretopipe_runtime.transport.endpoint import connect, listen
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.handshake import accept, connect_side

FACTS = {
    "paretopipe": "0.1.0",
    "torch": "2.14.1",
    "model": "alexnet",
    "graph_hash": "g",
    "weight_hash": "w",
    "cuts": "3",
    "hop": "0->1",
}


def shake(client_secret: str, server_secret: str, client_facts: dict[str, str], server_facts: dict[str, str]) -> tuple:
    """Outcome of both sides: the peer's name, or the error."""
    listener = listen("127.0.0.1")
    port = listener.getsockname()[1]

    def server() -> object:
        try:
            sock, name = accept(listener, server_secret, "server", server_facts, 1.0)
        except TransportError as error:
            return error
        sock.close()
        return name

    def client() -> object:
        sock = connect("127.0.0.1", port, 2.0)
        try:
            return connect_side(sock, client_secret, "edge", client_facts, 2.0)
        except TransportError as error:
            return error
        finally:
            sock.close()

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(client), pool.submit(server)
        result = one.result(), two.result()
    listener.close()
    return result


def test_peers_with_the_same_secret_and_facts_meet() -> None:
    secret = secrets.token_hex(32)
    assert shake(secret, secret, FACTS, FACTS) == ("server", "edge")


def test_wrong_secret_is_refused_on_both_sides() -> None:
    client, server = shake(secrets.token_hex(32), secrets.token_hex(32), FACTS, FACTS)
    assert isinstance(client, TransportError)
    assert isinstance(server, TransportError)
    assert client.kind == server.kind == "handshake"
    assert "another secret" in client.message
    assert "does not hold this run's secret" in server.message
    assert server.remedy


@pytest.mark.parametrize("key", ["paretopipe", "torch", "graph_hash", "weight_hash", "cuts"])
def test_a_differing_fact_is_named_with_both_values_and_a_remedy(key: str) -> None:
    secret = secrets.token_hex(32)
    client, server = shake(secret, secret, FACTS | {key: "other"}, FACTS)
    for error in (client, server):
        assert isinstance(error, TransportError)
        assert key in error.message
        assert "edge has other" in error.message
        assert f"server has {FACTS[key]}" in error.message
        assert error.remedy


def test_strangers_do_not_keep_the_peer_out() -> None:
    listener = listen("127.0.0.1")
    port = listener.getsockname()[1]
    secret = secrets.token_hex(32)

    def strangers_then_peer() -> str:
        for greeting in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 64, b""):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(greeting)
        sock = connect("127.0.0.1", port, 2.0)
        try:
            return connect_side(sock, secret, "edge", FACTS, 5.0)
        finally:
            sock.close()

    with ThreadPoolExecutor(1) as pool:
        peer = pool.submit(strangers_then_peer)
        sock, name = accept(listener, secret, "server", FACTS, 10.0)
        assert peer.result() == "server"
    assert name == "edge"
    sock.close()
    listener.close()


def test_nobody_comes() -> None:
    listener = listen("127.0.0.1")
    start_s = time.monotonic()
    with pytest.raises(TransportError, match="no peer connected to server") as caught:
        accept(listener, secrets.token_hex(32), "server", FACTS, 0.2)
    assert caught.value.kind == "unreachable"
    assert time.monotonic() - start_s < 5
    listener.close()


def test_a_busy_port_names_port_and_remedy() -> None:
    with listen("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            listen("127.0.0.1", port)
    assert caught.value.kind == "port-busy"
    assert "paretopipe_data_port" in str(caught.value.remedy)


def test_an_address_of_another_host_cannot_be_listened_on() -> None:
    with pytest.raises(TransportError, match="not an address of this host"):
        listen("192.0.2.1")


def test_nobody_listens() -> None:
    with listen("127.0.0.1") as closed_soon:
        port = closed_soon.getsockname()[1]
    with pytest.raises(TransportError, match=f"no connection to 127.0.0.1 port {port}") as caught:
        connect("127.0.0.1", port, 1.0)
    assert caught.value.kind == "unreachable"


def test_closing_the_listener_ends_the_wait() -> None:
    listener = listen("127.0.0.1")
    threading.Timer(0.1, listener.shutdown, args=(socket.SHUT_RDWR,)).start()
    with pytest.raises(TransportError) as caught:
        accept(listener, secrets.token_hex(32), "server", FACTS, 10.0)
    assert caught.value.kind == "aborted"
    listener.close()
