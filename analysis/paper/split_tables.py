"""Tables II and III in the paper's own columns: a row per split that the paper prints and a pipeline measured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.markup import Column
from analysis.numbers import with_uncertainty
from analysis.operating_points import HIGH, LOW
from analysis.paper.measured import AS_IT_IS, Measured, like_the_paper, why_lacking
from analysis.paper.reference import BATCH_SIZE, ReferenceSplit, SplitTable
from analysis.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd

NET = "net_s"
COLUMN_OF = {NET: "network_s", "gpu_util_pct": "stage2_gpu_util_pct", "gpu_mem_pct": "stage2_gpu_mem_pct"}
"""The paper's column -> ours, where they are called differently; the GPU is the second stage's."""
_HEADERS = {
    "stage1_exec_s": "s1 exec s",
    "stage2_exec_s": "s2 exec s",
    NET: "net s",
    "stage1_cpu_pct": "s1 cpu %",
    "stage2_cpu_pct": "s2 cpu %",
    "gpu_util_pct": "gpu %",
    "stage1_mem_pct": "s1 mem %",
    "stage2_mem_pct": "s2 mem %",
    "gpu_mem_pct": "gpu mem %",
}
UNKNOWN = Interval(float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class SplitRow:
    """A split of the paper as one pipeline measured it."""

    reference: ReferenceSplit
    measured: Measured
    profile: str
    depth: int
    """The greatest with a valid round: all columns but `net_s` are of it. The reference feeds without bound."""
    values: Mapping[str, Interval]
    """The paper's column -> mean and 95 % interval over rounds; `net_s` at depth 1. NaN, n = 0 where not measured."""

    @property
    def rounds(self) -> int:
        """Valid ones at `depth`."""
        return self.values["stage1_exec_s"].n


@dataclass(frozen=True)
class Absent:
    """A split of the paper that a pipeline lacks, and why."""

    reference: ReferenceSplit
    measured: Measured
    why: str


def split_rows(
    table: SplitTable, measured: Sequence[Measured], points: Sequence[pd.DataFrame]
) -> tuple[list[SplitRow], list[Absent]]:
    """What pipelines of the table's kind measured under the paper's conditions, in the table's order.

    `points` are the operating points of each of `measured`, with `granularity`. Conditions: the paper's granularity,
    backend, engine and batch size, and a network as it is. A split that no round of a pipeline measured validly
    is `Absent` for it.
    """
    rows: list[SplitRow] = []
    absent: list[Absent] = []
    for reference in table.rows:
        for source, of_source in zip(measured, points, strict=True):
            if source.kind != table.pipeline:
                continue
            why = source.unfit or why_lacking(source, reference.model, reference.split)
            if why:
                absent.append(Absent(reference, source, why))
                continue
            found = list(_rows_of(table, reference, source, of_source))
            rows += found
            if not found:
                absent.append(Absent(reference, source, "the depth of no valid round is known"))
    return rows, absent


def _rows_of(
    table: SplitTable, reference: ReferenceSplit, source: Measured, points: pd.DataFrame
) -> Iterable[SplitRow]:
    """One row per profile that leaves the network as it is."""
    same = like_the_paper(points)
    same = same[(same["model"] == reference.model) & (same["split"] == reference.split) & (same["rounds"] > 0)]
    same = same[same["batch_size"] == BATCH_SIZE]
    for profile, group in same.groupby("profile", sort=False):
        if source.network(str(profile)) != AS_IT_IS:
            continue
        by_depth = {int(row["depth"]): row for row in group.to_dict("records")}
        deepest = max(by_depth)
        values = {
            column: interval_of(by_depth.get(1 if column == NET else deepest), COLUMN_OF.get(column, column))
            for column in table.columns
        }
        yield SplitRow(reference, source, str(profile), deepest, values)


def interval_of(point: Mapping[Any, Any] | None, column: str) -> Interval:
    """Mean and interval of a column of an operating point; n is its rounds, 0 where the column was not measured."""
    if point is None or column not in point or point[column] != point[column]:
        return UNKNOWN
    mean = float(point[column])
    return Interval(mean, float(point[column + HIGH]) - mean, int(point["rounds"]))


def split_columns(table: SplitTable, rows: Sequence[SplitRow]) -> list[Column]:
    """The table as people read it: mean ± half the 95 % interval; where measured stands on the right."""
    sources = [f"{row.measured.directory.name}/{row.measured.pipeline}" for row in rows]
    return [
        Column("model", tuple(row.reference.name for row in rows)),
        Column("split", tuple(row.reference.split for row in rows)),
        *(
            Column(
                _HEADERS[column],
                tuple(with_uncertainty(row.values[column].mean, row.values[column].half_width) for row in rows),
                right=True,
                drop=3 if "mem" in column else 0,
            )
            for column in table.columns
        ),
        Column("D", tuple(str(row.depth) for row in rows), right=True),
        Column("n", tuple(str(row.rounds) for row in rows), right=True),
        *([Column("measured", tuple(sources), elastic=True)] if len(set(sources)) > 1 else []),
    ]


def split_csv_columns(table: SplitTable) -> list[str]:
    """The paper's columns, each with the ends of its interval, then where and how it was measured."""
    named = [name for column in table.columns for name in (column, column + LOW, column + HIGH)]
    return ["model", "split", *named, "depth", "net_depth", "rounds", "profile", "pipeline", "devices", "directory"]


def split_csv_rows(table: SplitTable, rows: Iterable[SplitRow]) -> list[dict[str, Any]]:
    """Rows of `split_csv_columns`; `net_depth` is 1, or None where depth 1 was not measured."""
    out = []
    for row in rows:
        cells: dict[str, Any] = {"model": row.reference.name, "split": row.reference.split}
        for column in table.columns:
            interval = row.values[column]
            cells |= {column: interval.mean, column + LOW: interval.low, column + HIGH: interval.high}
        cells |= {
            "depth": row.depth,
            "net_depth": 1 if row.values[NET].n else None,
            "rounds": row.rounds,
            "profile": row.profile,
            "pipeline": row.measured.pipeline,
            "devices": row.measured.words,
            "directory": str(row.measured.directory),
        }
        out.append(cells)
    return out


def split_notes(rows: Sequence[SplitRow]) -> list[str]:
    """What a reader of the table must know."""
    depths = ", ".join(sorted({str(row.depth) for row in rows}))
    return [
        f"Stages at depth {depths}, the greatest measured, because the reference implementation feeds its pipeline "
        "without bound; net s at depth 1: what is left of the latency there, both directions and the kernel in it. "
        "The paper's is defined otherwise.",
        "± half the 95 % t-interval over n rounds. CPU percentages are summed over cores.",
        *dict.fromkeys(row.measured.words + "." for row in rows),
    ]
