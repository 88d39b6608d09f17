"""Files of the artefacts: texts, tables in three formats, and how their names are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.markup import Column, latex, markdown
from analysis.output import InputError, remark, save_table


def picture_files(stem: str) -> tuple[str, ...]:
    """The names of what a figure is written as, with its table."""
    return tuple(stem + ending for ending in (".png", ".svg", ".csv"))


def save_tables(
    folder: Path, stem: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> tuple[str, ...]:
    """Write `columns` as Markdown and LaTeX, `rows` as csv with the columns `names`; the names of the files."""
    save_text(folder / f"{stem}.md", markdown(columns))
    save_text(folder / f"{stem}.tex", plain_latex(columns))
    save_table(folder / stem, rows, names)
    return tuple(stem + ending for ending in (".md", ".csv", ".tex"))


def plain_latex(columns: Sequence[Column]) -> str:
    r"""A `tabular` with `\hline` that needs no package; ends with a newline."""
    text = latex(columns)
    for rule in ("toprule", "midrule", "bottomrule"):
        text = text.replace(f"\n\\{rule}\n", "\n\\hline\n")
    return text


def save_text(path: Path, text: str) -> None:
    """Write a file and tell its path. Raises InputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name another place with --out DIR") from error
    remark(str(path))
