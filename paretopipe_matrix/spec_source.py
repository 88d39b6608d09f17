"""Spec text and command line flags -> a checked spec, with messages that say where."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from paretopipe_matrix.errors import SpecError
from paretopipe_matrix.spec import Entry, Settings, Spec, Window
from paretopipe_matrix.yaml_source import Loc, parse_yaml, read_text

Where = Callable[[Loc], str]
BUILTIN_WEIGHTS = ("random", "factory")


@dataclass(frozen=True)
class LoadedSpec:
    """A checked spec, and where each of its values was written (`spec.yml:4`, `--split`)."""

    spec: Spec
    where: Where

    def where_entry(self, index: int, field: str) -> str:
        """Where the value that counts for a field of the n-th entry was written."""
        return self.where(self.loc_of(index, field))

    def loc_of(self, index: int, field: str) -> Loc:
        """Path of the value that counts for a field of the n-th entry."""
        matrix = self.spec.matrix
        return ("matrix", index, field) if matrix and field in matrix[index].model_fields_set else (field,)


def load_spec(path: Path | None, flags: Mapping[str, Any] | None = None) -> LoadedSpec:
    """Read a spec file (YAML or TOML by its suffix; None: all defaults), then apply flags, which win everywhere.

    `flags` maps a field (`window` holds a mapping) to its value. Raises SpecError with one line per mistake, each
    with file:line or flag, the key, what is wrong and what is valid.
    """
    if path is None:
        return parse_spec("", "default spec", ".yml", flags)
    return parse_spec(read_text(path, "spec", SpecError), str(path), path.suffix.lower(), flags)


def parse_spec(text: str, name: str, suffix: str, flags: Mapping[str, Any] | None = None) -> LoadedSpec:
    """`load_spec` on text."""
    flags = dict(flags or {})
    if suffix == ".toml":
        data, line_of = _toml(text, name)
    elif suffix in (".yml", ".yaml", ".json"):
        source = parse_yaml(text, name, SpecError)
        data, line_of = source.data, _longest(source.lines)
    else:
        raise SpecError(f"{name}: a spec is a .yml, .yaml, .json or .toml file")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SpecError(f"{name}:1: a spec is a mapping of keys such as models, splits, profiles")

    def where(loc: Loc) -> str:
        if loc and loc[0] in flags:
            return _flag(loc, flags)
        line = line_of(loc)
        return f"{name}:{line}" if line else name

    return LoadedSpec(_validated(_override(data, flags), where), where)


def stored_spec(data: Mapping[str, Any], run_file: Path) -> LoadedSpec:
    """The spec that a run.json holds; raises SpecError if this version cannot read it."""

    def where(loc: Loc) -> str:
        return str(run_file)

    return LoadedSpec(_validated(dict(data), where), where)


def check_paths(loaded: LoadedSpec) -> LoadedSpec:
    """Make weights and input paths absolute, relative ones counting from the current directory.

    Raises SpecError where one does not exist.
    """
    updates: dict[str, Any] = _absolute(loaded.spec, (), loaded.where)
    matrix = tuple(
        entry.model_copy(update=_absolute(entry, ("matrix", index), loaded.where))
        for index, entry in enumerate(loaded.spec.matrix)
    )
    return LoadedSpec(loaded.spec.model_copy(update=updates | {"matrix": matrix}), loaded.where)


def _absolute(settings: Settings, loc: Loc, where: Where) -> dict[str, str]:
    updates = {}
    fields = settings.model_fields_set
    if "weights" in fields and settings.weights not in BUILTIN_WEIGHTS:
        path = Path(settings.weights).expanduser().absolute()
        if not path.is_file():
            raise SpecError(
                f"{where((*loc, 'weights'))}: weights: no file {settings.weights}; "
                "valid: random, factory, or the path of a file"
            )
        updates["weights"] = str(path)
    kind, _, place = settings.input.partition(":")
    if "input" in fields and kind in ("folder", "cifar10"):
        path = Path(place).expanduser().absolute()
        if not path.exists():
            raise SpecError(f"{where((*loc, 'input'))}: input: {settings.input}: {place} does not exist")
        updates["input"] = f"{kind}:{path}"
    return updates


def _override(data: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {**data, **flags}
    if isinstance(merged.get("matrix"), list):
        merged["matrix"] = [
            {key: value for key, value in entry.items() if key not in flags} if isinstance(entry, dict) else entry
            for entry in merged["matrix"]
        ]
    # A window given by flags keeps what they do not mention, such as min_batches.
    if isinstance(flags.get("window"), dict) and isinstance(data.get("window"), dict):
        kept = dict(data["window"])
        if "batches" in flags["window"] or "seconds" in flags["window"]:
            kept = {key: value for key, value in kept.items() if key == "min_batches"}
        merged["window"] = kept | flags["window"]
    return merged


def _validated(data: dict[str, Any], where: Where) -> Spec:
    try:
        return Spec.model_validate(data)
    except ValidationError as error:
        raise SpecError("\n".join(_message(problem, where) for problem in error.errors())) from error


def _message(problem: ErrorDetails, where: Where) -> str:
    loc: Loc = problem["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".") or "spec"
    if problem["type"] == "extra_forbidden":
        valid = list(_model_at(loc).model_fields)
        close = difflib.get_close_matches(str(loc[-1]), valid, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{where(loc)}: {key}: unknown key{hint}; valid: {', '.join(valid)}"
    message = problem["msg"]
    if problem["type"] == "value_error":  # our own words
        return f"{where(loc)}: {key}: {message.removeprefix('Value error, ')}"
    return f"{where(loc)}: {key}: {message[0].lower()}{message[1:]} (got {problem['input']!r})"


def _model_at(loc: Loc) -> type[BaseModel]:
    if "window" in loc[:-1]:
        return Window
    return Entry if len(loc) > 2 and loc[0] == "matrix" else Spec


def _flag(loc: Loc, flags: Mapping[str, Any]) -> str:
    names = {"models": "model", "splits": "split", "backends": "backend", "engines": "engine", "profiles": "profile"}
    names |= {
        "batch_sizes": "batch-size",
        "depths": "depth",
        "pipelines": "pipeline",
        "input_encoding": "input-encoding",
    }
    name = str(loc[0])
    if name == "window":
        name = str(loc[1]) if len(loc) > 1 else next(iter(flags["window"]))
    return f"--{names.get(name, name).replace('_', '-')}"


def _longest(lines: Mapping[Loc, int]) -> Callable[[Loc], int | None]:
    def line_of(loc: Loc) -> int | None:
        for length in range(len(loc), 0, -1):
            if loc[:length] in lines:
                return lines[loc[:length]]
        return 1 if lines else None

    return line_of


_TOML_TABLE = re.compile(r"^\s*\[+\s*([\w.\-]+)\s*\]+")
_TOML_KEY = re.compile(r"^\s*\"?([\w\-]+)\"?\s*[.=]")
_INLINE_KEY = re.compile(r"[{,]\s*\"?([\w\-]+)\"?\s*=")


def _toml(text: str, name: str) -> tuple[Any, Callable[[Loc], int | None]]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+).*\)", str(error))
        line = found[1] if found else str(text.count("\n") + 1)
        raise SpecError(f"{name}:{line}: not valid TOML: {str(error).split(' (at ')[0]}") from error
    lines: dict[Loc, int] = {}
    table: Loc = ()
    entry = -1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TOML_TABLE.match(line):
            parts = header[1].split(".")
            if parts[0] == "matrix":
                entry += line.lstrip().startswith("[[") and len(parts) == 1
                table = ("matrix", entry, *parts[1:])
            else:
                table = tuple(parts)
            lines.setdefault(table, number)
        elif key := _TOML_KEY.match(line):
            loc = (*table, key[1])
            lines.setdefault(loc, number)
            for inner in _INLINE_KEY.finditer(line):
                lines.setdefault((*loc, inner[1]), number)
    return data, _longest(lines)
