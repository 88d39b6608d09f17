"""Running this repository's playbooks from Python, through ansible-runner."""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from paretopipe_matrix.hosts.playbook_errors import PlaybookError, play_error
from paretopipe_matrix.testbed import JsonObject

_ROOT = Path(__file__).resolve().parents[2]
# How often ansible-runner looks whether it shall stop.
_POLL_S = 0.2
# How long a play may go on to its end after Ctrl-C.
_GRACE_S = 15.0
_CANCELLED = "canceled"  # as ansible-runner spells it


@dataclass(frozen=True)
class PlayResult:
    """What a playbook did: how many tasks changed something, by host that was touched, and how long it took."""

    changed: Mapping[str, int]
    duration_s: float

    @property
    def changed_tasks(self) -> int:
        """Tasks that changed something, on all hosts together."""
        return sum(self.changed.values())


@dataclass
class _Call:
    """One call while it runs."""

    events: list[JsonObject] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    status: str = _CANCELLED


class Playbooks:
    """The playbooks, with one inventory. They run one at a time; any thread may ask.

    `log_dir` gets ansible.log with the whole output. `root` is the checkout (ansible.cfg, playbooks/, roles/).
    """

    def __init__(self, inventory: Path, log_dir: Path | None, root: Path = _ROOT) -> None:
        self.calls: list[JsonObject] = []
        """One entry per finished call, as run.json keeps them."""
        self._inventory = inventory.absolute()
        self._log = log_dir.absolute() / "ansible.log" if log_dir else None
        self._root = root
        self._one_at_a_time = threading.Lock()
        self._open: list[_Call] = []

    def run(self, playbook: str, extra_vars: Mapping[str, Any], limit: Sequence[str] | None = None) -> PlayResult:
        """Run `playbooks/PLAYBOOK`, on the hosts of `limit` only where there is one.

        Raises PlaybookError (a CellError of kind `ansible`, or `aborted` after `cancel`), also where no host was
        touched: a profile that nobody took is none. After KeyboardInterrupt a play may still end by itself for some
        seconds; then Ansible is ended, and the exception goes on.
        """
        path = self._root / "playbooks" / playbook
        for file, what in ((path, "playbook"), (self._root / "ansible.cfg", "configuration")):
            if not file.is_file():
                raise PlaybookError(
                    "ansible", f"{file}: no such {what}", None, "run pp-matrix from its checkout (make install)"
                )
        if not self._inventory.exists():
            raise PlaybookError("ansible", f"{self._inventory}: no such inventory", None, "name one with --inventory")
        call = _Call()
        self._open.append(call)
        try:
            with self._one_at_a_time:
                return self._run(call, path, extra_vars, limit)
        finally:
            self._open.remove(call)

    def cancel(self) -> None:
        """End what runs now, and what waits for its turn. Later calls are not affected."""
        for call in list(self._open):
            call.cancelled.set()

    def _run(self, call: _Call, path: Path, extra_vars: Mapping[str, Any], limit: Sequence[str] | None) -> PlayResult:
        entry: JsonObject = {
            "playbook": path.name,
            "limit": list(limit) if limit is not None else None,
            "extra_vars": dict(extra_vars),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        began_s = time.monotonic()
        try:
            if not call.cancelled.is_set():
                self._play(call, path, extra_vars, limit)
        finally:
            changed = _changed(call.events)
            duration_s = time.monotonic() - began_s
            self.calls.append(
                entry | {"duration_s": duration_s, "status": call.status, "changed": sum((changed or {}).values())}
            )
        if call.status == _CANCELLED:
            raise PlaybookError("aborted", f"{path.name} was stopped", None, None)
        if call.status != "successful" or not changed:
            raise play_error(path.name, call.events, limit, self._root, self._log)
        return PlayResult(changed, duration_s)

    def _play(self, call: _Call, path: Path, extra_vars: Mapping[str, Any], limit: Sequence[str] | None) -> None:
        """Run ansible-runner in a thread of its own, and take its events here.

        So an exception here (Ctrl-C, a full disk) can end Ansible in an orderly way, and none is raised inside
        ansible-runner, which would leave ansible-playbook behind.
        """
        events: queue.SimpleQueue[JsonObject | None] = queue.SimpleQueue()
        with self._open_log(path, limit) as log, ThreadPoolExecutor(1, "ansible") as pool:
            ended = pool.submit(self._ansible, call, events, path, extra_vars, limit)
            ended.add_done_callback(lambda _ended: events.put(None))
            try:
                _take(call, events, log)
            except BaseException:
                # What a task does on a host goes on there when Ansible is killed, and could come after what undoes it.
                try:
                    wait([ended], _GRACE_S)
                finally:
                    call.cancelled.set()
                wait([ended])
                events.put(None)  # the other one may have been taken already
                _take(call, events, log)
                raise
        ended.result()

    def _ansible(
        self,
        call: _Call,
        events: queue.SimpleQueue[JsonObject | None],
        path: Path,
        extra_vars: Mapping[str, Any],
        limit: Sequence[str] | None,
    ) -> None:
        import ansible_runner
        from ansible_runner.exceptions import AnsibleRunnerException

        def enqueue(event: JsonObject) -> bool:
            events.put(event)
            return False  # no copy of it on disk

        try:
            with tempfile.TemporaryDirectory(prefix="paretopipe-ansible-") as private:
                runner = ansible_runner.run(
                    private_data_dir=private,
                    project_dir=str(self._root),
                    playbook=str(path),
                    inventory=str(self._inventory),
                    extravars=dict(extra_vars),
                    limit=",".join(limit) if limit is not None else None,
                    quiet=True,
                    # Its own cache would be thrown away with the directory; ansible.cfg decides.
                    fact_cache_type="",
                    settings={"pexpect_timeout": _POLL_S, "suppress_output_file": True},
                    envvars={
                        "ANSIBLE_CONFIG": str(self._root / "ansible.cfg"),
                        # ansible-runner switches this off where it is not set.
                        "ANSIBLE_HOST_KEY_CHECKING": "True",
                        "ANSIBLE_NOCOLOR": "True",
                        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                    },
                    event_handler=enqueue,
                    # Without one, ansible-runner installs signal handlers that it never takes back.
                    cancel_callback=call.cancelled.is_set,
                )
                call.status = str(runner.status)
                if call.status == _CANCELLED:
                    _end_workers(private)
        except (AnsibleRunnerException, OSError) as error:
            raise PlaybookError("ansible", f"{path.name} could not be run: {error}", None, None) from error

    @contextmanager
    def _open_log(self, path: Path, limit: Sequence[str] | None) -> Iterator[TextIO | None]:
        if self._log is None:
            yield None
            return
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8", buffering=1) as log:
                whom = f" on {', '.join(limit)}" if limit is not None else ""
                log.write(f"\n# {datetime.now(UTC).isoformat(timespec='seconds')} {path.name}{whom}\n")
                yield log
        except OSError as error:
            raise PlaybookError(
                "ansible", f"cannot write {self._log}: {error.strerror}", None, "free some space"
            ) from error


def _take(call: _Call, events: queue.SimpleQueue[JsonObject | None], log: TextIO | None) -> None:
    """Keep and log events until the end."""
    while (event := events.get()) is not None:
        call.events.append(event)
        if log is not None and event.get("stdout"):
            log.write(event["stdout"].replace("\r\n", "\n") + "\n")


def _end_workers(private: str) -> None:
    """End what a killed ansible-playbook has left: its workers are leaders of sessions of their own.

    They are known by the directory that ansible-runner made for this one call and put into their environment.
    """
    import psutil

    left = [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("AWX_ISOLATED_DATA_DIR", "").startswith(private)
    ]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, 2)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _changed(events: Sequence[JsonObject]) -> dict[str, int] | None:
    """Host -> changed tasks, for all hosts that were touched; None where it never came to that."""
    for event in events:
        if event["event"] == "playbook_on_stats":
            data = event["event_data"]
            return {host: data["changed"].get(host, 0) for host in data["processed"]}
    return None
