"""The run in five lines that can be cited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.operating_points import CHOICES
from analysis.report.document import Fact
from analysis.report.networks import network_words
from analysis.report.points import choice_words, cut_words, latency_words, throughput_words
from analysis.report.provenance import host_words, pipelines
from analysis.report.quantities import count

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fronts.marking import Fronts
    from analysis.run import Run

NAMED_FRONTS = 6
"""So many fronts are named in a line; of more the rest is counted."""


def summary(data: Run, marked: Fronts, validity: Sequence[str]) -> tuple[Fact, ...]:
    """What was measured, on what, whether it counts, and the two ends of every front."""
    return (
        ("Measured", _measured(data, marked.points)),
        ("On", _on(data)),
        ("Validity", " ".join(validity)),
        ("Lowest latency", _ends(marked, "latency_s")),
        ("Highest throughput", _ends(marked, "throughput_img_s")),
    )


def _measured(data: Run, points: pd.DataFrame) -> str:
    models = dict.fromkeys(map(str, points["model"]))
    cuts = points.drop_duplicates(["model", "split_index"])
    chains = pipelines(data.run)
    parts = [
        f"{', '.join(models)} at {count(len(cuts), 'cut')}, {count(len(points), 'operating point')}",
        *(f"{name.replace('_', ' ')} {_values(points, name, chains)}" for name in (*CHOICES, "depth", "profile")),
        count(int(data.frame["round"].nunique()), "round"),
    ]
    if data.run.get("created_at"):
        parts.append(f"started {data.run['created_at']}")
    git = data.run.get("git") or {}
    if git.get("commit"):
        parts.append(f"commit {str(git['commit'])[:12]}{' with uncommitted changes' if git.get('dirty') else ''}")
    return "; ".join(parts) + "."


def _values(points: pd.DataFrame, column: str, chains: dict[str, list[str]]) -> str:
    values = dict.fromkeys(points[column].dropna().tolist())
    if not values:
        return "unknown"
    if column == "pipeline":
        return ", ".join(f"{name} ({' → '.join(chains[name])})" if name in chains else str(name) for name in values)
    whole = column in ("batch_size", "depth")
    return ", ".join(str(int(value)) for value in sorted(values)) if whole else ", ".join(map(str, values))


def _on(data: Run) -> str:
    hosts, networks = host_words(data.run), network_words(data.run, data.probes)
    return f"{hosts or 'Hosts unknown'}. Networks, measured: {networks or 'none'}."


def _ends(marked: Fronts, column: str) -> str:
    """Of each front the point that is best in one objective."""
    points = marked.points
    ends = []
    for front in marked.fronts:
        here = points.loc[front.index]
        here = here[here["on_frontier"]]
        if here.empty:
            continue
        best = here.sort_values(column, ascending=column == "latency_s", kind="stable").to_dict("records")[0]
        row = {str(name): value for name, value in best.items()}
        value = latency_words(row) if column == "latency_s" else throughput_words(row)
        where = f"{front.key['model']} under {front.key['profile']}"
        ends.append(f"{where}: {value} ({cut_words(row)}, {choice_words(row)})")
    more = f"; and of {count(len(ends) - NAMED_FRONTS, 'more front')}, below" if len(ends) > NAMED_FRONTS else ""
    return "; ".join(ends[:NAMED_FRONTS]) + more + "." if ends else "no valid point."
