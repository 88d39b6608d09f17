"""Makes Tables I to III and the one that puts ours beside the paper's. What is in them is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.markup import markdown
from analysis.paper.artefacts import Artefact, Lack, no_pipeline, run_command
from analysis.paper.backends import BackendPoint, sockets_against_rpc
from analysis.paper.beside import (
    BESIDE_COLUMNS,
    Beside,
    backends_beside,
    beside_columns,
    beside_notes,
    beside_rows,
    claims_beside,
    device_note,
    models_beside,
    splits_beside,
)
from analysis.paper.inputs import Inputs
from analysis.paper.measured import AS_IT_IS, without_name
from analysis.paper.model_table import (
    TABLE_ONE_COLUMNS,
    TABLE_ONE_NOTES,
    counted_models,
    table_one_columns,
    table_one_rows,
)
from analysis.paper.reference import SplitTable, reference_backends, reference_models
from analysis.paper.split_tables import (
    Absent,
    split_columns,
    split_csv_columns,
    split_csv_rows,
    split_notes,
    split_rows,
)
from analysis.paper.writing import save_tables

ACCURACY = Lack("accuracy: runs keep neither labels nor predictions, so nothing measures it")
_MODELS_TITLE, _BESIDE_TITLE = "Table I models", "Ours against the paper's"
_SPLITS_TITLES = {"II": "Table II splits, CPU to CPU", "III": "Table III splits, CPU to GPU"}
_SPLITS_KEYS = {"II": "table2", "III": "table3"}


def make_models(inputs: Inputs, folder: Path) -> Artefact:
    """Table I."""
    counted = counted_models(inputs.runs)
    reference = reference_models()
    known = {model.model for model in counted}
    missing = [row.model for row in reference if row.model not in known]
    lacks = [ACCURACY]
    if missing:
        command = run_command("CPU to CPU", AS_IT_IS, missing, inputs.measured)
        lacks.insert(0, Lack(f"{', '.join(missing)}: not counted, in no run", command))
    if not counted:
        return Artefact(_MODELS_TITLE, lacks=tuple(lacks))
    rows = table_one_rows(counted, reference)
    columns = table_one_columns(rows)
    files = save_tables(folder, "table1", columns, rows, TABLE_ONE_COLUMNS)
    return Artefact(_MODELS_TITLE, files, tuple(lacks), markdown(columns), TABLE_ONE_NOTES)


@dataclass(frozen=True)
class SplitsMade:
    """Table II or III, and its rows of the table beside the paper's."""

    artefact: Artefact
    beside: tuple[Beside, ...]


def make_splits(inputs: Inputs, table: SplitTable, folder: Path) -> SplitsMade:
    """Table II or III."""
    rows, absent = split_rows(table, inputs.measured, inputs.points)
    title, key = _SPLITS_TITLES[table.number], _SPLITS_KEYS[table.number]
    found = {(row.reference.model, row.reference.split) for row in rows}
    lacks = _lacks(table, inputs, [one for one in absent if (one.reference.model, one.reference.split) not in found])
    beside = tuple(splits_beside(table.number, rows, absent))
    if not rows:
        return SplitsMade(Artefact(title, lacks=lacks), beside)
    columns = split_columns(table, rows)
    files = save_tables(folder, key, columns, split_csv_rows(table, rows), split_csv_columns(table))
    return SplitsMade(Artefact(title, files, lacks, markdown(columns), tuple(split_notes(rows))), beside)


def _lacks(table: SplitTable, inputs: Inputs, absent: Sequence[Absent]) -> tuple[Lack, ...]:
    """One Lack per reason, for splits that no pipeline of the table's kind has."""
    if why := no_pipeline(table.pipeline, inputs.measured):
        return (Lack(why, run_command(table.pipeline, AS_IT_IS, inputs.models, inputs.measured)),)
    reasons: dict[str, list[Absent]] = {}
    for missing in absent:
        reasons.setdefault(without_name(missing.why), []).append(missing)
    lacks = []
    for why, group in reasons.items():
        names = dict.fromkeys(f"{one.reference.model} {one.reference.split}" for one in group)
        models = list(dict.fromkeys(one.reference.model for one in group))
        command = run_command(table.pipeline, AS_IT_IS, models, inputs.measured)
        lacks.append(Lack(f"{', '.join(names)}: {why}", command))
    return tuple(lacks)


def make_beside(inputs: Inputs, splits: Sequence[Beside], backends: Sequence[BackendPoint], folder: Path) -> Artefact:
    """Ours against the paper's; Figure 7's of pipelines from CPU to CPU, as the paper's is."""
    fitting = [point for point in backends if point.measured.kind == "CPU to CPU" and not point.measured.unfit]
    rows = [
        *models_beside(counted_models(inputs.runs), reference_models()),
        *splits,
        *backends_beside(fitting, reference_backends()),
        *claims_beside(sockets_against_rpc(fitting), reference_backends()),
    ]
    if not rows:
        return Artefact(_BESIDE_TITLE, lacks=(Lack("nothing that was measured is in the paper"),))
    columns = beside_columns(rows)
    files = save_tables(folder, "ours-against-the-papers", columns, beside_rows(rows), BESIDE_COLUMNS)
    numbered = [f"- {number}: {note}" for number, note in enumerate(beside_notes(rows), start=1)]
    notes = (
        device_note(inputs.measured),
        *(["Notes: why there is no ratio.\n\n" + "\n".join(numbered)] if numbered else []),
    )
    return Artefact(_BESIDE_TITLE, files, text=markdown(columns), notes=notes)
