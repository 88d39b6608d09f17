"""A grid of cells as Markdown or LaTeX. Knows nothing of what is in the cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_LATEX_SPECIAL = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"±": r"$\pm$", "…": r"\ldots{}", "<": r"$<$", ">": r"$>$"},
}


@dataclass(frozen=True)
class Column:
    """One column of a printed table."""

    header: str
    cells: tuple[str, ...]
    right: bool = False
    """Aligned right, as numbers are."""
    elastic: bool = False
    """May be shortened to `MIN_WIDTH` characters where the table is too wide; the end of the text is kept."""
    drop: int = 0
    """Where the table is too wide, columns go in descending order of this; 0 stays."""
    last_resort: bool = False
    """Goes where shortening is not enough."""

    @property
    def width(self) -> int:
        """Characters of the widest cell, the header included."""
        return max(map(len, (self.header, *self.cells)), default=0)


MIN_WIDTH = 8


def fit(columns: Sequence[Column], limit: int) -> tuple[list[Column], list[str]]:
    """Columns that fill at most `limit` characters in Markdown, and the headers of those left out for it.

    Drops first, shortens only what must stay; a table whose columns must all stay may remain too wide.
    """
    kept = list(columns)
    left_out: list[str] = []
    while _width(kept) > limit and any(column.drop for column in kept):
        victim = max(kept, key=lambda column: column.drop)
        kept.remove(victim)
        left_out.append(victim.header)
    while (excess := _width(kept) - limit) > 0:
        elastic = [column for column in kept if column.elastic and column.width > max(MIN_WIDTH, len(column.header))]
        if not elastic:
            expendable = [column for column in kept if column.last_resort]
            if not expendable:
                break
            kept.remove(expendable[0])
            left_out.append(expendable[0].header)
            continue
        widest = max(elastic, key=lambda column: column.width)
        target = max(MIN_WIDTH, len(widest.header), widest.width - excess)
        kept[kept.index(widest)] = replace(widest, cells=tuple(_shorten(cell, target) for cell in widest.cells))
    return kept, left_out


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + 3 * len(columns) + 1


def markdown(columns: Sequence[Column]) -> str:
    """A GitHub-flavoured pipe table, padded so that it also reads as plain text; ends with a newline."""
    escaped = [
        replace(c, header=_escape_pipe(c.header), cells=tuple(_escape_pipe(cell) for cell in c.cells)) for c in columns
    ]

    widths = [c.width for c in escaped]
    pads = [str.rjust if c.right else str.ljust for c in escaped]

    def line(texts: Sequence[str]) -> str:
        padded = [pad(text, width) for pad, text, width in zip(pads, texts, widths, strict=True)]
        return "| " + " | ".join(padded) + " |\n"

    rule = (
        "|" + "|".join("-" * (w + 1) + (":" if c.right else "-") for w, c in zip(widths, escaped, strict=True)) + "|\n"
    )
    rows = zip(*(c.cells for c in escaped), strict=True)
    return line([c.header for c in escaped]) + rule + "".join(line(row) for row in rows)


def _escape_pipe(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def latex(columns: Sequence[Column]) -> str:
    """A `tabular` in booktabs style (needs `\\usepackage{booktabs}`); ends with a newline."""
    alignment = "".join("r" if c.right else "l" for c in columns)
    rows = [[c.header for c in columns], *zip(*(c.cells for c in columns), strict=True)]
    head, *body = [" & ".join(_escape_latex(text) for text in row) + r" \\" for row in rows]
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}", ""])


def _escape_latex(text: str) -> str:
    return re.sub(r"[&%$#_{}~^\\±…<>]", lambda match: _LATEX_SPECIAL[match[0]], text)
