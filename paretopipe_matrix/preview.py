"""`run --dry-run`: the cells and how long they will take."""

from __future__ import annotations

from collections.abc import Sequence

import click

from paretopipe_matrix.context import Context
from paretopipe_matrix.estimate import probes_s
from paretopipe_matrix.plan import CellPlan
from paretopipe_matrix.progress import duration
from paretopipe_matrix.tables import print_table

_NAME_WIDTH = 32
_PROFILE_WIDTH = 24


def expected_total_s(plans: Sequence[CellPlan], context: Context) -> float:
    """Expected seconds of the whole run, probes included."""
    rounds = context.loaded.spec.rounds
    groups = {(plan.cell.pipeline, plan.cell.profile) for plan in plans}
    probing = sum(probes_s(context.profiles[profile]) for _, profile in groups)
    return rounds * (probing + sum(plan.expected_s(plan.depths) for plan in plans))


def print_plan(plans: Sequence[CellPlan], context: Context) -> None:
    """Print one table per model, pipeline, backend, engine and batch size; at most 100 columns wide."""
    titles: dict[str, list[CellPlan]] = {}
    for plan in plans:
        cell = plan.cell
        hosts = " -> ".join(context.pipelines[cell.pipeline])
        title = (
            f"{cell.model}, {cell.granularity} cuts, {cell.backend}, {cell.engine}, batch {cell.batch_size}, "
            f"pipeline {cell.pipeline} ({hosts})"
        )
        titles.setdefault(title, []).append(plan)
    for title, members in titles.items():
        click.echo(title)
        print_table(
            ("split", "name", "profile", "depths", "kB per batch", "expected"),
            [
                (
                    plan.cell.split,
                    _shortened("+".join(cut.name for cut in plan.cuts), _NAME_WIDTH),
                    _shortened(plan.cell.profile, _PROFILE_WIDTH),
                    ",".join(map(str, plan.depths)),
                    f"{plan.bytes_per_batch / 1e3:.1f}",
                    f"{plan.expected_s(plan.depths):.1f} s",
                )
                for plan in members
            ],
            right=("kB per batch", "expected"),
        )
        click.echo()
    rounds = context.loaded.spec.rounds
    click.echo(f"{len(plans)} cells x {rounds} rounds, about {duration(expected_total_s(plans, context))}")


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
