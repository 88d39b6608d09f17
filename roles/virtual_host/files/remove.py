"""Remove what a record says was made, by exact name, and nothing else. Prints a JSON object with `removed`.

Usage: remove.py [--check] runtime DIRECTORY      what a restart would end: a host's processes, links, files under /run
       remove.py [--check] host DIRECTORY         a host with all its files
       remove.py [--check] machine DIRECTORY      bridge, switch and keys, where no host is recorded any more

Processes that run in a host's network namespace are the host's. Its first one began a process namespace too, which
the kernel ends with it (pid_namespaces(7)): so nothing survives where somebody has removed the network namespace's
name by hand. Names noted before this machine's last start are not trusted to be still ours.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACES = Path("/run/netns")
PATIENCE_S = 10.0


class RemovalError(Exception):
    """What could not be removed, and why, in a line."""


def ip(*arguments: str) -> str:
    """Run ip(8). Raises RemovalError with its complaint."""
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RemovalError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout


def made_since_boot(directory: Path) -> bool:
    """Whether what this directory records was made since the machine started."""
    noted = directory / "boot_id"
    return noted.is_file() and noted.read_text() == BOOT_ID.read_text()


def is_mounted(namespace: str) -> bool:
    """Whether this name stands for a namespace, and is not a plain file that outlived one."""
    path = NAMESPACES / namespace
    return path.exists() and path.stat().st_dev != NAMESPACES.stat().st_dev


def start_time(pid: int) -> str | None:
    """When a process started, in ticks: with the pid, its identity (proc_pid_stat(5)). None: it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def processes(directory: Path, namespace: str) -> dict[int, str]:
    """The host's processes: pid to start time."""
    pids = {int(pid) for pid in ip("netns", "pids", namespace).split()} if is_mounted(namespace) else set()
    found = {pid: started for pid in pids if (started := start_time(pid)) is not None}
    init = directory / "init"
    if init.is_file():
        pid, started = init.read_text().split()
        if start_time(int(pid)) == started:
            found[int(pid)] = started
    return found


def end(directory: Path, namespace: str) -> None:
    """Kill the host's processes, new ones too, until there are none. Raises RemovalError if they stay."""
    deadline = time.monotonic() + PATIENCE_S
    while left := processes(directory, namespace):
        if time.monotonic() > deadline:
            raise RemovalError(f"processes {sorted(left)} of namespace {namespace} do not end")
        for pid, started in left.items():
            if start_time(pid) == started:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def remove_namespace(name: str) -> None:
    """Remove a namespace's name; the namespace ends with its last process."""
    if is_mounted(name):
        ip("netns", "delete", name)
    else:
        (NAMESPACES / name).unlink(missing_ok=True)


class Removal:
    """What was removed; with `check`, what would be."""

    def __init__(self, *, check: bool) -> None:
        self._check = check
        self.removed: list[str] = []

    def note(self, what: str) -> bool:
        """Note a thing; True: do it."""
        self.removed.append(what)
        return not self._check

    def runtime(self, directory: Path, record: dict[str, Any]) -> None:
        """Processes, namespace and links of a host."""
        namespace, port = record["namespace"], record["control_port"]
        fresh = made_since_boot(directory)
        if fresh and (left := processes(directory, namespace)) and self.note(f"{len(left)} processes of {namespace}"):
            end(directory, namespace)
        if (fresh or not is_mounted(namespace)) and (NAMESPACES / namespace).exists():
            self.namespace(namespace)
        # The data link ends with the namespace; the kernel takes its time for that, so the port goes by name.
        if fresh:
            self.link(port)
            if is_mounted(record["switch"]):
                self.link(record["data_port"], record["switch"])
        # A machine that starts finds /run empty (file-hierarchy(7)), and programs rely on that.
        for path in record["directories"]:
            if path.startswith("/run/"):
                self.tree(Path(path))
        for name in ("init", "boot_id"):
            if not self._check:
                (directory / name).unlink(missing_ok=True)

    def namespace(self, name: str) -> None:
        """One namespace."""
        if self.note(f"namespace {name}"):
            remove_namespace(name)

    def link(self, name: str, namespace: str | None = None) -> None:
        """One link, which may be ending by itself at this moment."""
        within = ["-n", namespace] if namespace else []
        present = {link["ifname"] for link in json.loads(ip(*within, "-j", "link") or "[]")}
        if name in present and self.note(f"link {name}"):
            try:
                ip(*within, "link", "delete", name)
            except RemovalError as error:
                if "Cannot find device" not in str(error):
                    raise

    def tree(self, path: Path) -> None:
        """A directory with what is in it, and the one above it if that is left empty and is not /opt or the like."""
        if path.exists() and self.note(str(path)):
            shutil.rmtree(path)
        if len(path.parts) > 3 and path.parent.is_dir() and not any(path.parent.iterdir()) and not self._check:
            path.parent.rmdir()

    def host(self, directory: Path, record: dict[str, Any]) -> None:
        """A host: everything."""
        self.runtime(directory, record)
        for path in record["directories"]:
            self.tree(Path(path))
        if self.note(str(directory)):
            shutil.rmtree(directory)

    def machine(self, directory: Path) -> None:
        """What the hosts share, where there are none any more."""
        record = directory / "machine.json"
        if not record.is_file() or list(directory.glob("*/record.json")):
            return
        names = json.loads(record.read_text())
        fresh = made_since_boot(directory)
        if fresh:
            self.link(names["bridge"])
        if (NAMESPACES / names["switch"]).exists() and (fresh or not is_mounted(names["switch"])):
            self.namespace(names["switch"])
        self.tree(directory)


def recorded(directories: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Those directories that hold a host's record, with it."""
    for directory in directories:
        if (directory / "record.json").is_file():
            yield directory, json.loads((directory / "record.json").read_text())


def main(arguments: list[str]) -> int:
    """Remove, and report."""
    check = arguments[0] == "--check"
    what, directory = arguments[check], Path(arguments[check + 1])
    removal = Removal(check=check)
    try:
        if what == "machine":
            removal.machine(directory)
        for found, record in recorded([directory] if what in ("runtime", "host") else []):
            (removal.runtime if what == "runtime" else removal.host)(found, record)
    except (RemovalError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({"removed": removal.removed}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
