"""The controller's end of one agent's control channel: requests out, answers and events in."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import IO, Any, TextIO

from paretopipe_matrix.testbed import CellError
from paretopipe_runtime.host.protocol import MessageWriter, ProtocolError, read_messages

JsonObject = dict[str, Any]
Answer = Future[JsonObject]
_LOG_TAIL_LINES = 20


class AgentClient:
    """One running agent. Answers are futures, so that several hosts can work at the same time.

    `log_file` gets the worker's standard error as it comes; its last lines are kept for failed records.
    """

    def __init__(self, host: str, to_agent: IO[bytes], from_agent: IO[bytes], log_file: Path | None) -> None:
        self.host = host
        self._writer = MessageWriter(to_agent)
        self._numbers = itertools.count(1)
        self._open: dict[int, Answer] = {}
        self._lock = threading.Lock()
        self._gone = False
        self._tail: deque[str] = deque(maxlen=_LOG_TAIL_LINES)
        self._log: TextIO | None = None
        if log_file is not None:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            self._log = log_file.open("a", buffering=1)
        self.worker_ready: Answer = Future()
        self.on_event: Callable[[JsonObject], None] = lambda _event: None
        self._reader = threading.Thread(target=self._read, args=(from_agent,), name=f"agent-{host}", daemon=True)
        self._reader.start()

    def send(self, operation: str, params: JsonObject | None = None) -> Answer:
        """Ask for an operation; the future gives its result or raises CellError."""
        number = next(self._numbers)
        answer: Answer = Future()
        with self._lock:
            if self._gone:
                answer.set_exception(self._gone_error())
                return answer
            self._open[number] = answer
        try:
            self._writer.write({"id": number, "op": operation, "params": params or {}})
        except (OSError, ValueError):
            self._settle(number, error=self._gone_error())
        return answer

    def call(self, operation: str, params: JsonObject | None = None, timeout_s: float = 60.0) -> JsonObject:
        """Ask and wait. Raises CellError, also (`timeout`) if no answer comes in time."""
        return self.wait(self.send(operation, params), operation, timeout_s)

    def wait(self, answer: Answer, operation: str, timeout_s: float) -> JsonObject:
        """Wait for an answer. Raises CellError."""
        try:
            return answer.result(timeout_s)
        except FutureTimeoutError:
            raise self.timed_out(operation, timeout_s) from None

    def timed_out(self, operation: str, timeout_s: float) -> CellError:
        """The error for an operation that took too long."""
        return CellError(
            "timeout",
            f"{self.host} did not finish {operation} within {timeout_s:.0f} s",
            self.host,
            "look at its worker.log; if the cell is only slow, raise cell_timeout_s",
            self.log_tail(),
        )

    def abort(self) -> None:
        """End the operation in progress; never blocks on the worker."""
        try:
            self._writer.write({"op": "abort"})
        except (OSError, ValueError):
            return

    def log_tail(self) -> list[str]:
        """The last lines that the worker wrote to its standard error."""
        return list(self._tail)

    def _gone_error(self) -> CellError:
        return CellError(
            "agent-gone",
            f"the control channel to {self.host} ended",
            self.host,
            "is the host up, and does `pp-agent --version` run there? then rerun the failed cells",
            self.log_tail(),
        )

    def _read(self, stream: IO[bytes]) -> None:
        try:
            for message in read_messages(stream):
                if "event" in message:
                    self._event(message)
                elif "error" in message:
                    error = message["error"]
                    self._settle(message["id"], error=self._cell_error(error))
                else:
                    self._settle(message["id"], result=message["result"])
        except (ProtocolError, OSError, ValueError) as error:
            self._tail.append(f"control channel: {error}")
        with self._lock:
            self._gone = True
            numbers = list(self._open)
        for number in numbers:
            self._settle(number, error=self._gone_error())
        if not self.worker_ready.done():
            self.worker_ready.set_exception(self._gone_error())

    def _cell_error(self, error: JsonObject) -> CellError:
        return CellError(error["kind"], error["message"], self.host, error.get("remedy"), self.log_tail())

    def _settle(self, number: int, result: JsonObject | None = None, error: CellError | None = None) -> None:
        with self._lock:
            answer = self._open.pop(number, None)
        if answer is None:
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result or {})

    def _event(self, event: JsonObject) -> None:
        name = event["event"]
        if name == "log":
            self._tail.append(event["line"])
            if self._log is not None:
                self._log.write(event["line"] + "\n")
        elif name == "ready":
            if not self.worker_ready.done():
                self.worker_ready.set_result(event["facts"])
        elif name == "worker-ended":
            if not self.worker_ready.done():
                self.worker_ready.set_exception(self._cell_error(event["error"]))
        else:
            self.on_event(event)

    def close_log(self) -> None:
        """Close the log file; lines that still come are dropped."""
        log, self._log = self._log, None
        if log is not None:
            log.close()


class LocalAgent(AgentClient):
    """An agent that is a child process of the controller."""

    def __init__(self, host: str, python: str | None, log_file: Path | None) -> None:
        command = [python or sys.executable, "-m", "paretopipe_runtime.host.agent"]
        try:
            # A session of its own: Ctrl-C in the terminal is the controller's to interpret.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise CellError(
                "agent-gone",
                f"the agent on {host} did not start: {python}: {error.strerror}",
                host,
                "set paretopipe_python to a Python that has paretopipe installed",
            ) from error
        assert self._process.stdin
        assert self._process.stdout
        super().__init__(host, self._process.stdin, self._process.stdout, log_file)

    def close(self) -> None:
        """Hang up; the agent ends its worker and itself. A stuck one is ended by its pid."""
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it is already gone, which is what is wanted
            self._process.stdin.close()
        try:
            self._process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.close_log()
