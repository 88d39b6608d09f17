"""What was made of the paper's tables and figures, what the results lack for the rest, and what would measure it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.markup import Column
from analysis.paper.measured import AS_IT_IS, DURESS, Measured, why_lacking, without_name
from analysis.paper.reference import BACKEND, BATCH_SIZE, ENGINE, reference_models

ROUNDS = 5
"""That the suggested commands ask for: an interval over fewer is wide."""
_EXAMPLE_INVENTORY = "inventory/testbed.yml"
_EXAMPLE_PIPELINES = {"CPU to CPU": "pi-to-pi", "CPU to GPU": "pi-to-gpu"}
_EXAMPLE_PROFILES = {AS_IT_IS: "lan", DURESS: "duress-200ms-5mbit"}
EXAMPLE_NOTE = (
    f"Make {_EXAMPLE_INVENTORY} from inventory/testbed.example.yml; it has the pipelines pi-to-pi and pi-to-gpu."
)


@dataclass(frozen=True)
class Lack:
    """Something that the results do not hold."""

    why: str
    command: str = ""
    """The pp-matrix command that would measure it; empty where none does."""


@dataclass(frozen=True)
class Artefact:
    """A table or a figure of the paper."""

    title: str
    files: tuple[str, ...] = ()
    """Names in the output folder; the pictures first."""
    lacks: tuple[Lack, ...] = ()
    text: str = ""
    """A table in Markdown, for the index."""
    notes: tuple[str, ...] = field(default=())


def run_command(
    kind: str, network: str, models: Sequence[str], near: Sequence[Measured], *, backends: Sequence[str] = (BACKEND,)
) -> str:
    """`pp-matrix run` with the paper's conditions and all cuts of some models, into a directory called after them.

    The pipeline, the inventory and the profile are those of the first of `near` that is of the kind and has such a
    network, as far as there is one; otherwise the names of the example inventory.
    """
    found = next((one for one in near if one.kind == kind), None)
    inventory = found.inventory if found else _EXAMPLE_INVENTORY
    declared = [name for name in (found.profiles if found else {}) if found and found.network(name) == network]
    words = ["pp-matrix", "run", *(["--inventory", inventory] if inventory else [])]
    words += ["--pipeline", found.pipeline if found else _EXAMPLE_PIPELINES.get(kind, kind)]
    order = [row.model for row in reference_models()]
    models = sorted(models, key=lambda name: order.index(name) if name in order else len(order))
    words += [word for model in models for word in ("--model", model)]
    words += [word for backend in backends for word in ("--backend", backend)]
    words += [
        "--split",
        "all",
        "--engine",
        ENGINE,
        "--profile",
        declared[0] if declared else _EXAMPLE_PROFILES[network],
    ]
    words += ["--batch-size", str(BATCH_SIZE), "--rounds", str(ROUNDS)]
    named = ["all"] if models == order else models
    others = [backend for backend in backends if backend != BACKEND]
    parts = [kind.lower().replace(" ", "-"), *([network] if network != AS_IT_IS else []), *others, *named]
    return shlex.join([*words, "--out", f"results/paper-{'-'.join(parts)}"])


def no_pipeline(kind: str, measured: Iterable[Measured]) -> str | None:
    """Why there is no pipeline of a kind, or None: none was measured, and which have hosts that nothing is known of."""
    measured = list(measured)
    if any(one.kind == kind for one in measured):
        return None
    unknown = [one.pipeline for one in measured if one.kind is None]
    which = f"; of the hosts of {', '.join(unknown)} nothing is recorded" if unknown else ""
    return f"no pipeline {kind} was measured{which}"


def lacking_models(kind: str, network: str, models: Iterable[str], measured: Sequence[Measured]) -> tuple[Lack, ...]:
    """The models that no pipeline of the kind measured under the paper's conditions; one Lack per reason."""
    fitting = [one for one in measured if one.kind == kind]
    if why := no_pipeline(kind, measured):
        return (Lack(why, run_command(kind, network, list(models), measured)),)
    reasons: dict[str, list[str]] = {}
    for model in models:
        found = [why_lacking(one, model, None, network) for one in fitting]
        if all(found):
            reasons.setdefault(without_name(str(found[0])), []).append(model)
    return tuple(
        Lack(f"{', '.join(names)}: {why}", run_command(kind, network, names, measured))
        for why, names in reasons.items()
    )


@dataclass(frozen=True)
class Gap:
    """What one command would measure."""

    number: int
    whys: tuple[str, ...]
    command: str
    """Empty where no command does."""


def gaps(artefacts: Iterable[Artefact]) -> list[Gap]:
    """Everything that is lacking, by the command that would measure it, numbered from 1 as the artefacts go."""
    by_command: dict[tuple[str, str], list[str]] = {}
    for lack in (lack for artefact in artefacts for lack in artefact.lacks):
        whys = by_command.setdefault((lack.command, "" if lack.command else lack.why), [])
        if lack.why not in whys:
            whys.append(lack.why)
    return [Gap(n, tuple(whys), command) for n, ((command, _), whys) in enumerate(by_command.items(), start=1)]


def needs_example(found: Iterable[Gap]) -> bool:
    """Whether a command is of the inventory that is still to be made."""
    return any(f" {_EXAMPLE_INVENTORY} " in gap.command for gap in found)


def listing(artefacts: Sequence[Artefact]) -> list[Column]:
    """What was made and what is lacking, one row each; the numbers are those of `gaps`."""
    found = gaps(artefacts)
    lacking = [
        [str(gap.number) for gap in found if any((lack.command, lack.why) in _of(gap) for lack in artefact.lacks)]
        for artefact in artefacts
    ]
    made = (artefact.files[0] + _more(artefact.files) if artefact.files else "lacking" for artefact in artefacts)
    return [
        Column("artefact", tuple(artefact.title for artefact in artefacts), elastic=True),
        Column("file", tuple(made), elastic=True),
        Column("lacking", tuple(map(", ".join, lacking))),
    ]


def _of(gap: Gap) -> set[tuple[str, str]]:
    return {(gap.command, why) for why in gap.whys}


def _more(files: Sequence[str]) -> str:
    """` and 2 more`: other pictures, or other tables where there is no picture."""
    ending = files[0].rpartition(".")[2]
    others = sum(name.endswith(ending) for name in files[1:])
    return f" and {others} more" if others else ""


LISTING_COLUMNS = ("artefact", "files", "lacking", "command")


def listing_rows(artefacts: Iterable[Artefact]) -> list[dict[str, Any]]:
    """Rows of `LISTING_COLUMNS`: one per artefact that was made, and one per thing that is lacking."""
    rows: list[dict[str, Any]] = []
    for artefact in artefacts:
        if artefact.files:
            rows.append(
                {"artefact": artefact.title, "files": " ".join(artefact.files), "lacking": None, "command": None}
            )
        rows += [
            {"artefact": artefact.title, "files": None, "lacking": lack.why, "command": lack.command or None}
            for lack in artefact.lacks
        ]
    return rows
