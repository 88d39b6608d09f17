"""Which columns a table has, for scripts (csv: everything, full precision) and for people (md, latex: rounded)."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from analysis.markup import Column
from analysis.numbers import significant, with_uncertainty
from analysis.operating_points import CHOICES, HIGH, table_columns, varying

if TYPE_CHECKING:
    import pandas as pd

LINE_WIDTH = 100
_ROWS_AT_ONCE = 4096
_SHORT = {"batch_size": "batch"}
_STAGE_HEADERS = {
    "exec_s": ("s{k} ms", 1e3, 1),
    "cpu_pct": ("s{k} cpu %", 1.0, 2),
    "mem_pct": ("s{k} mem %", 1.0, 4),
    "gpu_util_pct": ("s{k} gpu %", 1.0, 3),
    "gpu_mem_pct": ("s{k} gpu mem %", 1.0, 5),
}
"""Metric -> header, factor to the header's unit, rank of leaving a table that is too wide."""


def write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], stream: IO[str]) -> None:
    """Rows as CSV: floats so that they read back exactly, None and NaN as empty fields."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if _missing(row[column]) else row[column] for column in columns])


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def write_frame(frame: pd.DataFrame, stream: IO[str]) -> None:
    """A frame as `write_csv` writes its rows, many times faster."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(frame.columns)
    for start in range(0, len(frame), _ROWS_AT_ONCE):
        part = frame.iloc[start : start + _ROWS_AT_ONCE]
        writer.writerows(zip(*(_fields(part[column]) for column in part.columns), strict=True))


def _fields(column: pd.Series[Any]) -> list[object]:
    missing = column.isna()
    values: list[object] = column.tolist()
    return ["" if gone else value for gone, value in zip(missing, values, strict=True)] if missing.any() else values


def raw_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`table_columns` of a `Run.frame`: a row per record, `valid` as it was judged, whole bytes as whole numbers."""
    import pandas as pd

    raw = frame[table_columns(int(frame["n_stages"].max()))].copy()
    raw["valid"] = frame["state"] == "valid"
    nbytes = [int(value) if value.is_integer() else value for value in raw["bytes_per_batch"].tolist()]
    raw["bytes_per_batch"] = pd.Series(nbytes, index=raw.index, dtype=object)
    return raw


def frame_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain Python values, for `write_csv`."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def frontier_table(points: pd.DataFrame, by: str) -> list[Column]:
    """The printed frontier: where, at which depth, latency and throughput with their half widths, rounds."""
    choices = [c for c in CHOICES if c in (by, "batch_size") or c in varying(points, CHOICES)]
    return [
        _text(points, "model"),
        _text(points, "profile", droppable=True),
        *_split(points),
        *(_axis(points, choice) for choice in choices),
        Column("D", _strings(points["depth"]), right=True),
        *_headline(points),
        Column("n", _rounds(points), right=True),
    ]


def points_table(points: pd.DataFrame) -> list[Column]:
    """The printed table of all operating points: `frontier_table`'s columns plus what explains them."""
    varied = varying(points, CHOICES)
    return [
        _text(points, "model"),
        _text(points, "profile", droppable=True),
        *_split(points),
        *(_axis(points, choice) for choice in CHOICES if choice in varied or choice == "batch_size"),
        Column("D", _strings(points["depth"]), right=True),
        *_headline(points),
        Column("n", _rounds(points), right=True),
        *_measured(points, "network_s", "net ms", 1e3, 1),
        *_measured(points, "bytes_per_batch", "kB/batch", 1e-3, 3),
        *_stages(points),
    ]


def constant_axes(points: pd.DataFrame) -> str:
    """`backend socket, engine eager, ...`: the axes that a printed table leaves out because they never change."""
    axes = ("profile", "shaper", *CHOICES)
    constant = [axis for axis in axes if points[axis].nunique(dropna=False) == 1]
    return ", ".join(f"{axis.replace('_', ' ')} {points[axis].iloc[0] or 'unknown'}" for axis in constant)


def half_width(points: pd.DataFrame, metric: str) -> pd.Series[float]:
    """Half the width of the 95 % t-interval of a metric, in its unit; NaN with fewer than two rounds."""
    return (points[metric + HIGH] - points[metric]).astype(float)


def _split(points: pd.DataFrame) -> list[Column]:
    names = points["placement"].where(points["placement"] != "", points["split_name"].map(str))
    return [Column("split", _strings(points["split"])), Column("cut", _strings(names), elastic=True, last_resort=True)]


def _headline(points: pd.DataFrame) -> list[Column]:
    shown = (("latency ms", "latency_s", 1e3), ("images/s", "throughput_img_s", 1.0))
    return [Column(header, _uncertain(points, metric, factor), right=True) for header, metric, factor in shown]


def _uncertain(points: pd.DataFrame, metric: str, factor: float) -> tuple[str, ...]:
    pairs = zip(points[metric], half_width(points, metric), strict=True)
    return tuple(with_uncertainty(mean * factor, half * factor) for mean, half in pairs)


def _rounds(points: pd.DataFrame) -> tuple[str, ...]:
    """`5`, or `4 of 5` where a round was invalid or failed."""
    totals = points["rounds"] + points["rounds_invalid"] + points["rounds_failed"]
    pairs = zip(points["rounds"], totals, strict=True)
    return tuple(f"{valid}" if valid == total else f"{valid} of {total}" for valid, total in pairs)


def _stages(points: pd.DataFrame) -> list[Column]:
    stages = sorted({int(c[5 : c.index("_")]) for c in points.columns if c.startswith("stage")})
    return [
        column
        for metric, (header, factor, rank) in _STAGE_HEADERS.items()
        for k in stages
        for column in _measured(points, f"stage{k}_{metric}", header.format(k=k), factor, rank)
    ]


def _measured(points: pd.DataFrame, metric: str, header: str, factor: float, rank: int) -> list[Column]:
    """The column of a mean, or nothing if it was measured nowhere."""
    if points[metric].isna().all():
        return []
    return [Column(header, tuple(significant(mean * factor) for mean in points[metric]), right=True, drop=rank)]


def _axis(points: pd.DataFrame, axis: str) -> Column:
    drop = 0 if points[axis].nunique(dropna=False) > 1 else 6
    return Column(_SHORT.get(axis, axis), _strings(points[axis]), right=axis == "batch_size", elastic=True, drop=drop)


def _text(points: pd.DataFrame, axis: str, *, droppable: bool = False) -> Column:
    drop = 6 if droppable and points[axis].nunique(dropna=False) == 1 else 0
    return Column(axis, _strings(points[axis]), elastic=True, drop=drop)


def _strings(values: Iterable[object]) -> tuple[str, ...]:
    return tuple("" if _missing(value) else str(value) for value in values)
