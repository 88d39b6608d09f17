"""A recommendation's Markdown lines as passages of the page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from analysis.report.document import Answer, Passage

_STARTS = (("    ", "command"), ("## ", "heading"), ("- ", "item"))


def answer_of(lines: Sequence[str]) -> Answer:
    """The lines of `recommendation_lines`; the first is the title, as `# model`."""
    title, *rest = lines
    return Answer(title.removeprefix("# "), tuple(map(_passage, rest)))


def _passage(line: str) -> Passage:
    start, kind = next(((start, kind) for start, kind in _STARTS if line.startswith(start)), ("", "text"))
    text = line.removeprefix(start)
    if kind in ("command", "heading"):
        return Passage(kind, ((text, False),))
    # Two stars stress what is between them: every second piece.
    pieces = ((piece, index % 2 == 1) for index, piece in enumerate(re.split(r"\*\*", text)))
    return Passage(kind, tuple((piece, stressed) for piece, stressed in pieces if piece))
