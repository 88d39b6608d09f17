"""How far each cell of a run is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretopipe_matrix.schedule import Slot


@dataclass(frozen=True)
class CellState:
    """Rounds of one cell by what became of them. A round counts as the worst of its depths."""

    cell: str
    rounds: int
    ok: int
    failed: int
    invalid: int

    @property
    def pending(self) -> int:
        """Rounds with a depth that has no record yet."""
        return self.rounds - self.ok - self.failed - self.invalid

    @property
    def word(self) -> str:
        """`failed`, `invalid`, `pending` or `ok`: the first that applies to any round."""
        for word, count in (("failed", self.failed), ("invalid", self.invalid), ("pending", self.pending)):
            if count:
                return word
        return "ok"


def slots_of(run: Mapping[str, Any]) -> list[Slot]:
    """The planned cells of a run.json."""
    return [
        Slot(cell["cell"], cell["pipeline"], cell["profile"], tuple(cell["depths"])) for cell in run.get("cells", [])
    ]


def cell_states(slots: Sequence[Slot], rounds: int, records: Iterable[Mapping[str, Any]]) -> list[CellState]:
    """States in the order of the plan. `records`: the last line of every (cell, round, depth)."""
    found = {(record["cell"], record["round"], record["depth"]): record for record in records}
    states = []
    for slot in slots:
        counts = {"ok": 0, "failed": 0, "invalid": 0, "pending": 0}
        for round_ in range(1, rounds + 1):
            counts[_round_word([found.get((slot.cell, round_, depth)) for depth in slot.depths])] += 1
        states.append(CellState(slot.cell, rounds, counts["ok"], counts["failed"], counts["invalid"]))
    return states


def _round_word(records: Sequence[Mapping[str, Any] | None]) -> str:
    present = [record for record in records if record is not None]
    if any(record["status"] != "ok" for record in present):
        return "failed"
    if any(not record["valid"] for record in present):
        return "invalid"
    return "ok" if len(present) == len(records) else "pending"
