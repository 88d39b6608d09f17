"""The lease: shaping lasts only while somebody who needs it says so.

One file holds one time in seconds on CLOCK_BOOTTIME (time.clock_gettime), which also counts while the machine sleeps.
It belongs to the user whose agent renews it; the directory around it belongs to root.
"""

from __future__ import annotations

import math
import os
import pwd
import time
from pathlib import Path

from paretopipe_runtime.network.errors import LeaseError, NetworkError
from paretopipe_runtime.network.processes import is_alive
from paretopipe_runtime.network.state import StateDirectory


def now_s() -> float:
    """Seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def grant(directory: StateDirectory, owner: str) -> None:
    """Make the lease, renewed now and owned by `owner`, who may renew it; raises NetworkError for no such user."""
    try:
        user = pwd.getpwnam(owner)
    except KeyError as error:
        raise NetworkError(f"no user {owner!r} on this host to own the lease; correct --lease-owner") from error
    directory.lease.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(directory.lease, flags, 0o600)
    try:
        _stamp(descriptor)
        os.fchmod(descriptor, 0o644)
        os.fchown(descriptor, user.pw_uid, user.pw_gid)
    finally:
        os.close(descriptor)


def renew(state_dir: Path) -> None:
    """Renew the lease of the shaping that `pp-net apply --state-dir` made on this host; needs no root.

    Raises LeaseError if nothing is shaped (any more), its guard is dead, or the lease belongs to another user.
    """
    directory = StateDirectory(state_dir)
    try:
        descriptor = os.open(directory.lease, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        words = directory.last_words()
        why = f"; its guard's last words: {words}" if words else ""
        raise LeaseError(f"nothing is shaped on this host any more{why}") from None
    except OSError as error:
        raise LeaseError(f"cannot renew {directory.lease}: {error.strerror}; apply with --lease-owner") from error
    try:
        _stamp(descriptor)
    except OSError as error:
        raise LeaseError(f"cannot renew {directory.lease}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    shaping = directory.read()
    if shaping is None or shaping.guard is None or not is_alive(shaping.guard):
        raise LeaseError("the guard of this host's shaping is dead, so the network is not to be trusted; apply again")


def age_s(directory: StateDirectory) -> float | None:
    """Seconds since the lease was renewed; None if there is none, or it holds no time that has been."""
    try:
        renewed = float(directory.lease.read_text())
    except (OSError, ValueError):
        return None
    age = now_s() - renewed
    return age if 0 <= age < math.inf else None


def _stamp(descriptor: int) -> None:
    # Fixed width and one write, so that a reader never sees half of an old and half of a new time.
    os.pwrite(descriptor, f"{now_s():020.6f}\n".encode(), 0)
