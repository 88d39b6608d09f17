"""The `pp-matrix run` command that measures two operating points again, with more rounds. Pure.

A finished run takes no further rounds (a changed spec is refused), so it is a new run of these cells only.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.recommending.recommended_point import Pick

JsonObject = dict[str, Any]

_AXES = ("models", "granularity", "splits", "backends", "engines", "profiles", "batch_sizes", "pipelines", "depths")
_HOW = ("weights", "input", "input_encoding", "streams", "window", "warmup_batches", "cell_timeout_s")
"""Spec fields that say how a cell is measured."""
_FLAGS = {
    "pipelines": "--pipeline",
    "models": "--model",
    "granularity": "--granularity",
    "splits": "--split",
    "backends": "--backend",
    "engines": "--engine",
    "profiles": "--profile",
    "batch_sizes": "--batch-size",
    "depths": "--depth",
    "weights": "--weights",
    "input": "--input",
    "input_encoding": "--input-encoding",
    "streams": "--streams",
}
"""Spec field -> the flag of pp-matrix run. The rest has to be written into a spec file."""
_DEFAULTS = {
    **{"granularity": "block", "weights": "random", "input": "synthetic", "input_encoding": "raw", "streams": "auto"},
    **{"warmup_batches": 3, "cell_timeout_s": None},
}
"""What need not be said, as docs/formats.md has it."""


class NoCommand(Exception):  # noqa: N818  # an answer, not an error
    """There is no command that would measure these points again; one line that says why."""


@dataclass(frozen=True)
class MoreRounds:
    """A run of two operating points."""

    name: str
    """Part of the new directory's name."""
    options: tuple[str, ...]
    """Of pp-matrix run, without --spec and --out."""
    spec: Mapping[str, Any]
    """What has no flag, or differs between the two: the content of a spec file; empty where flags say all."""

    def lines(self, directory: Path) -> list[str]:
        """Commands for a shell; the new directory lies beside `directory`."""
        out = directory.parent / f"{directory.name}-{self.name}"
        written = []
        spec = []
        if self.spec:
            file = f"{out}.json"
            written = [f"echo {shlex.quote(json.dumps(self.spec))} > {shlex.quote(file)}"]
            spec = ["--spec", file]
        return [*written, shlex.join(["pp-matrix", "run", *spec, *self.options, "--out", str(out)])]


def more_rounds(run: Mapping[str, Any] | None, picks: Sequence[Pick], rounds: int) -> MoreRounds:
    """The run that measures `picks` (of one network) with so many rounds; `run` is their run.json.

    Raises NoCommand where nothing was measured here, or run.json does not say how.
    """
    testbed = (run or {}).get("testbed")
    if testbed == "simulated":
        raise NoCommand("the times were declared, so more rounds would measure nothing")
    if testbed == "imported":
        raise NoCommand("these results were imported, so they cannot be measured again from here")
    spec = (run or {}).get("spec")
    inventory = ((run or {}).get("inventory") or {}).get("path")
    if run is None or not spec or not inventory:
        raise NoCommand("run.json does not say how these points were measured")
    cells = _one_entry_per_cell([_settings(run, spec, pick) for pick in picks])
    shared, own = _parted(cells)
    options = ["--inventory", str(inventory)]
    for field, flag in _FLAGS.items():
        if field in shared and shared[field] != _DEFAULTS.get(field):
            options += [flag, _text(shared[field])]
    rest: JsonObject = {}
    if "window" in shared:
        options += _window(shared["window"])
    for field in ("warmup_batches", "cell_timeout_s"):
        if field in shared and shared[field] != _DEFAULTS[field]:
            rest[field] = shared[field]
    if spec.get("seed"):
        options += ["--seed", str(spec["seed"])]
    if own:
        rest["matrix"] = own
    name = "-or-".join(dict.fromkeys(f"{pick.split}".replace("+", "_") for pick in picks)) + f"-{rounds}-rounds"
    return MoreRounds(name, (*options, "--rounds", str(rounds)), rest)


def _settings(run: Mapping[str, Any], spec: Mapping[str, Any], pick: Pick) -> JsonObject:
    """How the spec has an operating point measured, with the axes of this one point."""
    if pick.depth is None or pick.batch_size is None:
        raise NoCommand("their depth or batch size is unknown")
    base = {key: value for key, value in spec.items() if key != "matrix"}
    entries = [base | entry for entry in spec.get("matrix") or [{}]]
    found = [entry for entry in entries if _names(entry, run, pick)]
    if not found:
        raise NoCommand(f"no entry of the spec in run.json names {pick.cell}")
    axes = {
        **{"models": [pick.model], "granularity": pick.granularity, "splits": [pick.split]},
        **{"backends": [pick.backend], "engines": [pick.engine], "profiles": [pick.profile]},
        **{"batch_sizes": [pick.batch_size], "pipelines": [pick.pipeline], "depths": [pick.depth]},
    }
    # A cell that two entries name is measured alike by both, or the spec was refused.
    return axes | {key: found[0].get(key, _DEFAULTS.get(key)) for key in _HOW if key in found[0]}


def _names(entry: Mapping[str, Any], run: Mapping[str, Any], pick: Pick) -> bool:
    lists = {
        **{"models": pick.model, "backends": pick.backend, "engines": pick.engine, "profiles": pick.profile},
        **{"batch_sizes": pick.batch_size, "pipelines": pick.pipeline},
    }
    if any(value not in entry.get(key, [value]) for key, value in lists.items()):
        return False
    if entry.get("granularity", pick.granularity) != pick.granularity:
        return False
    return any(_selects(str(term), _cuts(run, pick), pick) for term in entry.get("splits", ["all"]))


def _cuts(run: Mapping[str, Any], pick: Pick) -> list[Mapping[str, Any]]:
    asked = {"model": pick.model, "granularity": pick.granularity}
    models = [m for m in run.get("models") or [] if all(m.get(key) == value for key, value in asked.items())]
    return list(models[0]["cuts"]) if models else []


def _selects(term: str, cuts: Sequence[Mapping[str, Any]], pick: Pick) -> bool:
    """Whether a split selector (docs/formats.md: `all`, `P3`, `3`, `3:9`, `features.2`, `0`, `N`) names the point."""
    if term in ("all", pick.split, pick.split_index, pick.split_name):
        return True
    if ":" in term and pick.split_index.isdecimal():
        low, high = (_index(part, cuts) for part in term.split(":", 1))
        return low is not None and high is not None and low <= int(pick.split_index) <= high
    return [_index(part, cuts) for part in term.split("+")] == [int(part) for part in pick.split_index.split("+")]


def _index(name: str, cuts: Sequence[Mapping[str, Any]]) -> int | None:
    if name == "N":
        return int(cuts[-1]["index"]) if cuts else None
    if name.isdecimal():
        return int(name)
    named = [cut for key in ("paper_name", "name") for cut in cuts if cut.get(key) == name]
    return int(named[0]["index"]) if named else None


def _one_entry_per_cell(points: Iterable[JsonObject]) -> list[JsonObject]:
    """Points of one cell become one entry with all their depths."""
    cells: list[JsonObject] = []
    for point in points:
        same = [cell for cell in cells if cell | {"depths": point["depths"]} == point]
        if same:
            same[0]["depths"] = sorted({*same[0]["depths"], *point["depths"]})
        else:
            cells.append(point)
    return cells


def _parted(cells: Sequence[JsonObject]) -> tuple[JsonObject, list[JsonObject]]:
    """What flags can say of all cells, and the entries of a matrix for what they cannot.

    Flags multiply: they do for cells that differ in one list only (and in depth); else every cell is an entry.
    """
    keys = [key for key in (*_AXES, *_HOW) if any(key in cell for cell in cells)]
    differing = [key for key in keys if any(cell.get(key) != cells[0].get(key) for cell in cells)]
    shared = {key: cells[0][key] for key in keys if key not in differing}
    apart = [key for key in differing if key != "depths"]
    lists = ("splits", "backends", "engines", "batch_sizes", "pipelines")
    if len(apart) > 1 or any(key not in lists for key in apart):
        return shared, [{key: cell[key] for key in differing} for cell in cells]
    joined = {key: list(dict.fromkeys(value for cell in cells for value in cell[key])) for key in differing}
    return shared | {key: sorted(value) if key == "depths" else value for key, value in joined.items()}, []


def _window(window: Mapping[str, Any]) -> list[str]:
    if window.get("batches") is not None:
        return ["--batches", str(window["batches"])]
    options = ["--seconds", str(window["seconds"])] if window.get("seconds") is not None else []
    return options + (["--min-batches", str(window["min_batches"])] if window.get("min_batches") is not None else [])


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
