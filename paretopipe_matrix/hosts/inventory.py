"""The Ansible inventory as the controller needs it: hosts with their variables, and pipelines.

Read with PyYAML alone: groups, children, `vars`, and the `group_vars/` and `host_vars/` files beside the inventory.
Templates are not evaluated; only variables named `paretopipe_*` and `ansible_connection` are looked at.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paretopipe_matrix.errors import InventoryError
from paretopipe_matrix.testbed import JsonObject
from paretopipe_matrix.yaml_source import parse_yaml, read_text

_HOST_VARIABLES = (
    "paretopipe_data_address",
    "paretopipe_data_port",
    "paretopipe_cpus",
    "paretopipe_threads",
    "paretopipe_device",
    "paretopipe_python",
)
_VARIABLES = (*_HOST_VARIABLES, "paretopipe_pipelines")
_GROUP_KEYS = ("hosts", "children", "vars")


@dataclass(frozen=True)
class HostVars:
    """One host. `cpus` and `threads` may be `"auto"`: see `assign_cpus`."""

    name: str
    connection: str = "local"
    data_address: str = "127.0.0.1"
    data_port: int = 0
    cpus: str | tuple[int, ...] = "auto"
    threads: str | int = "auto"
    device: str = "cpu"
    python: str = sys.executable


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

    def default_pipeline(self) -> str:
        """The first pipeline of the file."""
        return next(iter(self.pipelines))

    def _has(self) -> str:
        return f"{self.path} has: {', '.join(self.pipelines)}"

    def as_json(self) -> JsonObject:
        """The inventory as run.json keeps it."""
        return {
            "path": str(self.path.absolute()),
            "hosts": {name: asdict(host) | {"cpus": _plain(host.cpus)} for name, host in self.hosts.items()},
            "pipelines": {name: list(hosts) for name, hosts in self.pipelines.items()},
        }


@dataclass(frozen=True)
class Placement:
    """The cores and threads of one host of a pipeline; `cpus_shared` where another host has one of them too."""

    cpus: tuple[int, ...]
    threads: int
    cpus_shared: bool


def _plain(cpus: str | tuple[int, ...]) -> str | list[int]:
    return cpus if isinstance(cpus, str) else list(cpus)


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def load_inventory(path: Path) -> Inventory:
    """Read an inventory file.

    Raises InventoryError naming file, host and variable, with what may be written there.
    """
    remedy = "; run from the repository, or name one with --inventory"
    data = parse_yaml(read_text(path, "inventory", InventoryError, remedy), str(path), InventoryError).data
    if not isinstance(data, dict):
        raise InventoryError(f"{path}: must be a YAML inventory (all: {{hosts: ..., vars: ...}})")
    groups = _Groups(path)
    for name, body in data.items():
        groups.add(str(name), body, parent=None if name == "all" else "all")
    variables = {name: groups.host_variables(name) for name in groups.hosts}
    if not variables:
        raise InventoryError(f"{path}: has no hosts")
    # Pipelines belong to the whole inventory, so every host that knows them knows the same ones.
    pipelines = groups.variables("all").get("paretopipe_pipelines")
    hosts = {name: _host(path, name, values) for name, values in variables.items()}
    return Inventory(path, hosts, _pipelines(path, pipelines, hosts))


class _Groups:
    """Groups while they are read: parents before children, as Ansible merges them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.depth: dict[str, int] = {}
        self.parents: dict[str, set[str]] = {}
        self.inline: dict[str, dict[str, Any]] = {}
        self.members: dict[str, set[str]] = {}
        self.hosts: dict[str, dict[str, Any]] = {}

    def add(self, name: str, body: Any, parent: str | None, depth: int = 0) -> None:
        """Take in one group and, below it, its children."""
        body = self._mapping(body, f"group {name}")
        for key in body:
            if key not in _GROUP_KEYS:
                raise InventoryError(f"{self.path}: group {name}: unknown key {key!r}; valid: {', '.join(_GROUP_KEYS)}")
        depth = depth if name == "all" else max(depth, 1)
        if depth > 50:
            raise InventoryError(f"{self.path}: group {name}: is its own ancestor")
        self.depth[name] = max(depth, self.depth.get(name, 0))
        if parent is not None:
            self.parents.setdefault(name, set()).add(parent)
        self.inline.setdefault(name, {}).update(self._mapping(body.get("vars"), f"vars of group {name}"))
        for host, values in self._mapping(body.get("hosts"), f"hosts of group {name}").items():
            self.hosts.setdefault(str(host), {}).update(self._mapping(values, f"host {host}"))
            self.members.setdefault(name, set()).add(str(host))
        for child, child_body in self._mapping(body.get("children"), f"children of group {name}").items():
            self.add(str(child), child_body, parent=name, depth=depth + 1)

    def variables(self, group: str) -> dict[str, Any]:
        """Variables set on the group itself, its file under group_vars/ winning over the inventory's."""
        return self.inline.get(group, {}) | self._file("group_vars", group)

    def host_variables(self, host: str) -> dict[str, Any]:
        """What counts for a host: `all`, groups from the outside in (alphabetical within a level), its own."""
        own = {name for name, members in self.members.items() if host in members}
        reached = {"all"}
        while own:
            name = own.pop()
            reached.add(name)
            own |= self.parents.get(name, set()) - reached
        merged: dict[str, Any] = {}
        for name in sorted(reached, key=lambda group: (group != "all", self.depth.get(group, 0), group)):
            merged |= self.variables(name)
        return merged | self.hosts[host] | self._file("host_vars", host)

    def _file(self, folder: str, name: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for suffix in (".yml", ".yaml"):
            path = self.path.parent / folder / f"{name}{suffix}"
            if not path.is_file():
                continue
            text = read_text(path, "variables", InventoryError)
            if text.startswith("$ANSIBLE_VAULT"):  # secrets: none of our variables belong there
                continue
            merged |= self._mapping(parse_yaml(text, str(path), InventoryError).data, str(path))
        return merged

    def _mapping(self, value: Any, what: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InventoryError(f"{self.path}: {what}: must be a mapping, not {value!r}")
        return value


def _host(path: Path, name: str, values: Mapping[str, Any]) -> HostVars:
    def fail(variable: str, message: str) -> InventoryError:
        return InventoryError(f"{path}: host {name}: {variable}: {message}")

    for variable in values:
        if variable.startswith("paretopipe_") and variable not in _VARIABLES:
            raise fail(variable, f"unknown variable{_close(variable, _VARIABLES)}; valid: {', '.join(_VARIABLES)}")
    ours = {variable: values[variable] for variable in _HOST_VARIABLES if variable in values}
    for variable, value in ours.items():
        if isinstance(value, str) and "{{" in value:
            raise fail(variable, f"{value!r}: templates are not evaluated here; write the value itself")
    connection = values.get("ansible_connection", "ssh")
    if connection != "local":
        raise fail(
            "ansible_connection",
            f"{connection!r}: remote hosts are not supported by this version yet; set ansible_connection: local",
        )
    device = ours.get("paretopipe_device", "cpu")
    if device != "cpu":
        raise fail("paretopipe_device", f"{device!r} is not supported by this version; valid: cpu")
    port = ours.get("paretopipe_data_port", 0)
    if not _whole(port) or not 0 <= port <= 65535:
        raise fail("paretopipe_data_port", f"{port!r}: must be a port, or 0 for any free one")
    threads = ours.get("paretopipe_threads", "auto")
    if threads != "auto" and not (_whole(threads) and threads >= 1):
        raise fail("paretopipe_threads", f"{threads!r}: must be auto or a whole number from 1")
    cpus = ours.get("paretopipe_cpus", "auto")
    if cpus != "auto":
        if not isinstance(cpus, list) or not cpus or not all(_whole(cpu) and cpu >= 0 for cpu in cpus):
            raise fail("paretopipe_cpus", f"{cpus!r}: must be auto or a list of cores such as [0, 1]")
        cpus = tuple(sorted(set(cpus)))
    texts = {
        "data_address": ours.get("paretopipe_data_address", "127.0.0.1"),
        "python": ours.get("paretopipe_python", sys.executable),
    }
    for variable, value in texts.items():
        if not isinstance(value, str) or not value:
            raise fail(f"paretopipe_{variable}", f"{value!r}: must be text")
    return HostVars(name, connection, texts["data_address"], port, cpus, threads, device, texts["python"])


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


def assign_cpus(hosts: Sequence[HostVars], available: set[int]) -> dict[str, Placement]:
    """Cores and threads for the hosts of one pipeline that run on this machine.

    Listed cores are taken as they are. Hosts with `auto` get one core each of what is left, where there are enough
    for all of them; otherwise they share all available cores. `auto` threads: as many as the host has cores.

    Raises InventoryError for a listed core that is not available.
    """
    for host in hosts:
        missing = [] if isinstance(host.cpus, str) else sorted(set(host.cpus) - available)
        if missing:
            raise InventoryError(
                f"host {host.name}: paretopipe_cpus: no core {missing[0]} here; available: {sorted(available)}"
            )
    auto = [host.name for host in hosts if isinstance(host.cpus, str)]
    listed = {cpu for host in hosts if not isinstance(host.cpus, str) for cpu in host.cpus}
    free = sorted(available - listed)
    enough = len(free) >= len(auto)
    cpus: dict[str, tuple[int, ...]] = {}
    for host in hosts:
        if not isinstance(host.cpus, str):
            cpus[host.name] = host.cpus
        else:
            cpus[host.name] = (free[auto.index(host.name)],) if enough else tuple(sorted(available))
    return {
        host.name: Placement(
            cpus=cpus[host.name],
            threads=len(cpus[host.name]) if isinstance(host.threads, str) else host.threads,
            cpus_shared=any(set(cpus[host.name]) & set(cpus[other.name]) for other in hosts if other.name != host.name),
        )
        for host in hosts
    }
