"""`run` and `rerun`: from checked input to a finished results directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from paretopipe_matrix.cells import slug
from paretopipe_matrix.context import (
    Context,
    Descriptions,
    new_context,
    open_testbed,
    refuse_changes,
    stored_context,
)
from paretopipe_matrix.errors import StoreError, UserError
from paretopipe_matrix.interrupts import EXIT_INTERRUPTED, Interrupts
from paretopipe_matrix.lookup import find_cell
from paretopipe_matrix.notices import notices
from paretopipe_matrix.plan import CellPlan, expand
from paretopipe_matrix.preview import print_plan
from paretopipe_matrix.progress import display
from paretopipe_matrix.provenance import changed_facts, session
from paretopipe_matrix.remote import collect, provision
from paretopipe_matrix.runner import Runner
from paretopipe_matrix.schedule import Group, Key, Slot, finished, keys, rejected, schedule
from paretopipe_matrix.states import cell_states, slots_of
from paretopipe_matrix.store import Store
from paretopipe_matrix.testbed import JsonObject, Testbed
from paretopipe_runtime.results import RunData, load_run

EXIT_OK = 0
EXIT_FAILED = 1


@dataclass(frozen=True)
class RunOptions:
    """What `pp-matrix run` was given. `flags` maps spec fields to values; None or empty: not given."""

    spec_path: Path | None = None
    inventory_path: Path | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    out: Path | None = None
    fail_fast: bool = False
    dry_run: bool = False
    provision: bool = False
    simulate: Path | None = None


def run(options: RunOptions) -> int:
    """Run or resume; returns the exit status."""
    stored = load_run(options.out) if options.out and (options.out / "run.json").is_file() else None
    # Nothing said about what to measure: go on with what the directory was made for.
    if stored and options.spec_path is None and not options.flags:
        context = stored_context(stored.run, stored.directory / "run.json", options.inventory_path, options.simulate)
    else:
        context = new_context(options.spec_path, options.flags, options.inventory_path, options.simulate)
    _warn_simulated(context)
    if options.provision and (options.dry_run or context.simulate):
        raise UserError("--provision changes hosts: it goes with neither --dry-run nor --simulate")
    with Interrupts() as interrupts:
        if options.dry_run:
            with open_testbed(context, None) as testbed:
                print_plan(_expanded(context, Descriptions(testbed), None), context)
            return EXIT_OK
        directory = options.out or _default_out(context)
        try:
            with Store(directory) as store:
                data = store.load()
                if data:
                    refuse_changes(data.run, context, directory)
                calls = provision(context, store.log_dir) if options.provision else []
                _measure(store, context, data, None, interrupts, fail_fast=options.fail_fast, calls=calls)
        except KeyboardInterrupt:
            return _interrupted(directory, f"pp-matrix run --out {directory}")
    return summarize(load_run(directory))


def rerun(
    directory: Path,
    cells: Sequence[str],
    inventory_path: Path | None,
    simulate: Path | None,
    *,
    failed: bool,
    fail_fast: bool,
) -> int:
    """Measure the named cells again in all rounds, or what failed or is invalid; returns the exit status."""
    load_run(directory)
    command = f"pp-matrix rerun {directory} " + ("--failed" if failed else " ".join(f"--cell {cell}" for cell in cells))
    with Interrupts() as interrupts:
        try:
            with Store(directory) as store:
                data = store.load()
                if data is None:
                    raise StoreError(f"{directory}: no results here")
                context = stored_context(data.run, directory / "run.json", inventory_path, simulate)
                _warn_simulated(context)
                refuse_changes(data.run, context, directory)
                slots = slots_of(data.run)
                chosen = {find_cell(cell, [slot.cell for slot in slots]) for cell in cells}
                rounds = context.loaded.spec.rounds
                wanted = keys([slot for slot in slots if slot.cell in chosen], rounds)
                if failed:
                    wanted |= rejected(data.records)
                if not wanted:
                    click.echo(f"{directory}: nothing failed and nothing is invalid")
                    return EXIT_OK
                _measure(store, context, data, wanted, interrupts, fail_fast=fail_fast)
        except KeyboardInterrupt:
            return _interrupted(directory, command)
    return summarize(load_run(directory))


def _measure(
    store: Store,
    context: Context,
    data: RunData | None,
    wanted: set[Key] | None,
    interrupts: Interrupts,
    *,
    fail_fast: bool,
    calls: Sequence[JsonObject] = (),
) -> None:
    """Measure `wanted`, or what is still missing where it is None; `calls` are playbooks that were run before."""
    rounds, seed = context.loaded.spec.rounds, context.loaded.spec.seed
    models: set[str] | None = None
    if data is not None:
        slots = slots_of(data.run)
        wanted = keys(slots, rounds) - finished(data.records) if wanted is None else wanted
        if not wanted:
            return
        models = {cell["model"] for cell in data.run["cells"] if cell["cell"] in {key[0] for key in wanted}}
    click.echo(f"{store.directory}: starting {', '.join(context.hosts)}", err=True)
    with _ansible_recorded(store, calls) as recorded:
        with open_testbed(context, store.log_dir) as testbed:
            recorded.append(testbed.ansible_calls)
            for line in notices(testbed.facts()):
                click.echo(line, err=True)
            descriptions = Descriptions(testbed, data.run["models"] if data else ())
            plans = {plan.cell.id: plan for plan in _expanded(context, descriptions, models)}
            if data is None:
                store.write_run(_new_run(context, descriptions, plans, testbed))
                slots = [Slot(p.cell.id, p.cell.pipeline, p.cell.profile, p.depths) for p in plans.values()]
                wanted = keys(slots, rounds)
            else:
                _refuse_other(store.directory, data, descriptions, plans, wanted or set())
                store.write_run(_continued(store.directory, data, testbed))
            groups = schedule(slots, rounds, seed, wanted or set())
            with display(_expected(groups, plans), lambda key: plans[key[0]].kind) as screen:
                runner = Runner(testbed, store, plans, context.profiles, screen, interrupts, fail_fast=fail_fast)
                if not runner.run(groups):
                    screen.note("stopped at the first failure (--fail-fast)")
        collected = collect(context, store.log_dir)
        recorded.append(lambda: collected)


@contextmanager
def _ansible_recorded(store: Store, before: Sequence[JsonObject]) -> Iterator[list[Callable[[], list[JsonObject]]]]:
    """Once the testbed is closed, also after an error, run.json gets the playbooks that were run."""
    later: list[Callable[[], list[JsonObject]]] = []
    try:
        yield later
    finally:
        calls = [*before, *(call for made in later for call in made())]
        if calls and (data := store.load()) is not None:
            store.write_run(data.run | {"ansible": [*data.run.get("ansible", []), *calls]})


def _expanded(context: Context, descriptions: Descriptions, models: set[str] | None) -> list[CellPlan]:
    return expand(context.loaded, context.pipelines, context.profiles, descriptions, models)


def _new_run(
    context: Context, descriptions: Descriptions, plans: Mapping[str, CellPlan], testbed: Testbed
) -> JsonObject:
    made = session(testbed.facts())
    return {
        "created_at": made.pop("started_at"),
        **context.as_json(),
        **made,
        "models": descriptions.as_json(),
        "cells": [plan.as_json() for plan in plans.values()],
        "resumed": [],
        "ansible": [],
    }


def _continued(directory: Path, data: RunData, testbed: Testbed) -> JsonObject:
    again = session(testbed.facts())
    changed = changed_facts(data.run["hosts"], again["hosts"])
    if changed:
        raise StoreError(
            f"{directory}: hosts are not what they were:\n  "
            + "\n  ".join(changed)
            + "\nRounds of both would not be repetitions; choose another --out"
        )
    return data.run | {"resumed": [*data.run["resumed"], again]}


def _refuse_other(
    directory: Path, data: RunData, descriptions: Descriptions, plans: Mapping[str, CellPlan], wanted: set[Key]
) -> None:
    descriptions.refuse_changes(directory)
    for cell in {key[0] for key in wanted} - plans.keys():
        raise StoreError(f"{directory}: cell {cell} no longer exists in this version; choose another --out")


def _expected(groups: Sequence[Group], plans: Mapping[str, CellPlan]) -> dict[tuple[str, int], float]:
    return {
        (task.cell, task.round): plans[task.cell].expected_s(task.depths)
        for group in groups
        for pass_ in group.passes
        for task in pass_.tasks
    }


def _default_out(context: Context) -> Path:
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{slug(context.loaded.spec.entries()[0].models[0])}"
    directory = Path("results") / name
    number = 2
    while directory.exists():
        directory = Path("results") / f"{name}-{number}"
        number += 1
    return directory


def _warn_simulated(context: Context) -> None:
    if context.simulate:
        click.echo("simulated testbed: declared times, nothing is measured", err=True)


def _interrupted(directory: Path, command: str) -> int:
    if (directory / "run.json").is_file():
        click.echo(f"interrupted; finished cells are saved. Go on with: {command}", err=True)
    else:
        click.echo("interrupted; nothing had been measured", err=True)
    return EXIT_INTERRUPTED


def summarize(data: RunData) -> int:
    """Print how the run stands, with the command for what failed; the exit status."""
    states = cell_states(slots_of(data.run), data.run["spec"]["rounds"], data.records)
    if not states:
        raise UserError(f"{data.directory}: the plan holds no cells")
    counts = {word: [s.cell for s in states if s.word == word] for word in ("ok", "failed", "invalid", "pending")}
    told = ", ".join(f"{len(cells)} {word}" for word, cells in counts.items() if cells)
    click.echo(f"{data.directory}: {len(states)} cells: {told}")
    for word in ("failed", "invalid"):
        for cell in counts[word]:
            click.echo(f"  {word}: {cell}")
    if counts["failed"] or counts["invalid"]:
        click.echo(f"look: pp-matrix show {data.directory} CELL; again: pp-matrix rerun {data.directory} --failed")
    if counts["pending"]:
        click.echo(f"go on: pp-matrix run --out {data.directory}")
    return EXIT_FAILED if any(state.failed for state in states) else EXIT_OK
