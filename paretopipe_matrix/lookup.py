"""Finding a cell by what somebody typed. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from paretopipe_matrix.errors import UserError


def find_cell(text: str, cells: Sequence[str]) -> str:
    """The cell of that id, or the only one that starts with it; raises UserError with close or matching ids."""
    if text in cells:
        return text
    matching = [cell for cell in cells if cell.startswith(text)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        some = "".join(f"\n  {cell}" for cell in matching[:5])
        raise UserError(f"{text!r} is the beginning of {len(matching)} cells; write more of it:{some}")
    close = difflib.get_close_matches(text, cells, n=3, cutoff=0.4)
    hint = "; close:" + "".join(f"\n  {cell}" for cell in close) if close else ""
    raise UserError(f"no cell {text!r} in this run (pp-matrix list names them){hint}")
