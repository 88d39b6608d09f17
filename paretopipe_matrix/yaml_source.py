"""YAML text as data that remembers its lines, without YAML 1.1's traps for a spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from paretopipe_matrix.errors import UserError

Loc = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader in which `3:9` is text (YAML 1.1 reads it as 3 x 60 + 9), and Ansible's own tags are opaque text."""


def _without_sexagesimal() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    plain = {
        "tag:yaml.org,2002:int": re.compile(r"^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]+|0|[1-9][0-9_]*)$"),
        "tag:yaml.org,2002:float": re.compile(
            r"^([-+]?(\d[\d_]*\.[\d_]*([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.\d[\d_]*([eE][-+]?\d+)?|\.(inf|Inf|INF))"
            r"|\.(nan|NaN|NAN))$"
        ),
    }
    return {
        first: [(tag, plain.get(tag, regexp)) for tag, regexp in resolvers]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _opaque(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    return str(node.value)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    """A string; PyYAML leaves JSON's escaped surrogate pairs as two code points, which no file or terminal takes."""
    value = str(loader.construct_scalar(node))
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_Loader.yaml_implicit_resolvers = _without_sexagesimal()
_Loader.add_constructor("tag:yaml.org,2002:str", _text)
for _tag in ("!vault", "!vault-encrypted", "!unsafe"):
    _Loader.add_constructor(_tag, _opaque)


@dataclass(frozen=True)
class YamlSource:
    """Parsed YAML, and the line of every key and list item."""

    data: Any
    lines: Mapping[Loc, int]


def parse_yaml(text: str, name: str, error: type[UserError]) -> YamlSource:
    """Parse YAML text.

    Raises `error` naming `name` and the line for bad syntax and for a key given twice (PyYAML would keep the last).
    """
    lines: dict[Loc, int] = {}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return YamlSource(None, {})
        _collect(node, (), lines, name, error)
        return YamlSource(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else 1
        raise error(f"{name}:{line}: not valid YAML: {problem.problem or problem.context}") from problem
    except yaml.YAMLError as problem:
        raise error(f"{name}: not valid YAML: {problem}") from problem
    finally:
        loader.dispose()


def read_yaml(path: Path, what: str, error: type[UserError], remedy: str = "") -> YamlSource:
    """Read and parse a file; `what` and `remedy` word the message when it cannot be read."""
    return parse_yaml(read_text(path, what, error, remedy), str(path), error)


def read_text(path: Path, what: str, error: type[UserError], remedy: str = "") -> str:
    """Read a UTF-8 file; raises `error` naming it if that fails."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise error(f"{path}: cannot read the {what}: {problem.strerror}{remedy}") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{path}: cannot read the {what}: not UTF-8 text") from problem


def _collect(node: yaml.Node, path: Loc, lines: dict[Loc, int], name: str, error: type[UserError]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            inner = (*path, str(key.value))
            if inner in lines and key.tag != "tag:yaml.org,2002:merge":
                raise error(f"{name}:{line}: {key.value}: given twice (first on line {lines[inner]})")
            lines[inner] = line
            _collect(value, inner, lines, name, error)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*path, index] = item.start_mark.line + 1
            _collect(item, (*path, index), lines, name, error)
