"""What a run is to measure. Every field has a default, so that an empty spec is a sensible first run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, model_validator

from paretopipe_matrix.choices import ENGINES
from paretopipe_matrix.selection import parse_selectors
from paretopipe_runtime.transport.backends import BACKENDS

MAX_STREAMS = 64
_MODEL = re.compile(r"^[A-Za-z_]\w*(\.\w+)*(:[A-Za-z_]\w*)?$")

PositiveInt = Annotated[int, Field(strict=True, ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _items(value: Any) -> list[Any]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        items = [part.strip() for part in value.split(",") if part.strip()]
    if not items:
        raise ValueError("must name at least one")
    return items


def _texts(value: Any) -> tuple[str, ...]:
    items = _items(value)
    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"{item!r} is not a name")
    return tuple(dict.fromkeys(items))


def _whole(items: Iterable[Any]) -> tuple[int, ...]:
    numbers = []
    for item in items:
        number = int(item) if isinstance(item, str) and item.isdecimal() else item
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{item!r} is not a whole number from 1")
        numbers.append(number)
    return tuple(dict.fromkeys(numbers))


def _models(value: Any) -> tuple[str, ...]:
    for name in _texts(value):
        if not _MODEL.match(name):
            raise ValueError(f"{name!r} is neither a torchvision name (mobilenet_v2) nor package.module:factory")
    return _texts(value)


def _splits(value: Any) -> tuple[str, ...]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ValueError(f"{item!r} is not a split; valid: all, P3, 3, 3:9, features.2, 0, N, comma lists")
    terms = parse_selectors(str(item) for item in items)
    if not terms:
        raise ValueError("must name at least one split; valid: all, P3, 3, 3:9, features.2, 0, N, comma lists")
    return terms


def _depths(value: Any) -> Literal["auto"] | tuple[int, ...]:
    if value == "auto":
        return "auto"
    try:
        return tuple(sorted(_whole(_items(value))))
    except ValueError as error:
        raise ValueError(f"{error}; valid: auto, or whole numbers such as 1,2,4") from error


def _available(kind: str, available: tuple[str, ...], value: Any) -> tuple[str, ...]:
    for name in _texts(value):
        if name not in available:
            close = difflib.get_close_matches(name, available, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"unknown {kind} {name!r}{hint}; valid: {', '.join(available)}")
    return _texts(value)


def _streams(value: Any) -> Literal["auto"] | int:
    if value == "auto":
        return "auto"
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_STREAMS:
        raise ValueError(f"{value!r}: valid: auto, or a whole number from 1 to {MAX_STREAMS}")
    return number


def _input(value: Any) -> str:
    if isinstance(value, str) and re.match(r"^(synthetic(:[1-9]\d*)?|(folder|cifar10):.+)$", value):
        return value
    raise ValueError(f"{value!r}: valid: synthetic, synthetic:32, folder:PATH, cifar10:PATH")


# Plain validators return tuples, whatever the text had; JSON has lists.
_AS_LIST = PlainSerializer(lambda value: value if isinstance(value, str) else list(value))
Names = Annotated[tuple[str, ...], PlainValidator(_texts), _AS_LIST]


class Window(BaseModel):
    """A window ends after `batches`, or after `seconds` but not before `min_batches`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batches: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    min_batches: PositiveInt = 5

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("batches") is not None and value.get("seconds") is not None:
                raise ValueError("give either batches or seconds, not both")
            if value.get("batches") is None and value.get("seconds") is None:
                return value | {"seconds": 1.0}
        return value


class Settings(BaseModel):
    """The axes of the matrix and how a cell is measured; an entry of `matrix` may override each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Annotated[tuple[str, ...], PlainValidator(_models), _AS_LIST] = ("mobilenet_v2",)
    splits: Annotated[tuple[str, ...], PlainValidator(_splits), _AS_LIST] = ("all",)
    granularity: Literal["block", "node"] = "block"
    backends: Annotated[
        tuple[str, ...], PlainValidator(lambda v: _available("backend", tuple(BACKENDS), v)), _AS_LIST
    ] = ("socket",)
    engines: Annotated[tuple[str, ...], PlainValidator(lambda v: _available("engine", ENGINES, v)), _AS_LIST] = (
        "eager",
    )
    profiles: Names = ("lan",)
    batch_sizes: Annotated[tuple[int, ...], PlainValidator(lambda v: _whole(_items(v))), _AS_LIST] = (8,)
    depths: Annotated[Literal["auto"] | tuple[int, ...], PlainValidator(_depths), _AS_LIST] = (1, 2, 4)
    pipelines: Names = ()
    """Empty until resolved: the inventory's first."""
    weights: Annotated[str, Field(min_length=1)] = "random"
    input: Annotated[str, PlainValidator(_input)] = "synthetic"
    input_encoding: Literal["raw", "jpeg"] = "raw"
    streams: Annotated[Literal["auto"] | int, PlainValidator(_streams)] = "auto"
    """TCP connections per hop of the socket backend; `auto`: see `paretopipe_matrix.streams`."""
    window: Window = Window(seconds=1.0)
    warmup_batches: Annotated[int, Field(strict=True, ge=0)] = 3
    cell_timeout_s: PositiveFloat | None = None
    """None: 60 s and ten times what the cell is expected to take."""


class Entry(Settings):
    """One entry of `matrix`: what it sets replaces the top level's, whole field by whole field."""


class Spec(Settings):
    """A whole spec. Without `matrix`, the top level is the only entry."""

    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    rounds: PositiveInt = 3
    matrix: tuple[Entry, ...] = ()

    def entries(self) -> list[Settings]:
        """The entries, each with the top level's values where it sets none."""
        if not self.matrix:
            return [self]
        base = {name: getattr(self, name) for name in Settings.model_fields}
        return [
            Settings.model_construct(**(base | {name: getattr(entry, name) for name in entry.model_fields_set}))
            for entry in self.matrix
        ]

    def with_default_pipeline(self, name: str) -> Spec:
        """The spec with `pipelines` filled in where it was left out."""
        return self if self.pipelines else self.model_copy(update={"pipelines": (name,)})

    def as_json(self) -> dict[str, Any]:
        """Canonical JSON: defaults written out, entries with only what they set."""
        plain = self.model_dump(mode="json", exclude={"matrix"})
        entries = [(entry.model_dump(mode="json"), entry.model_fields_set) for entry in self.matrix]
        return plain | {"matrix": [{key: whole[key] for key in whole if key in given} for whole, given in entries]}


def auto_depths(n_hosts: int) -> tuple[int, ...]:
    """Depths for `auto`: 1 (unloaded latency), one batch per stage, and two (every link can be busy as well)."""
    return (1, n_hosts, 2 * n_hosts)


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs between two JSON values, one `key: old -> new` each."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            found += differences(old.get(key), new.get(key), inner)
        return found
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "(none)"
    return "(none)" if value is None else str(value)
