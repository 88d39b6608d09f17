"""What is shaped here, written down before anything is changed: `<state_dir>/network/state.json`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.processes import Identity
from paretopipe_runtime.network.shape import JsonObject, Shape

SCHEMA = 1
LOCK_WAIT_S = 30.0


@dataclass(frozen=True)
class Shaping:
    """One shaping from its first preparation until it is gone."""

    shape: Shape
    shaper: str
    plan: JsonObject
    """What the shaper changes and what was there before; enough to undo it from any half-done state."""
    controller: str
    phase: str = "applying"
    """`applying`, `active` or `restoring`."""
    guard: Identity | None = None
    processes: tuple[Identity, ...] = ()
    boot_id: str = field(default_factory=lambda: boot_id())
    namespace: int = field(default_factory=lambda: network_namespace())

    def as_json(self) -> JsonObject:
        """As the state file keeps it."""
        return asdict(self) | {"schema": SCHEMA, "shape": self.shape.as_json()}

    @classmethod
    def from_json(cls, data: JsonObject) -> Shaping:
        """The inverse of `as_json`; raises ValueError, KeyError or TypeError for another schema or damage."""
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}, this version reads {SCHEMA}")
        guard = data["guard"]
        return cls(
            Shape.from_json(data["shape"]),
            data["shaper"],
            data["plan"],
            data["controller"],
            data["phase"],
            Identity(*guard) if guard else None,
            tuple(Identity(*process) for process in data["processes"]),
            data["boot_id"],
            data["namespace"],
        )


def boot_id() -> str:
    """Which boot of the kernel this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def network_namespace() -> int:
    """Which network namespace this process is in (namespaces(7): the inode number)."""
    return Path("/proc/self/ns/net").stat().st_ino


class StateDirectory:
    """`<state_dir>/network/`: state, lease, locks, guard's log, the wire's socket and log."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir.absolute() / "network"
        self.state = self.path / "state.json"
        self.lease = self.path / "lease"
        self.guard_lock = self.path / "guard.lock"
        self.guard_log = self.path / "guard.log"
        self.socket = self.path / "wire.socket"
        self.wire_log = self.path / "wire.log"
        self._lock = self.path / "lock"

    def create(self) -> None:
        """Make the directory, which everybody may read and only its owner may write.

        Raises NetworkError if it cannot be made.
        """
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise NetworkError(f"cannot make {self.path}: {error.strerror}; choose another --state-dir") from error

    def _refuse_if_not_ours(self) -> None:
        for path in (self.path, self.path.parent):
            status = path.stat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise NetworkError(
                    f"{path} belongs to somebody else or others may write to it; "
                    "what is in it is done as root, so choose a --state-dir that only root can write"
                )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that serialises apply, restore and the guard (flock(2)).

        Raises NetworkError if it is not free within LOCK_WAIT_S, or if others may write here.
        """
        self._refuse_if_not_ours()
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            wait_for_flock(descriptor, LOCK_WAIT_S, f"another pp-net is at work on {self.path}; try again")
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Shaping | None:
        """What is shaped; None if nothing is. Raises NetworkError if the file cannot be understood."""
        try:
            text = self.state.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise NetworkError(f"cannot read {self.state}: {error.strerror}") from error
        try:
            return Shaping.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise NetworkError(
                f"{self.state} cannot be understood ({error}); restore with the version that wrote it, "
                "or reboot, which undoes all shaping, and delete the file"
            ) from error

    def write(self, shaping: Shaping) -> Shaping:
        """Replace the state file in one step; returns what was written."""
        draft = self.state.with_suffix(".new")
        with draft.open("w") as file:
            os.fchmod(file.fileno(), 0o644)
            json.dump(shaping.as_json(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.state)
        return shaping

    def update(self, shaping: Shaping, **changes: object) -> Shaping:
        """`write` with some fields changed."""
        return self.write(replace(shaping, **changes))  # type: ignore[arg-type]

    def last_words(self) -> str | None:
        """What the guard noted last: why it took the shaping off, or what hinders it."""
        try:
            return self.guard_log.read_text().splitlines()[-1]
        except (OSError, IndexError):
            return None

    def clear(self) -> None:
        """Forget the shaping: the lease, the wire's socket and, last, the state file."""
        for path in (self.lease, self.socket, self.state):
            path.unlink(missing_ok=True)


def wait_for_flock(descriptor: int, patience_s: float, otherwise: str) -> None:
    """Take an exclusive flock(2); raises NetworkError(otherwise) if it is not free in time."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise NetworkError(otherwise) from None
            time.sleep(0.02)
        else:
            return
