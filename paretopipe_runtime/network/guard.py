"""The guard: a process that takes the shaping off when nobody renews the lease any more.

It is armed before anything is shaped and belongs to no session, so neither the end of an SSH connection nor the death
of a controller takes it along. For the wirefilter shaper it also holds the wire: if the guard itself is killed, the
wire ends with it.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.lease import age_s, now_s
from paretopipe_runtime.network.processes import Identity, end, identify, is_alive
from paretopipe_runtime.network.shape import JsonObject
from paretopipe_runtime.network.state import Shaping, StateDirectory, wait_for_flock
from paretopipe_runtime.network.wire_process import Wire

TICK_S = 1.0
READY_WAIT_S = 15.0
_LOCK_WAIT_S = 3.0
_OOM_SCORE = "-900"
# Like netem, which works in interrupt time, the wire must not wait for a processor that the model keeps busy.
_NICE = -10

Restore = Callable[[StateDirectory, Shaping, Callable[[], None]], None]
"""Undo a shaping under the lock; the last argument ends the guard's wire."""


_DISMISSED = signal.SIGUSR1
_terminated = threading.Event()
"""Set in the guard by SIGTERM, which comes from whoever clears up processes, and knows nothing of the network."""


class _EndError(Exception):
    """Somebody who restores dismisses the guard."""


def arm(directory: StateDirectory, shaping: Shaping, restore: Restore) -> Shaping:
    """Start the guard of `shaping`, and its wire if it has one; returns the shaping with their identities, written.

    Raises NetworkError if it does not report within READY_WAIT_S.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become_guard(directory, shaping, restore, writer)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        report = _read_report(pipe.fileno())
    if "error" in report:
        raise NetworkError(report["error"])
    return directory.update(
        shaping,
        guard=Identity(*report["guard"]),
        processes=tuple(Identity(*process) for process in report["processes"]),
    )


def holder(directory: StateDirectory) -> Identity | None:
    """The guard that holds the guard's lock, if one runs; the state file may not name it yet."""
    try:
        found = Identity(*json.loads(directory.guard_lock.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if is_alive(found) else None


def dismiss(guard: Identity) -> None:
    """End a guard and its wire without its restoring anything. For who restores, under the lock."""
    end(guard, ask=_DISMISSED)


def _read_report(descriptor: int) -> JsonObject:
    received = b""
    deadline = time.monotonic() + READY_WAIT_S
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(descriptor, 65536)
        if not part:
            break
        received += part
    if not received.endswith(b"\n"):
        return {"error": "the guard did not start; nothing was shaped. Its log is beside the state file"}
    report: JsonObject = json.loads(received)
    return report


def _become_guard(directory: StateDirectory, shaping: Shaping, restore: Restore, writer: int) -> None:
    """Turn this forked child into a daemon (daemon(7): two forks, own session, no descriptors) and serve; no return."""
    status = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.umask(0o022)
        log = os.open(directory.guard_log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDWR)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        writer = _keep_only(writer)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        _serve(directory, shaping, restore, writer)
        status = 0
    except (OSError, ValueError) as error:
        _log(f"guard: {error}")
    except _EndError:
        status = 0
    finally:
        os._exit(status)


def _keep_only(descriptor: int) -> int:
    """Close everything above standard error but one descriptor, which becomes 3; it is not inherited by the wire."""
    if descriptor != 3:
        os.dup2(descriptor, 3)
    os.set_inheritable(3, False)
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.closerange(4, highest if highest != resource.RLIM_INFINITY else 1 << 20)
    return 3


def _serve(directory: StateDirectory, shaping: Shaping, restore: Restore, writer: int) -> None:
    signal.signal(_DISMISSED, _on_dismissal)
    signal.signal(signal.SIGTERM, lambda *_: _terminated.set())
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    wire = None
    try:
        _take_precedence(wired=shaping.shaper == "wirefilter")
        lock = os.open(directory.guard_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        wait_for_flock(lock, _LOCK_WAIT_S, f"another guard is at work for {directory.path}; run pp-net restore")
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(identify(os.getpid())).encode(), 0)
        if shaping.shaper == "wirefilter":
            wire = Wire(shaping.plan["wire"], directory.socket, directory.wire_log)
        _report(writer, {"guard": identify(os.getpid()), "processes": wire.identities() if wire else []})
    except (NetworkError, OSError) as error:
        _report(writer, {"error": f"the guard did not start: {error}"})
        return
    try:
        _watch(directory, shaping, restore, wire)
    finally:
        if wire:
            wire.end()


def _take_precedence(*, wired: bool) -> None:
    """Be among the last that the kernel kills for memory, and never wait long for a processor.

    Both need capabilities that a container may lack; the guard works without, so it only notes that.
    """
    try:
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    except PermissionError:
        _log("not allowed to lower oom_score_adj")
    if wired:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        except PermissionError:
            _log("not allowed to raise the wire's priority")


def _watch(directory: StateDirectory, shaping: Shaping, restore: Restore, wire: Wire | None) -> None:
    me = identify(os.getpid())
    granted_s = now_s()
    last_words = ""
    while True:
        _terminated.wait(TICK_S)
        try:
            written = _written(directory)
            if written is not None:
                if written.guard is not None and written.guard != me:
                    return
                shaping = written
            age = age_s(directory)
            if age is not None:
                granted_s = now_s() - age
            reason = _reason(now_s() - granted_s, written, shaping.shape.lease_s, wire)
            if reason and _restored(directory, me, shaping, restore, wire, reason):
                return
        except (NetworkError, OSError) as error:
            if str(error) != last_words:
                _log(f"could not restore, trying again: {error}")
            last_words = str(error)
            signal.signal(_DISMISSED, _on_dismissal)
            time.sleep(TICK_S)


def _written(directory: StateDirectory) -> Shaping | None:
    """The state file, as far as there is one that can be understood. Without it we go by what we remember."""
    try:
        return directory.read()
    except NetworkError:
        return None


def _reason(age: float, written: Shaping | None, lease_s: float, wire: Wire | None) -> str | None:
    if written is None:
        # Who restores ends us first and then clears the file, so nobody has restored.
        return "the state file was lost"
    if age > lease_s:
        return f"the lease was not renewed for {age:.0f} s"
    if _terminated.is_set():
        return "the guard was terminated"
    fault = wire.fault() if wire else None
    return fault and f"the wire broke: {fault}"


def _restored(
    directory: StateDirectory,
    me: Identity | None,
    shaping: Shaping,
    restore: Restore,
    wire: Wire | None,
    reason: str,
) -> bool:
    """Restore under the lock; False if there turns out to be no reason any more."""
    directory.create()
    with directory.locked():
        # Whoever dismisses us holds the lock, so nobody does from here on.
        signal.signal(_DISMISSED, signal.SIG_IGN)
        written = _written(directory)
        if written is not None and written.guard not in (None, me):
            return True
        age = age_s(directory)
        if age is not None and _reason(age, written, shaping.shape.lease_s, wire) is None:
            signal.signal(_DISMISSED, _on_dismissal)
            return False
        restore(directory, written or shaping, wire.end if wire else lambda: None)
        _log(f"{reason}: took {shaping.shape.profile} off {shaping.shape.interface}")
        return True


def _on_dismissal(number: int, frame: object) -> None:
    raise _EndError


def _report(writer: int, report: JsonObject) -> None:
    os.write(writer, json.dumps(report).encode() + b"\n")
    os.close(writer)


def _log(words: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {words}\n")
