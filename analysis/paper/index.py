"""The page that ties all artefacts together, in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.markup import markdown
from analysis.paper.artefacts import EXAMPLE_NOTE, Artefact, gaps, listing, needs_example
from analysis.paper.measured import Measured
from analysis.paper.reference import CITATION


def index_page(artefacts: Sequence[Artefact], measured: Iterable[Measured], remarks: Iterable[str]) -> str:
    """The whole page: sources, what was made, what is lacking, then every artefact with its pictures and tables."""
    lines = ["# The paper's tables and figures, measured here", "", f"The paper: {CITATION}.", "", "Measured:", ""]
    lines += [f"- `{source.directory}`: {source.words}" for source in measured]
    lines += ["", *(f"{remark}\n" for remark in remarks)]
    lines += [markdown(listing(artefacts)).rstrip(), ""]
    if found := gaps(artefacts):
        lines += ["## What the results lack", ""]
        for gap in found:
            lines += [f"**{gap.number}.** {'; '.join(gap.whys)}", ""]
            lines += ["```", gap.command, "```", ""] if gap.command else []
        lines += [EXAMPLE_NOTE, ""] if needs_example(found) else []
    for artefact in artefacts:
        if not artefact.files:
            continue
        lines += [f"## {artefact.title}", ""]
        for name in artefact.files:
            if name.endswith(".png"):
                lines += [f"![{artefact.title}]({name})", ""]
        if artefact.text:
            lines += [artefact.text.rstrip(), ""]
        lines += [f"{note}\n" for note in artefact.notes]
        lines += ["Files: " + ", ".join(f"[{name}]({name})" for name in artefact.files), ""]
    return "\n".join(lines)
