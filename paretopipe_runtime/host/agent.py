"""pp-agent: a host's end of the control channel, and the supervisor of its worker.

It imports no torch, so it starts at once and outlives whatever the model does. It speaks JSON lines on its
standard streams, opens no port, and stops with its controller: when standard input ends, so do worker and agent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from paretopipe_runtime import __version__
from paretopipe_runtime.allocator import choice as allocator
from paretopipe_runtime.host.facts import host_facts, vitals
from paretopipe_runtime.host.protocol import MessageWriter, ProtocolError, error_object, read_messages
from paretopipe_runtime.network.control import status
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.lease import renew
from paretopipe_runtime.network.state import StateDirectory

JsonObject = dict[str, Any]
_PR_SET_PDEATHSIG = 1


class Worker:
    """One worker process, and the requests that it has not answered yet."""

    def __init__(self, settings: JsonObject, up: MessageWriter, awaited_by: int | None = None) -> None:
        """Start it. `awaited_by` is a request that is answered with the worker's facts when it is ready."""
        self._host = settings["host"]
        self._up = up
        self._awaited_by = awaited_by
        self._open: set[int] = set() if awaited_by is None else {awaited_by}
        self._lock = threading.Lock()
        self._dead = False
        self._stopped = False
        threads = str(settings["threads"])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **settings["env"]}
        environment |= allocator.environment(environment)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "paretopipe_runtime.host.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=_die_with_parent,
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._down = MessageWriter(self._process.stdin)
        self._log = threading.Thread(target=self._forward_log, args=(self._process.stderr,), daemon=True)
        self._log.start()
        threading.Thread(target=self._forward_answers, args=(self._process.stdout,), daemon=True).start()

    @property
    def dead(self) -> bool:
        """Whether the process has ended."""
        return self._dead

    def request(self, message: JsonObject) -> None:
        """Pass a request on; its answer goes up by itself, also if the worker dies over it."""
        with self._lock:
            if not self._dead:
                self._open.add(message["id"])
        try:
            self._down.write(message)
        except OSError:
            return  # the thread that reads its answers sees the end too, and answers what is open

    def abort(self) -> None:
        """Pass an abort on."""
        try:
            self._down.write({"op": "abort"})
        except OSError:
            return

    def stop(self) -> None:
        """End the process: politely by closing its input, then by its pid."""
        self._stopped = True
        try:
            self._process.stdin.close()  # type: ignore[union-attr]
            self._process.wait(timeout=3)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def _forward_answers(self, stream: IO[bytes]) -> None:
        try:
            for message in read_messages(stream):
                with self._lock:
                    self._open.discard(message.get("id", -1))
                self._up.write(message)
                if message.get("event") == "ready" and self._awaited_by is not None:
                    with self._lock:
                        self._open.discard(self._awaited_by)
                    self._up.write({"id": self._awaited_by, "result": message["facts"]})
        except (ProtocolError, OSError) as error:
            sys.stderr.write(f"agent: {error}\n")
            self._process.kill()
        code = self._process.wait()
        self._log.join(timeout=1)
        with self._lock:
            self._dead = True
            unanswered, self._open = self._open, set()
        cause = death(code, self._host)
        if self._stopped:
            cause = error_object("aborted", f"the worker on {self._host} was stopped", "rerun the cell")
        for number in sorted(unanswered):
            self._up.write({"id": number, "error": cause})
        if not self._stopped:
            self._up.write({"event": "worker-ended", "code": code, "error": cause})

    def _forward_log(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._up.write({"event": "log", "line": line.decode(errors="replace").rstrip("\n")})


def death(code: int, host: str) -> JsonObject:
    """What the end of a worker means: 137 (128 + SIGKILL) is how the kernel ends what takes too much memory."""
    if code == -signal.SIGKILL:
        return error_object(
            "worker-killed",
            f"the worker on {host} was killed (137), most likely by the kernel: out of memory",
            f"use a smaller batch or another cut; `dmesg` on {host} says who killed it; rerun the cell",
        )
    if code < 0:
        name = signal.Signals(-code).name
        return error_object("worker-died", f"the worker on {host} died of {name}", "see its worker.log; rerun the cell")
    return error_object("worker-died", f"the worker on {host} exited with {code}", "see its worker.log; rerun the cell")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Agent:
    """Answers what needs no torch and passes everything else to the worker, starting one where there is none."""

    def __init__(self, up: MessageWriter) -> None:
        self._up = up
        self._settings: JsonObject = {
            "host": "host",
            "cpus": None,
            "threads": 1,
            "device": "cpu",
            "engine": "best",
            "env": {},
        }
        self._worker: Worker | None = None

    def handle(self, message: JsonObject) -> None:
        """Act on one message from the controller."""
        operation = message.get("op")
        if operation == "abort":
            if self._worker is not None:
                self._worker.abort()
        elif operation == "configure":
            self._configure(message["id"], message["params"])
        elif operation == "vitals":
            self._up.write({"id": message["id"], "result": vitals()})
        elif operation == "restart":
            self._restart(message["id"])
        elif operation in ("network_status", "renew_network"):
            self._network(message["id"], operation, Path(message["params"]["state_dir"]))
        else:
            self._start().request(message)

    def _configure(self, number: int, params: JsonObject) -> None:
        """Start the worker on the cores asked for; without any: on all that this host has."""
        available = os.sched_getaffinity(0)
        cpus = sorted(params["cpus"] or available)
        missing = set(cpus) - available
        if missing:
            cause = error_object(
                "request",
                f"paretopipe_cpus: no core {min(missing)} there; available: {sorted(available)}",
                "correct it in the inventory",
            )
            self._up.write({"id": number, "error": cause})
            return
        self._settings |= params | {"cpus": cpus, "threads": params["threads"] or len(cpus)}
        self._start()
        facts = host_facts(params.get("data_address"))
        ours = {"paretopipe": __version__, "agent_pid": os.getpid(), "cpus": cpus}
        self._up.write({"id": number, "result": facts | ours})

    def _restart(self, number: int) -> None:
        """End the worker, whatever it is doing, and start a new one: what is wrong inside a process goes with it."""
        self.stop()
        self._worker = Worker(self._settings, self._up, awaited_by=number)

    def _network(self, number: int, operation: str, state_dir: Path) -> None:
        """What is shaped here, or one more lease of it: as long as the controller asks, the host stays shaped."""
        try:
            if operation == "renew_network":
                renew(state_dir)
            result = status(StateDirectory(state_dir))
        except (NetworkError, OSError) as error:
            self._up.write({"id": number, "error": error_object("network", str(error), "see `pp-net status` there")})
            return
        self._up.write({"id": number, "result": result})

    def _start(self) -> Worker:
        if self._worker is None or self._worker.dead:
            self._worker = Worker(self._settings, self._up)
        return self._worker

    def stop(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.stop()


def main() -> None:
    """Serve one controller over standard input and output until it hangs up."""
    if sys.argv[1:]:
        asked = sys.argv[1:] == ["--version"]
        sys.stdout.write(f"pp-agent {__version__}\n" if asked else __doc__ + "\nIt is started by pp-matrix.\n")
        sys.exit(0 if asked or sys.argv[1:] == ["--help"] else 2)
    # Ctrl-C goes to the whole process group; the controller decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    agent = Agent(MessageWriter(sys.stdout.buffer))
    try:
        for message in read_messages(sys.stdin.buffer):
            agent.handle(message)
    except (ProtocolError, OSError) as error:
        sys.stderr.write(f"agent: {error}\n")
    finally:
        agent.stop()


if __name__ == "__main__":
    main()
