"""pp-agent on another host: the control channel over ssh."""

from __future__ import annotations

import contextlib
import io
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import paramiko

from paretopipe_matrix.hosts.agent_client import AgentClient
from paretopipe_matrix.hosts.inventory import HostVars
from paretopipe_matrix.hosts.ssh_transport import CONNECT_S, PATIENCE_S, Route
from paretopipe_matrix.testbed import CellError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# An agent gives its worker 3 s to end by itself.
_HANG_UP_S = 8.0
_LAST_WORDS_S = 2.0
_NOT_FOUND = (126, 127)  # of a shell: cannot be executed, not found (POSIX, 2.8.2)


class SshAgent(AgentClient):
    """An agent at the other end of an ssh connection, on an exec channel without a terminal.

    The constructor connects, and raises CellError where that fails; it may run in several threads at once. That
    pp-agent does not start shows as the error of the first request.
    """

    def __init__(self, host: HostVars, log_file: Path | None) -> None:
        if host.ssh is None:
            raise ValueError(f"{host.name} is not reached by ssh")
        self._program = f"{host.root}/venv/bin/pp-agent"
        self._started = threading.Event()
        self._cause: tuple[str, str] | None = None
        self._cause_lock = threading.Lock()
        self._route = Route(host.name, host.ssh)
        try:
            self._channel = self._execute(host.name)
            self._answers = _Answers(self._channel.recv)
            self._errors = threading.Thread(target=self._log_errors, name=f"stderr-{host.name}", daemon=True)
            self._errors.start()
            super().__init__(host.name, cast("IO[bytes]", _Requests(self._channel)), self._answers, log_file)
        except BaseException:
            self._route.close()
            raise
        finally:
            self._started.set()

    def _execute(self, host: str) -> paramiko.Channel:
        try:
            channel = self._route.transport.open_session(timeout=CONNECT_S)
            channel.exec_command(f"exec {shlex.quote(self._program)}")
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise CellError(
                "agent-gone",
                f"{self._route} lets nobody run commands: {error}",
                host,
                "look at its sshd's log (ForceCommand, MaxSessions, the user's shell)",
            ) from error
        return channel

    def _log_errors(self) -> None:
        """What pp-agent itself has to say, which is little: its worker's words come as events."""
        self._started.wait()
        for line in io.BufferedReader(_Stream(self._channel.recv_stderr)):
            self._event({"event": "log", "line": line.decode(errors="replace").rstrip("\n")})

    def _gone_error(self) -> CellError:
        with self._cause_lock:
            if self._cause is None:
                self._cause = self._explain()
        return CellError("agent-gone", self._cause[0], self.host, self._cause[1], self.log_tail())

    def _explain(self) -> tuple[str, str]:
        """Why the channel ended, and the remedy."""
        after = f"after {self._route.age_s:.0f} s"
        if self._answers.garbage is not None:
            return (
                f"printed {self._answers.garbage[:80]!r} where pp-agent's answers belong",
                "let nothing print when a command is run by ssh: look at the user's ~/.bashrc there",
            )
        # The last words and the exit status may still be on their way.
        self._channel.status_event.wait(_LAST_WORDS_S)
        self._errors.join(_LAST_WORDS_S)
        if self._route.unanswered:
            return (
                f"the connection to {self._route} was lost {after}: no answer for {PATIENCE_S:.0f} s",
                "is the host up (power, memory, network)? then rerun the failed cells",
            )
        said = f": {tail[-1]}" if (tail := self.log_tail()) else ""
        status = self._channel.exit_status
        if status in _NOT_FOUND:
            return (
                f"pp-agent cannot be run there{said}",
                "install it: ansible-playbook playbooks/provision.yml",
            )
        if status >= 0:
            return (
                f"pp-agent ended there {after} with exit status {status}{said}",
                "see its worker.log; rerun the cells",
            )
        if self._route.transport.is_active():
            return f"pp-agent was killed there {after}{said}", "`dmesg` there says by whom; rerun the failed cells"
        return (
            f"the connection to {self._route} was lost {after}: it was closed there, as when a host reboots",
            "is the host up? then rerun the failed cells",
        )

    def close(self) -> None:
        """Hang up; the agent ends its worker and itself. Then close the connection, whether it did or not."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # gone already, which is what is wanted
            self._channel.shutdown_write()
            self._channel.status_event.wait(_HANG_UP_S)
        self._route.close()
        self._errors.join(_LAST_WORDS_S)
        self._reader.join(_LAST_WORDS_S)
        self.close_log()


class _Stream(io.RawIOBase):
    """One direction of a channel to read from; `receive(n)` gives at most n bytes, none at the end."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        super().__init__()
        self._receive = receive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        data = self._receive(len(view))
        view[: len(data)] = data
        return len(data)


class _Answers(io.BufferedReader):
    """What an agent prints. Ends at the first line that cannot be a message, and keeps that line."""

    garbage: bytes | None = None

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        super().__init__(_Stream(receive), 1 << 17)

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(-1 if size is None else size)
        if line and not line.startswith(b"{"):
            self.garbage = line
            return b""
        return line


class _Requests:
    """A channel to write to. Raises OSError when it is closed, as files do."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def write(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except (EOFError, paramiko.SSHException) as error:
            raise OSError(str(error)) from error

    def flush(self) -> None:
        """Everything has been sent already."""
