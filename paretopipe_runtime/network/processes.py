"""Processes by identity: a pid alone may have been given to somebody else since."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """A process: its pid, and when it started in clock ticks after boot (field 22 of proc_pid_stat(5))."""

    pid: int
    start_ticks: int


def identify(pid: int) -> Identity | None:
    """The identity of a running process; None if there is none (a zombie is none)."""
    try:
        # The main thread's entry has the same start; qemu-user makes up /proc/PID/stat where a process reads its own.
        stat = Path(f"/proc/{pid}/task/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is a name in parentheses, which may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else Identity(pid, int(fields[19]))


def is_alive(process: Identity) -> bool:
    """Whether exactly that process runs. Where /proc hides others' processes, its pid has to do."""
    if Path(f"/proc/{process.pid}").exists():
        return identify(process.pid) == process
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return identify(process.pid) == process


def end(process: Identity, patience_s: float = 3.0, ask: signal.Signals = signal.SIGTERM) -> None:
    """Ask a process to end, then make it; returns when it is gone or is not that process."""
    for number, wait_s in ((ask, patience_s), (signal.SIGKILL, patience_s)):
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return
        try:
            # The handle pins the process, so what is identified now is what gets the signal.
            if identify(process.pid) != process:
                return
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if not is_alive(process):
                return
            time.sleep(0.01)
