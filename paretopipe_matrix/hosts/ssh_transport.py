"""A connection to a host, through its jump hosts, with every server's key checked."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

import paramiko

from paretopipe_matrix.hosts.connection import SshTarget
from paretopipe_matrix.hosts.ssh_hops import Hop, hops
from paretopipe_matrix.hosts.ssh_keys import authenticate, check_host_key, known_keys, prefer_known_types
from paretopipe_matrix.testbed import CellError

CONNECT_S = 10.0
_PULSE_EVERY_S = 5.0
PATIENCE_S = 10.0
"""How long a server may leave a keepalive unanswered before the connection counts as lost."""

# What paramiko's threads log is also raised, and worded there; without a handler Python would print it.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Route:
    """An authenticated connection to a host. Raises CellError saying which server on the way failed, and why."""

    def __init__(self, host: str, target: SshTarget) -> None:
        self._host = host
        self._opened_at_s = time.monotonic()
        self._open: list[paramiko.Transport | _Proxy] = []
        self._hops = hops(host, target)
        self._pulse: _Pulse | None = None
        try:
            for index, hop in enumerate(self._hops):
                self.transport = self._login(index, hop)
            self._pulse = _Pulse(self.transport)
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self._hops[-1])

    @property
    def age_s(self) -> float:
        """Seconds since the connection was begun."""
        return time.monotonic() - self._opened_at_s

    @property
    def unanswered(self) -> bool:
        """Whether it was given up because the host no longer answered keepalives."""
        return self._pulse is not None and self._pulse.lost

    def close(self) -> None:
        """Close all connections, the last one first."""
        if self._pulse is not None:
            self._pulse.stop()
        for opened in reversed(self._open):
            opened.close()

    def _login(self, index: int, hop: Hop) -> paramiko.Transport:
        known = known_keys(self._host, hop)
        stream, proxy = self._stream(index, hop)
        try:
            transport = paramiko.Transport(stream)
        except (paramiko.SSHException, OSError) as error:
            raise self._unreachable(hop, str(error)) from error
        self._open.append(transport)
        transport.banner_timeout = transport.auth_timeout = CONNECT_S
        prefer_known_types(transport, known)
        try:
            transport.start_client(timeout=CONNECT_S)
            key = transport.get_remote_server_key()
        except (paramiko.SSHException, OSError, EOFError) as error:
            why = (proxy.said() if proxy else "") or f"no ssh server answers there ({str(error) or 'it hung up'})"
            raise self._unreachable(hop, why) from error
        check_host_key(self._host, hop, key, known, jumped=index > 0 or proxy is not None)
        authenticate(self._host, hop, transport)
        return transport

    def _stream(self, index: int, hop: Hop) -> tuple[socket.socket | paramiko.Channel, _Proxy | None]:
        """What the next transport runs on: a channel of the one before, a proxy command, or TCP."""
        if index > 0:
            return self._through(self._hops[index - 1], hop), None
        if hop.proxy_command:
            proxy = _Proxy(hop.proxy_command)
            self._open.append(proxy)
            return proxy.socket, proxy
        try:
            return _dial(hop), None
        except socket.gaierror as error:
            raise self._unreachable(hop, f"the name {hop.address} is not known ({error.strerror})") from error
        except TimeoutError as error:
            raise self._unreachable(hop, f"no answer within {CONNECT_S:.0f} s") from error
        except OSError as error:
            raise self._unreachable(hop, error.strerror or str(error)) from error

    def _through(self, jump: Hop, hop: Hop) -> paramiko.Channel:
        try:
            return self.transport.open_channel(
                "direct-tcpip", (hop.address, hop.port), ("127.0.0.1", 0), timeout=CONNECT_S
            )
        except paramiko.ChannelException as error:
            raise self._unreachable(hop, f"its jump host {jump} says: {error.text or error}") from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._unreachable(hop, f"its jump host {jump} does not reach it: {error}") from error

    def _unreachable(self, hop: Hop, why: str) -> CellError:
        return CellError(
            "unreachable",
            f"cannot be reached at {hop}: {why}",
            self._host,
            "is it up, with sshd running, and are ansible_host and ansible_port right?",
        )


def _dial(hop: Hop) -> socket.socket:
    """A TCP connection to the first address that takes one. Raises OSError."""
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(hop.family, socket.AF_UNSPEC)
    failure = OSError("no address")
    for found, kind, protocol, _, address in socket.getaddrinfo(hop.address, hop.port, family, socket.SOCK_STREAM):
        connection = socket.socket(found, kind, protocol)
        try:
            connection.settimeout(CONNECT_S)
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
            continue
        # Requests are small: each shall leave at once.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    raise failure


class _Proxy:
    """A ProxyCommand with a socket for its standard streams.

    paramiko's own ProxyCommand reads on without end when the command has ended.
    """

    def __init__(self, command: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self.socket, theirs = socket.socketpair()
        with theirs:
            # A shell, as ssh does (ssh_config(5), ProxyCommand); the inventory's owner wrote the line.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._errors
            )

    def said(self) -> str:
        """The last line that it wrote to its standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"its ProxyCommand says: {lines[-1]}" if lines else ""

    def close(self) -> None:
        """End it, and wait for its end."""
        self.socket.close()
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


class _Pulse:
    """Asks the host for a sign of life every few seconds, and closes the connection when there is none.

    paramiko's own keepalives want no answer, so they do not notice a host that vanished; TCP's options watch the
    first server only, not what lies behind a jump host. Any answer will do, and RFC 4254 (section 4) demands one.
    """

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._stopped = threading.Event()
        self.lost = False
        threading.Thread(target=self._beat, name="ssh-pulse", daemon=True).start()

    def stop(self) -> None:
        """No more questions."""
        self._stopped.set()

    def _beat(self) -> None:
        while not self._stopped.wait(_PULSE_EVERY_S) and self._transport.is_active():
            with _after(PATIENCE_S, self._give_up), contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._transport.global_request("keepalive@openssh.com", wait=True)

    def _give_up(self) -> None:
        self.lost = not self._stopped.is_set()
        self._transport.close()


@contextlib.contextmanager
def _after(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Act if the block is not left in time."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
