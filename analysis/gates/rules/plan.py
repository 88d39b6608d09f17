"""What run.json promises against what records.jsonl holds: rounds, cells, windows, models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from analysis.gates.rules.columns import numbers, place, texts, whole
from analysis.gates.violations import BREAKS, NOTE, Examined, Violation

if TYPE_CHECKING:
    import pandas as pd

    from analysis.run import Run

FEW_BATCHES = 5
"""Below this the tolerance of Little's law, 0.05 + 1/n, is above 25 %."""
_AXES = ("model", "split_index", "granularity", "backend", "engine", "pipeline", "profile", "batch_size")


def examine_plan(data: Run) -> list[Examined]:
    """Missing rounds, failed cells, records of cells that were not planned, short windows, differing hashes."""
    return [_complete(data), _failed(data.frame), _planned(data), _window(data), _hashes(data)]


def _complete(data: Run) -> Examined:
    says = "every planned round of every cell measured"
    cells = data.run.get("cells") or []
    rounds = whole((data.run.get("spec") or {}).get("rounds"))
    if not cells or not rounds:
        return Examined("complete", says, 0, "cells", remark="run.json plans no cells and rounds")
    found = set(_keys(data.frame))
    violations = []
    for cell in cells:
        missing: dict[tuple[int, ...], list[int]] = {}
        for round_ in range(1, rounds + 1):
            depths = tuple(depth for depth in cell["depths"] if (cell["cell"], round_, depth) not in found)
            if depths:
                missing.setdefault(depths, []).append(round_)
        for depths, numbers_ in missing.items():
            of = "" if len(depths) == len(cell["depths"]) else f" depth {', '.join(map(str, depths))}"
            words = f"not measured: round {spans(numbers_)} of {rounds}{of}"
            violations.append(Violation("complete", cell["cell"], None, None, words, BREAKS))
    return Examined("complete", says, len(cells), "cells", tuple(violations))


def spans(values: Iterable[int]) -> str:
    """`1-3, 5`: ascending whole numbers, neighbours taken together."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _failed(frame: pd.DataFrame) -> Examined:
    failed = frame[frame["status"] != "ok"]
    violations = []
    for (cell, failure), rows in failed.groupby(["cell", "failure"], sort=False, dropna=False):
        rounds = {n for n in map(whole, rows["round"]) if n is not None}
        depths = {n for n in map(whole, rows["depth"]) if n is not None}
        one = len(rounds) == 1
        where = "" if one else f"round {spans(rounds)}, "
        words = f"failed ({where}depth {spans(depths)}): {failure}"
        violations.append(Violation("failed", str(cell), min(rounds) if one else None, None, words, BREAKS))
    return Examined("failed", "no cell failed", len(frame), "records", tuple(violations))


def _planned(data: Run) -> Examined:
    """Records of cells that run.json does not have, or has with other axes or depths."""
    says = "every record is of a planned cell, with its axes"
    cells = {cell["cell"]: cell for cell in data.run.get("cells") or []}
    if not cells:
        return Examined("planned", says, 0, "cells", remark="run.json plans no cells")
    axes = [axis for axis in _AXES if axis in data.frame.columns]
    kinds = data.frame[["cell", *axes, "depth"]].drop_duplicates()
    differing: dict[str, dict[str, None]] = {}
    for cell, depth, *values in zip(*(kinds[column].tolist() for column in ("cell", "depth", *axes)), strict=True):
        words = differing.setdefault(str(cell), {})
        plan = cells.get(str(cell))
        if plan is None:
            words["is no cell of run.json"] = None
            continue
        for axis, value in zip(axes, values, strict=True):
            if axis in plan and plan[axis] != value:
                words[f"{axis} {value!r} recorded, {plan[axis]!r} planned"] = None
        if whole(depth) not in plan["depths"]:
            words[f"depth {whole(depth)} not planned"] = None
    violations = [
        Violation("planned", cell, None, None, "; ".join(words), BREAKS) for cell, words in differing.items() if words
    ]
    return Examined("planned", says, len(differing), "cells", tuple(violations))


def _window(data: Run) -> Examined:
    """Windows shorter than any entry of the spec allows, and such that hold too few batches to be checked well."""
    import numpy as np

    frame = data.measured
    n = numbers(frame, "window_batches")
    known = np.isfinite(n)
    asked = _asked_batches(data.run)
    violations = [
        Violation(
            "window",
            *place(frame, row),
            f"a window of {n[row]:.0f} batches; the spec asks for {asked} at least",
            BREAKS,
        )
        for row in np.flatnonzero(known & (n < asked)).tolist()
    ]
    few = n[known & (n >= asked) & (n < FEW_BATCHES)]
    if len(few):
        tolerance = f"Little's law tolerates up to {100 * (0.05 + 1 / few.min()):.0f} % there"
        words = f"{len(few)} of {len(n)} windows have fewer than {FEW_BATCHES} batches, the shortest {few.min():.0f}"
        violations.append(Violation("window", None, None, None, f"{words}: {tolerance}", NOTE))
    remark = "" if known.any() else "no record says how many batches its window had"
    return Examined(
        "window", "windows are as long as the spec asks", int(known.sum()), "records", tuple(violations), remark
    )


def _asked_batches(run: Mapping[str, Any]) -> int:
    """The fewest batches that any entry of the spec lets a window end with."""
    spec = run.get("spec") or {}
    entries = [entry.get("window") or spec.get("window") for entry in spec.get("matrix") or [{}]]
    asked = []
    for window in entries:
        window = window or {}
        batches, least = whole(window.get("batches")), whole(window.get("min_batches"))
        timed = window.get("seconds") is not None
        asked.append((min(batches or least or 1, least or 1) if timed else batches) or 1)
    return min(asked, default=1)


def _hashes(data: Run) -> Examined:
    """One graph per model; one weight hash per model and declared weights; as run.json has them."""
    import pandas as pd

    frame = data.measured
    says = "one graph hash and one weight hash per model"
    declared: dict[str, dict[str, set[str]]] = {}
    for model in data.run.get("models") or []:
        for name in ("graph_hash", "weight_hash"):
            if model.get(name):
                declared.setdefault(str(model.get("model")), {}).setdefault(name, set()).add(str(model[name]))
    violations: list[Violation] = []
    checked = 0
    for name in ("graph_hash", "weight_hash"):
        hashes = texts(frame, name)
        checked = max(checked, sum(value is not None for value in hashes))
        by_model: dict[str, dict[str, list[int]]] = {}
        known = pd.DataFrame({"model": frame["model"].map(str), "value": hashes}).dropna()
        groups = cast("dict[tuple[str, str], pd.Index[int]]", known.groupby(["model", "value"], sort=False).groups)
        for (of_model, digest), rows in groups.items():
            by_model.setdefault(of_model, {})[digest] = rows.tolist()
        for model, found in by_model.items():
            violations += _differing(frame, name, model, found, declared.get(model, {}).get(name, set()))
    return Examined("hashes", says, checked, "records", tuple(violations), "" if checked else "no record has a hash")


def _differing(
    frame: pd.DataFrame, name: str, model: str, found: Mapping[str, Sequence[int]], declared: set[str]
) -> list[Violation]:
    words = name.replace("_", " ")
    usual = declared or {max(found, key=lambda value: len(found[value]))}
    out = []
    for value, rows in found.items():
        if value not in usual:
            source = "run.json has" if declared else "most records have"
            text = f"{model}: {words} {value}, {source} {' or '.join(sorted(usual))} (first of {len(rows)} records)"
            out.append(Violation("hashes", *place(frame, rows[0]), text, BREAKS))
    return out


def _keys(frame: pd.DataFrame) -> Iterable[tuple[str, int | None, int | None]]:
    columns = (frame["cell"].tolist(), frame["round"].tolist(), frame["depth"].tolist())
    return ((str(cell), whole(round_), whole(depth)) for cell, round_, depth in zip(*columns, strict=True))
