"""Which cell is measured when. Pure and deterministic."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Key = tuple[str, int, int]
"""(cell id, round, depth): what a record is filed under."""


@dataclass(frozen=True)
class Slot:
    """A cell as the schedule sees it."""

    cell: str
    pipeline: str
    profile: str
    depths: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """One cell of one round, with the depths still to be measured."""

    cell: str
    round: int
    depths: tuple[int, ...]


@dataclass(frozen=True)
class RoundPass:
    """One round of a group, in its random order."""

    round: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Group:
    """All that is measured under one profile on one pipeline, before the network is set anew."""

    pipeline: str
    profile: str
    passes: tuple[RoundPass, ...]


def keys(slots: Iterable[Slot], rounds: int) -> set[Key]:
    """Every record that a complete run has; rounds count from 1."""
    return {(slot.cell, round_, d) for slot in slots for round_ in range(1, rounds + 1) for d in slot.depths}


def finished(records: Iterable[Mapping[str, Any]]) -> set[Key]:
    """What needs no measuring on resume: failed stays failed until it is asked for again."""
    return {(record["cell"], record["round"], record["depth"]) for record in records}


def rejected(records: Iterable[Mapping[str, Any]]) -> set[Key]:
    """What `rerun --failed` measures again: failed, or measured but invalid."""
    return {
        (record["cell"], record["round"], record["depth"])
        for record in records
        if record["status"] != "ok" or not record["valid"]
    }


def schedule(slots: Sequence[Slot], rounds: int, seed: int, wanted: set[Key]) -> list[Group]:
    """Groups in order of first appearance; all rounds of one before the next.

    A round shuffles the whole group by seed, group and round before it leaves out what is not wanted, so that a
    resumed round keeps the order it had.
    """
    groups: dict[tuple[str, str], list[Slot]] = {}
    for slot in slots:
        groups.setdefault((slot.pipeline, slot.profile), []).append(slot)
    planned = []
    for (pipeline, profile), members in groups.items():
        passes = []
        for round_ in range(1, rounds + 1):
            order = sorted(members, key=lambda slot: slot.cell)
            random.Random(f"{seed}/{pipeline}/{profile}/{round_}").shuffle(order)  # noqa: S311
            tasks = [Task(s.cell, round_, tuple(d for d in s.depths if (s.cell, round_, d) in wanted)) for s in order]
            if remaining := tuple(task for task in tasks if task.depths):
                passes.append(RoundPass(round_, remaining))
        if passes:
            planned.append(Group(pipeline, profile, tuple(passes)))
    return planned
