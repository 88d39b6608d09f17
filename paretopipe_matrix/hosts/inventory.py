"""The Ansible inventory as the controller needs it: hosts with their variables, and pipelines.

Only variables named `paretopipe_*` and those of the connection are looked at. Of templates, `{{ inventory_dir }}`
and `{{ inventory_hostname }}` are filled in.
"""

from __future__ import annotations

import difflib
import ipaddress
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from paretopipe_matrix.choices import DEVICES, ENGINES, is_device
from paretopipe_matrix.errors import InventoryError
from paretopipe_matrix.hosts.connection import CONNECTION_VARIABLES, SshTarget, ssh_target
from paretopipe_matrix.hosts.groups import Groups, fill_in
from paretopipe_matrix.testbed import JsonObject

_HOST_VARIABLES = (
    "paretopipe_data_address",
    "paretopipe_data_interface",
    "paretopipe_data_port",
    "paretopipe_cpus",
    "paretopipe_threads",
    "paretopipe_device",
    "paretopipe_engine",
    "paretopipe_python",
    "paretopipe_root",
    "paretopipe_state_dir",
)
# Read by the roles alone, which check them.
_ROLE_VARIABLES = (
    "paretopipe_torch_flavour",
    "paretopipe_extras",
    "paretopipe_wheel_dir",
    "paretopipe_shared_packages",
    "paretopipe_manage_system",
)
_VARIABLES = (*_HOST_VARIABLES, *_ROLE_VARIABLES, "paretopipe_pipelines")
_FILLED = (*_HOST_VARIABLES, *CONNECTION_VARIABLES)
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class HostVars:
    """One host. `cpus` and `threads` may be `"auto"`: what that means is settled where the host runs."""

    name: str
    connection: str = "local"
    """`local`, or `ssh` with `ssh` saying how."""
    data_address: str = _LOOPBACK
    data_port: int = 0
    cpus: str | tuple[int, ...] = "auto"
    threads: str | int = "auto"
    device: str = "cpu"
    python: str | None = sys.executable
    """Interpreter of a local host's agent; None for an ssh host, which has its own under `root`."""
    data_interface: str | None = None
    root: str = "/opt/paretopipe"
    state_dir: str = "/run/paretopipe"
    ssh: SshTarget | None = None
    engine: str = "best"
    """What a cell's engine `best` means there; `best`: the fastest, found by profiling."""

    def as_json(self) -> JsonObject:
        """The host as run.json keeps it."""
        return asdict(self) | {
            "cpus": self.cpus if isinstance(self.cpus, str) else list(self.cpus),
            "ssh": self.ssh.as_json() if self.ssh else None,
        }


@dataclass(frozen=True)
class Inventory:
    """Hosts and pipelines of one inventory file; the first pipeline is the default."""

    path: Path
    hosts: Mapping[str, HostVars]
    pipelines: Mapping[str, tuple[str, ...]]

    def pipeline(self, name: str) -> tuple[str, ...]:
        """The hosts of a pipeline, in order; raises InventoryError naming the known pipelines and the file."""
        if name in self.pipelines:
            return self.pipelines[name]
        raise InventoryError(f"unknown pipeline {name!r}{_close(name, self.pipelines)}; {self._has()}")

    def is_local(self, pipeline: str) -> bool:
        """Whether all hosts of a pipeline are this machine: then the link model stands in for the network."""
        return all(self.hosts[host].connection == "local" for host in self.pipeline(pipeline))

    def default_pipeline(self) -> str:
        """The first pipeline of the file."""
        return next(iter(self.pipelines))

    def _has(self) -> str:
        return f"{self.path} has: {', '.join(self.pipelines)}"

    def as_json(self) -> JsonObject:
        """The inventory as run.json keeps it."""
        return {
            "path": str(self.path.absolute()),
            "hosts": {name: host.as_json() for name, host in self.hosts.items()},
            "pipelines": {name: list(hosts) for name, hosts in self.pipelines.items()},
        }


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def load_inventory(path: Path) -> Inventory:
    """Read an inventory file.

    Raises InventoryError naming file, host and variable, with what may be written there.
    """
    groups = Groups(path)
    if not groups.hosts:
        raise InventoryError(f"{path}: has no hosts")
    variables = {name: groups.host_variables(name) for name in groups.hosts}
    # Pipelines belong to the whole inventory, so every host that knows them knows the same ones.
    named = groups.variables("all").get("paretopipe_pipelines")
    hosts = {name: _Host(path, name, values).read() for name, values in variables.items()}
    pipelines = _pipelines(path, named, hosts)
    addressed = {name for name, values in variables.items() if "paretopipe_data_address" in values}
    _require_data_addresses(path, hosts, pipelines, addressed)
    return Inventory(path, hosts, pipelines)


class _Host:
    """One host while its variables are read."""

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]) -> None:
        self._where = f"{path}: host {name}"
        self._name = name
        for variable in values:
            if variable.startswith("paretopipe_") and variable not in _VARIABLES:
                raise self._fail(
                    variable, f"unknown variable{_close(variable, _VARIABLES)}; valid: {', '.join(_VARIABLES)}"
                )
        known = {"inventory_dir": str(path.parent.absolute()), "inventory_hostname": name}
        self._values = {
            # Passwords come along for their names, never for their values.
            variable: self._filled(variable, value, known)
            if variable in _HOST_VARIABLES + CONNECTION_VARIABLES
            else value
            for variable, value in values.items()
        }

    def _fail(self, variable: str, message: str) -> InventoryError:
        return InventoryError(f"{self._where}: {variable}: {message}")

    def _filled(self, variable: str, value: Any, known: Mapping[str, str]) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return fill_in(value, known)
        except ValueError as error:
            raise self._fail(variable, str(error)) from error

    def read(self) -> HostVars:
        """The host; raises InventoryError."""
        connection = self._values.get("ansible_connection", "ssh")
        if connection == "smart":
            connection = "ssh"
        if connection not in ("local", "ssh"):
            raise self._fail("ansible_connection", f"{connection!r}: valid: local, ssh")
        local = connection == "local"
        return HostVars(
            self._name,
            connection,
            self._address(),
            self._port(),
            self._cpus(),
            self._threads(),
            self._device(),
            self._text("paretopipe_python", sys.executable) if local else None,
            self._interface(),
            self._directory("paretopipe_root", "/opt/paretopipe"),
            self._directory("paretopipe_state_dir", "/run/paretopipe"),
            None if local else ssh_target(self._name, self._values, self._fail),
            self._engine(),
        )

    def _text(self, variable: str, default: str) -> str:
        value = self._values.get(variable, default)
        if not isinstance(value, str) or not value:
            raise self._fail(variable, f"{value!r}: must be text")
        return value

    def _address(self) -> str:
        text = self._text("paretopipe_data_address", _LOOPBACK)
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise self._fail("paretopipe_data_address", f"{text!r}: must be an IP address such as 10.0.0.1") from None

    def _interface(self) -> str | None:
        if self._values.get("paretopipe_data_interface") is None:
            return None
        name = self._text("paretopipe_data_interface", "")
        # IFNAMSIZ of linux/if.h is 16 with the final zero.
        if len(name) > 15 or "/" in name or any(letter.isspace() for letter in name):
            raise self._fail("paretopipe_data_interface", f"{name!r}: must be the name of an interface such as eth0")
        return name

    def _directory(self, variable: str, default: str) -> str:
        text = self._text(variable, default)
        path = PurePosixPath(text)
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
            raise self._fail(variable, f"{text!r}: must be an absolute path such as {default}")
        return str(path)

    def _device(self) -> str:
        device = self._text("paretopipe_device", "cpu")
        if not is_device(device):
            raise self._fail("paretopipe_device", f"{device!r}: valid: {DEVICES}")
        return device

    def _engine(self) -> str:
        engine = self._text("paretopipe_engine", "best")
        if engine not in ENGINES:
            raise self._fail("paretopipe_engine", f"{engine!r}{_close(engine, ENGINES)}: valid: {', '.join(ENGINES)}")
        return engine

    def _port(self) -> int:
        port = self._values.get("paretopipe_data_port", 0)
        if not _whole(port) or not 0 <= port <= 65535:
            raise self._fail("paretopipe_data_port", f"{port!r}: must be a port, or 0 for any free one")
        return int(port)

    def _threads(self) -> str | int:
        threads = self._values.get("paretopipe_threads", "auto")
        if threads == "auto":
            return "auto"
        if not _whole(threads) or threads < 1:
            raise self._fail("paretopipe_threads", f"{threads!r}: must be auto or a whole number from 1")
        return int(threads)

    def _cpus(self) -> str | tuple[int, ...]:
        cpus = self._values.get("paretopipe_cpus", "auto")
        if cpus == "auto":
            return "auto"
        if not isinstance(cpus, list) or not cpus or not all(_whole(cpu) and cpu >= 0 for cpu in cpus):
            raise self._fail("paretopipe_cpus", f"{cpus!r}: must be auto or a list of cores such as [0, 1]")
        return tuple(sorted(set(cpus)))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _pipelines(path: Path, value: Any, hosts: Mapping[str, HostVars]) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict) or not value:
        raise InventoryError(
            f"{path}: no pipelines; set paretopipe_pipelines under all/vars, such as {{local: [edge, server]}}"
        )
    pipelines: dict[str, tuple[str, ...]] = {}
    for name, members in value.items():
        where = f"{path}: paretopipe_pipelines: {name}"
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise InventoryError(f"{where}: {members!r}: must be a list of hosts in pipeline order")
        if len(members) < 2:
            raise InventoryError(f"{where}: needs at least two hosts (one alone is what split N measures)")
        for member in members:
            if member not in hosts:
                raise InventoryError(
                    f"{where}: unknown host {member!r}{_close(member, hosts)}; {path} has: {', '.join(hosts)}"
                )
            if members.count(member) > 1:
                raise InventoryError(f"{where}: host {member!r} is named twice")
        pipelines[str(name)] = tuple(members)
    return pipelines


def _require_data_addresses(
    path: Path, hosts: Mapping[str, HostVars], pipelines: Mapping[str, tuple[str, ...]], addressed: set[str]
) -> None:
    """Raise InventoryError for a host that would listen on its own loopback for a neighbour elsewhere."""
    for pipeline, members in pipelines.items():
        if all(hosts[name].connection == "local" for name in members):
            continue
        for name in members:
            if name not in addressed:
                raise InventoryError(
                    f"{path}: host {name}: paretopipe_data_address is not set, and nobody else reaches the default "
                    f"{_LOOPBACK}; set it to the host's IP address on the network of pipeline {pipeline}"
                )
