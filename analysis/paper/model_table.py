"""Table I: the models as our own cutter counts them, beside the paper's figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.markup import Column
from analysis.numbers import MISSING
from analysis.paper.reference import GRANULARITY, ReferenceModel

FLOAT32_BYTES = 4
TABLE_ONE_COLUMNS = (
    *("model", "parameters", "blocks", "cut_points", "float32_mb"),
    *("paper_parameters", "paper_blocks", "paper_size_mb", "paper_accuracy_cifar10_pct"),
)
TABLE_ONE_NOTES = (
    "Blocks and cut points at block granularity; cut 0 and cut N are not counted. MB: 10^6 bytes, parameters times 4 "
    "bytes (float32), buffers left out. Of what the paper counts megabytes it does not say.",
    "The paper's MobileNetV2 and InceptionV3 have 10 classes, and its 22 blocks of InceptionV3 count the auxiliary "
    "classifier, which does not run in evaluation.",
)


@dataclass(frozen=True)
class CountedModel:
    """A model as run.json has it."""

    model: str
    parameters: int
    blocks: int
    cut_points: int
    """Places where exactly one tensor crosses, between the first block and the last."""


def counted_models(runs: Iterable[Mapping[str, Any]]) -> list[CountedModel]:
    """The models that run.jsons describe at block granularity, each as often as their counts differ."""
    found = []
    for run in runs:
        for entry in run.get("models") or []:
            if entry.get("granularity") == GRANULARITY and isinstance(entry.get("parameters"), int):
                cuts = len(entry.get("cuts") or [])
                found.append(CountedModel(entry["model"], entry["parameters"], entry["n_blocks"], max(0, cuts - 2)))
    return list(dict.fromkeys(found))


def table_one_rows(counted: Iterable[CountedModel], reference: Iterable[ReferenceModel]) -> list[dict[str, Any]]:
    """Rows of `TABLE_ONE_COLUMNS`: the paper's models in its order, then others; None where the paper has none."""
    known = {row.model: row for row in reference}
    order = list(known)
    rows = []
    for model in sorted(counted, key=lambda one: order.index(one.model) if one.model in known else len(order)):
        printed = known.get(model.model)
        rows.append(
            {
                "model": model.model,
                "parameters": model.parameters,
                "blocks": model.blocks,
                "cut_points": model.cut_points,
                "float32_mb": model.parameters * FLOAT32_BYTES / 1e6,
                "paper_parameters": printed and printed.parameters,
                "paper_blocks": printed and printed.blocks,
                "paper_size_mb": printed and printed.size_mb,
                "paper_accuracy_cifar10_pct": printed and printed.accuracy_pct,
            }
        )
    return rows


def table_one_columns(rows: Iterable[Mapping[str, Any]]) -> list[Column]:
    """The table as people read it."""
    rows = list(rows)

    def column(header: str, key: str, pattern: str) -> Column:
        cells = (MISSING if row[key] is None else format(row[key], pattern) for row in rows)
        return Column(header, tuple(cells), right=True)

    return [
        Column("model", tuple(str(row["model"]) for row in rows), elastic=True),
        column("parameters", "parameters", ","),
        column("blocks", "blocks", "d"),
        column("cuts", "cut_points", "d"),
        column("MB", "float32_mb", ".1f"),
        column("paper: parameters", "paper_parameters", ","),
        column("paper: blocks", "paper_blocks", "d"),
        column("paper: MB", "paper_size_mb", "g"),
        column("paper: accuracy %", "paper_accuracy_cifar10_pct", ".1f"),
    ]
