"""Reading a YAML inventory: hosts, groups, and the variables that count for each, merged as Ansible merges them.

PyYAML alone, without Ansible: groups, children, `vars`, and the `group_vars/` and `host_vars/` beside the inventory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paretopipe_matrix.errors import InventoryError
from paretopipe_matrix.yaml_source import parse_yaml, read_text

_GROUP_KEYS = ("hosts", "children", "vars")
_VARIABLE_SUFFIXES = ("", ".yml", ".yaml", ".json")
_TEMPLATE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Groups:
    """Groups of one inventory file: parents before children, as Ansible merges them.

    The constructor raises InventoryError naming the file and what is wrong there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._depth: dict[str, int] = {}
        self._parents: dict[str, set[str]] = {}
        self._inline: dict[str, dict[str, Any]] = {}
        self._members: dict[str, set[str]] = {}
        self._hosts: dict[str, dict[str, Any]] = {}
        remedy = "; run from the repository, or name one with --inventory"
        data = parse_yaml(read_text(path, "inventory", InventoryError, remedy), str(path), InventoryError).data
        if not isinstance(data, dict):
            raise InventoryError(f"{path}: must be a YAML inventory (all: {{hosts: ..., vars: ...}})")
        for name, body in data.items():
            self._add(str(name), body, parent=None if name == "all" else "all")

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of all hosts, in the order of the file."""
        return tuple(self._hosts)

    def _add(self, name: str, body: Any, parent: str | None, depth: int = 0) -> None:
        """Take in one group and, below it, its children."""
        body = self._mapping(body, f"group {name}")
        for key in body:
            if key not in _GROUP_KEYS:
                raise InventoryError(
                    f"{self._path}: group {name}: unknown key {key!r}; valid: {', '.join(_GROUP_KEYS)}"
                )
        depth = depth if name == "all" else max(depth, 1)
        if depth > 50:
            raise InventoryError(f"{self._path}: group {name}: is its own ancestor")
        self._depth[name] = max(depth, self._depth.get(name, 0))
        if parent is not None:
            self._parents.setdefault(name, set()).add(parent)
        self._inline.setdefault(name, {}).update(self._mapping(body.get("vars"), f"vars of group {name}"))
        for host, values in self._mapping(body.get("hosts"), f"hosts of group {name}").items():
            self._hosts.setdefault(str(host), {}).update(self._mapping(values, f"host {host}"))
            self._members.setdefault(name, set()).add(str(host))
        for child, child_body in self._mapping(body.get("children"), f"children of group {name}").items():
            self._add(str(child), child_body, parent=name, depth=depth + 1)

    def variables(self, group: str) -> dict[str, Any]:
        """Variables set on the group itself, its file under group_vars/ winning over the inventory's."""
        return self._inline.get(group, {}) | self._file("group_vars", group)

    def host_variables(self, host: str) -> dict[str, Any]:
        """What counts for a host: `all`, groups from the outside in (alphabetical within a level), its own."""
        own = {name for name, members in self._members.items() if host in members}
        reached = {"all"}
        while own:
            name = own.pop()
            reached.add(name)
            own |= self._parents.get(name, set()) - reached
        merged: dict[str, Any] = {}
        for name in sorted(reached, key=lambda group: (group != "all", self._depth.get(group, 0), group)):
            merged |= self.variables(name)
        return merged | self._hosts[host] | self._file("host_vars", host)

    def _file(self, folder: str, name: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for path in self._variable_files(self._path.parent / folder, name):
            text = read_text(path, "variables", InventoryError)
            if text.startswith("$ANSIBLE_VAULT"):  # secrets: none of our variables belong there
                continue
            merged |= self._mapping(parse_yaml(text, str(path), InventoryError).data, str(path))
        return merged

    @staticmethod
    def _variable_files(folder: Path, name: str) -> Iterator[Path]:
        """The first of NAME, NAME.yml, NAME.yaml and NAME.json that exists, as Ansible looks; a folder means its files.

        Source: `DataLoader.find_vars_files` of ansible-core.
        """
        for suffix in _VARIABLE_SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                yield path
                return
            if path.is_dir():
                yield from sorted(
                    file
                    for file in path.rglob("*")
                    if file.is_file() and file.suffix in _VARIABLE_SUFFIXES and not file.name.startswith(".")
                )
                return

    def _mapping(self, value: Any, what: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InventoryError(f"{self._path}: {what}: must be a mapping, not {value!r}")
        return value


def fill_in(text: str, known: Mapping[str, str]) -> str:
    """Replace `{{ name }}` for the known names.

    Raises ValueError for any other template: Ansible's language is not evaluated here.
    """
    filled = _TEMPLATE.sub(lambda found: known.get(found[1], found[0]), text)
    if "{{" in filled or "{%" in filled:
        names = ", ".join(f"{{{{ {name} }}}}" for name in known)
        raise ValueError(f"{text!r}: templates are not evaluated here, except {names}; write the value itself")
    return filled
