"""The three processes of a wire, and wirefilter's management socket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from pathlib import Path

from paretopipe_runtime.network.commands import tool_path
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.links import exists
from paretopipe_runtime.network.processes import Identity, identify
from paretopipe_runtime.network.shape import JsonObject
from paretopipe_runtime.network.wire_recipe import ENTRY, EXIT, Command, plug_command

START_WAIT_S = 5.0
_PIPE_BYTES = 1 << 20
_NAMES = (f"vde_plug2tap {ENTRY}", "wirefilter", f"vde_plug2tap {EXIT}")
_PROMPT = b"\nVDEwf$ "


class Wire:
    """entry TAP -> wirefilter -> exit TAP, as long as the process that made this object lives.

    The entry's standard input is a pipe that only we hold open: when we die, however we die, the kernel closes it,
    the entry ends, then wirefilter at the end of its input, then the exit; TAP devices, routes and neighbours go
    with them. So nothing stays shaped without somebody to end it.
    """

    def __init__(self, filter_command: Command, management: Path, log: Path) -> None:
        """Start the processes, their words going to `log`.

        Raises NetworkError if they do not come up within START_WAIT_S.
        """
        management.unlink(missing_ok=True)
        lifeline, self._lifeline = os.pipe()
        # Packet pipes (pipe(2), O_DIRECT): one read gets one frame. From a byte stream wirefilter would read frames
        # cut in two, and it loses its place when the cut goes through a frame's length.
        into, out = (os.pipe2(os.O_DIRECT | os.O_CLOEXEC) for _ in range(2))
        for _, write_end in (into, out):
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._management = management
        # `ALTERNATE_STDIN` would make wirefilter look for a second direction.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ALTERNATE_")}
        self._processes: list[subprocess.Popen[bytes]] = []
        plan: list[tuple[Command, int, int]] = [
            (plug_command(ENTRY), lifeline, into[1]),
            (filter_command, into[0], out[1]),
            (plug_command(EXIT), out[0], subprocess.DEVNULL),
        ]
        try:
            with log.open("wb") as words:
                for (tool, *arguments), stdin, stdout in plan:
                    command = [tool_path(tool), *arguments]
                    self._processes.append(
                        subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=words, env=environment)
                    )
        finally:
            for descriptor in (lifeline, *into, *out):
                os.close(descriptor)
        self._wait_ready(log)

    def _wait_ready(self, log: Path) -> None:
        deadline = time.monotonic() + START_WAIT_S
        while not (exists(ENTRY) and exists(EXIT) and self._management.exists()):
            if (fault := self.fault()) or time.monotonic() > deadline:
                self.end()
                words = " ".join(log.read_text(errors="replace").split())
                raise NetworkError(f"the wire did not start: {fault or 'nothing happened'}; it said: {words}")
            time.sleep(0.01)

    def identities(self) -> tuple[Identity, ...]:
        """The running processes."""
        return tuple(found for p in self._processes if (found := identify(p.pid)))

    def fault(self) -> str | None:
        """Which process has ended, in words; None while all run."""
        ended = [p for p in self._processes if p.poll() is not None]
        return f"{_NAMES[self._processes.index(ended[0])]} ended with {ended[0].returncode}" if ended else None

    def end(self) -> None:
        """End all three; the TAP devices go with them."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
                continue
            process.kill()
            process.wait()


def ask(management: Path, command: str) -> str:
    """wirefilter's answer to one management command; raises NetworkError if it gives none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_WAIT_S)
            connection.connect(str(management))
            _until_prompt(connection)
            connection.sendall(command.encode() + b"\n")
            return _until_prompt(connection)
    except OSError as error:
        raise NetworkError(f"wirefilter does not answer on {management}: {error}") from error


def _until_prompt(connection: socket.socket) -> str:
    received = b""
    while not received.endswith(_PROMPT):
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("it hung up")
        received += part
    return received[: -len(_PROMPT)].decode(errors="replace")


def counters(links: list[JsonObject]) -> JsonObject:
    """What went into and came out of the wire, from `ip -s -j link show`.

    Keys: `entry`, `exit` {packets, bytes, dropped, errors}, `missing_packets`: dropped by loss or limit, or on the way.
    All null where there is no wire.
    """
    found = {link["ifname"]: link["stats64"] for link in links if link["ifname"] in (ENTRY, EXIT)}
    if len(found) < 2:
        return {"entry": None, "exit": None, "missing_packets": None}
    # A device transmits what the kernel sends into it, and receives what its process writes.
    entry, out = found[ENTRY]["tx"], found[EXIT]["rx"]
    keys = ("packets", "bytes", "dropped", "errors")
    return {
        "entry": {key: entry[key] for key in keys},
        "exit": {key: out[key] for key in keys},
        "missing_packets": entry["packets"] - out["packets"],
    }
