"""CSV files: anybody's, with a word per column that says what it is, and those of `pp-analyze table --format csv`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from analysis.fronts.own_data import OwnData, OwnDataError, read_own_data
from analysis.importers.defects import Numbers, general_defects
from analysis.importers.writing import (
    SCHEMA,
    UNKNOWN,
    Imported,
    Point,
    SourceError,
    count_defects,
    marks,
    records_of,
    refuse_repeats,
    stage,
)
from analysis.operating_points import MEASURED, STAGE_METRICS, table_columns

JsonObject = dict[str, Any]

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "KiB": 1024.0, "MiB": 1048576.0}
NO_UNIT: dict[str, float] = {}
REQUIRED = ("latency", "throughput", "model", "split")
TEXTS = ("model", "split", "profile", "backend", "engine")
WHOLE = ("batch_size", "depth", "round")
UNITS = {"latency": SECONDS, "throughput": NO_UNIT, "network": SECONDS, "bytes": BYTES}
"""Name of a field that is a number -> its units; `stage{k}_exec` are seconds too."""

_MISSING = {"", "na", "n/a", "nan", "null", "none", "-"}
_MAY_BE_MISSING = ("depth", "network", "bytes")
"""Fields, besides the stages', whose missing value is unknown; a row that lacks another is left out."""
_LOOKS_LIKE = re.compile(
    r"(?:^|[^A-Za-z]|(?<=[a-z])(?=[A-Z]))(?P<unit>Ms|Us|ns|us|µs|ms|msecs?|milli\w*|micro\w*|min|minutes?|[kKmMG]i?[bB])[\])]?$"
)
_BOUNDED_SLACK = 0.01
"""Tables are rounded: a latency is below its parts where it is so by more than this part of it."""
_TABLE_HEADER = frozenset(table_columns(0))
_TABLE_WHOLE = ("batch_size", "depth", "round")
_STAGE_COLUMN = re.compile(r"stage(\d+)_(\w+)")


class Field(NamedTuple):
    """Where a value is from: a column, or a constant."""

    name: str
    column: str | None
    constant: str | None
    factor: float

    def text(self, row: Mapping[str, str]) -> str:
        """What a row has there."""
        return (row[self.column] if self.column is not None else self.constant or "").strip()


@dataclass(frozen=True)
class _Row:
    """A row and the number by which a message names it."""

    source: str
    number: int
    cells: Mapping[str, str]


def parse_field(name: str, text: str) -> Field:
    """What was given for a field: `COL`, `COL:unit`, `=text` (the same for all rows), a whole number where one fits.

    Raises SourceError where a column's name ends like a unit and no unit is given: seconds and bytes are not guessed.
    """
    units = _units(name)
    if text.startswith("="):
        return Field(name, None, *_with_unit(text[1:], units))
    if name in WHOLE and text.isdecimal():
        return Field(name, None, text, 1.0)
    column, factor = _with_unit(text, units)
    looks = _LOOKS_LIKE.search(column)
    if units and column == text and looks:
        unit = looks["unit"] if looks["unit"] in units else looks["unit"].lower()
        shown = f"{column}:{unit if unit in units else '|'.join(units)}"
        base = "bytes" if units is BYTES else "seconds"
        plain = f"{column}:{next(iter(units))}"
        raise SourceError(f"--{_option(name)} {column}: the name ends in {unit}; write {shown}, or {plain} for {base}")
    return Field(name, column, None, factor)


def is_table(header: Sequence[str]) -> bool:
    """Whether a header is that of `pp-analyze table --format csv`."""
    return set(header) >= _TABLE_HEADER


def import_csv(sources: Sequence[tuple[str, Path]], given: Mapping[str, str], *, keep_defective: bool) -> Imported:
    """Read files, given as (name to show, path). `given`: field -> what the user said of it, as `parse_field` takes it.

    Without `given` all files must be tables of `pp-analyze table --format csv`. Raises SourceError where a file cannot
    be read, a column does not exist (with close names), a cell is no number, or nothing is left.
    """
    fields = {name: parse_field(name, text) for name, text in given.items()}
    columns = [field.column for field in fields.values() if field.column is not None]
    files = [(name, _read(path, columns)) for name, path in sources]
    if fields:
        return _mapped(files, fields, keep_defective=keep_defective)
    for name, data in files:
        if not is_table(data.columns):
            raise SourceError(
                f"{name}: not a table of pp-analyze table --format csv, so say which column is what: --latency, "
                f"--throughput, --model, --split; the columns are {', '.join(data.columns)}"
            )
    return _tables(files)


def _read(path: Path, columns: Sequence[str]) -> OwnData:
    try:
        return read_own_data(path, (), columns)
    except OwnDataError as error:
        raise SourceError(str(error)) from error


def _mapped(files: Sequence[tuple[str, OwnData]], fields: Mapping[str, Field], *, keep_defective: bool) -> Imported:
    lacking = [f"--{_option(name)}" for name in REQUIRED if name not in fields]
    if lacking:
        raise SourceError(
            f"{files[0][0]}: {', '.join(lacking)} missing; the columns are {', '.join(files[0][1].columns)}"
        )
    dropped: Counter[str] = Counter()
    points = []
    for name, data in files:
        for number, cells in enumerate(data.rows, start=1):
            row = _Row(name, number, cells)
            missing = [field.name for field in fields.values() if _is_missing(field, row)]
            if missing:
                dropped[missing[0]] += 1
            else:
                points.append(_point(row, fields))
    total = sum(dropped.values())
    if not points:
        raise SourceError(f"{', '.join(name for name, _ in files)}: no row has all of {', '.join(REQUIRED)}")
    remarks = []
    if total:
        which = ", ".join(f"{count} without {name}" for name, count in dropped.items())
        remarks.append(f"{total} of {total + len(points)} rows left out: {which}")
    tables = [name for name, data in files if is_table(data.columns)]
    if tables:
        remarks.append(f"{tables[0]} is a table of pp-analyze: without options failed and invalid records stay so")
    if "batch_size" not in fields:
        remarks.append("batch size 1 assumed: latency is taken as that of one image; --batch-size N if it is of more")
    if "depth" not in fields:
        remarks.append("depth unknown; --depth N or COL if the number of batches in flight is known")
    records = records_of(points, keep_defective=keep_defective)
    return Imported("CSV files", tuple(records), count_defects(points), tuple(remarks))


def _point(row: _Row, fields: Mapping[str, Field]) -> Point:
    texts = {name: fields[name].text(row.cells) for name in TEXTS if name in fields}
    whole = {name: _whole(row, fields[name], least=0 if name == "round" else 1) for name in WHOLE if name in fields}
    stages = [name for name in sorted(fields, key=_stage_number) if _stage_number(name)]
    latency, throughput = (_positive(row, fields[name]) for name in ("latency", "throughput"))
    numbers = Numbers(
        latency_s=latency,
        throughput_img_s=throughput,
        batch_size=whole.get("batch_size") or 1,
        depth=whole.get("depth"),
        parts_s=tuple(_number(row, fields[name]) for name in stages),
        network_s=_number(row, fields["network"]) if "network" in fields else None,
        bytes_per_batch=_number(row, fields["bytes"]) if "bytes" in fields else None,
    )
    index = re.fullmatch(r"[Pp]?(\d+)", texts["split"])
    return Point(
        source=row.source,
        model=texts["model"],
        split=texts["split"],
        split_index=index[1] if index else texts["split"],
        granularity=UNKNOWN,
        backend=texts.get("backend", UNKNOWN),
        engine=texts.get("engine", UNKNOWN),
        profile=texts.get("profile", "imported"),
        batch_size=numbers.batch_size,
        latency_s=latency,
        throughput_img_s=throughput,
        depth=numbers.depth,
        round=whole.get("round"),
        parts_s=numbers.parts_s,
        network_s=numbers.network_s,
        bytes_per_batch=numbers.bytes_per_batch,
        defects=tuple(general_defects(numbers, _BOUNDED_SLACK)),
    )


def _is_missing(field: Field, row: _Row) -> bool:
    if field.name in _MAY_BE_MISSING or _stage_number(field.name):
        return False
    if field.name in TEXTS:
        return not field.text(row.cells)
    return _number(row, field) is None


def _positive(row: _Row, field: Field) -> float:
    value = _number(row, field)
    if value is None or value <= 0:
        raise SourceError(f"{row.source}: row {row.number}: {field.name} {field.text(row.cells)!r} is not above 0")
    return value


def _whole(row: _Row, field: Field, least: int) -> int | None:
    value = _number(row, field)
    if value is None:
        return None
    if value != int(value) or value < least:
        text = field.text(row.cells)
        raise SourceError(f"{row.source}: row {row.number}: {field.name} {text!r} is no whole number from {least}")
    return int(value)


def _number(row: _Row, field: Field) -> float | None:
    """The value in SI units; None where it is missing or not finite. Raises SourceError where it is no number."""
    text = field.text(row.cells)
    if text.casefold() in _MISSING:
        return None
    try:
        value = float(text)
    except ValueError:
        where = f"column {field.column!r}" if field.column is not None else f"--{_option(field.name)}"
        raise SourceError(f"{row.source}: row {row.number}, {where}: {text!r} is not a number") from None
    return value * field.factor if math.isfinite(value) else None


def _tables(files: Sequence[tuple[str, OwnData]]) -> Imported:
    """Records that `pp-analyze table` has written, as it wrote them; what a table does not have is null."""
    records = [
        _table_record(_Row(name, number, cells))
        for name, data in files
        for number, cells in enumerate(data.rows, start=1)
    ]
    if not records:
        raise SourceError(f"{', '.join(name for name, _ in files)}: no row below the header")
    refuse_repeats(records)
    ends: dict[str, set[str]] = {}
    for record in records:
        if set(record["split_name"].split("+")) == {"output"}:
            ends.setdefault(record["model"], set()).update(record["split_index"].split("+"))
    for record in records:
        # The table has no number of cuts, but the last cut, where it was measured, is called `output`.
        known = ends.get(record["model"], set())
        record["n_cuts"] = int(next(iter(known))) if len(known) == 1 and next(iter(known)).isdecimal() else None
    return Imported("a pp-analyze table", tuple(records), (), ("samples, probes and host facts are not in a table",))


def _table_record(row: _Row) -> JsonObject:
    cells = row.cells
    record: JsonObject = {column: cells[column] or None for column in table_columns(0)}
    numbers = {column: _number(row, Field(column, column, None, 1.0)) for column in MEASURED}
    whole = {column: _whole(row, Field(column, column, None, 1.0), least=0) for column in _TABLE_WHOLE}
    lacking = [column for column in ("cell", "model", "split", "split_index") if not record[column]]
    lacking += [column for column in ("batch_size", "round") if whole[column] is None]
    if lacking or record["status"] not in ("ok", "failed") or cells["valid"] not in ("True", "False"):
        wrong = lacking[0] if lacking else "status or valid"
        raise SourceError(f"{row.source}: row {row.number}: {wrong} is not what pp-analyze table writes")
    unknown = dict.fromkeys(("window_s", "window_batches", "warmup_batches", "warmup_s", "transport"))
    unknown |= dict.fromkeys(("output_bitwise", "output_max_rel_err", "graph_hash", "weight_hash", "segment"))
    failed = record["status"] == "failed"
    return {
        **{"schema": SCHEMA, **record, **numbers, **whole, **unknown, "granularity": UNKNOWN, "started_at": None},
        "split_name": record["split_name"] or record["split"],
        "valid": cells["valid"] == "True",
        "stages": _table_stages(row),
        "error": _unknown_error() if failed else None,
        **marks(row.source, ()),
    }


def _table_stages(row: _Row) -> list[JsonObject] | None:
    """The stages that a row has a figure of; None where it has none, as failed records have."""
    found: dict[int, dict[str, float]] = {}
    for column in row.cells:
        match = _STAGE_COLUMN.fullmatch(column)
        value = _number(row, Field(column, column, None, 1.0)) if match and match[2] in STAGE_METRICS else None
        if match and value is not None:
            found.setdefault(int(match[1]), {})[match[2]] = value
    if not found:
        return None
    engine = row.cells["engine"] or UNKNOWN
    return [stage(k, engine, **found.get(k, {})) for k in range(1, max(found) + 1)]


def _unknown_error() -> JsonObject:
    return {"kind": UNKNOWN, "message": "the table does not say why", "host": None, "remedy": None, "log_tail": []}


def _units(name: str) -> dict[str, float]:
    return SECONDS if _stage_number(name) else UNITS.get(name, NO_UNIT)


def _with_unit(text: str, units: Mapping[str, float]) -> tuple[str, float]:
    """`lat:ms` -> `lat` and 0.001; a text without one of the units as it is."""
    head, _, tail = text.rpartition(":")
    return (head, units[tail]) if head and tail in units else (text, 1.0)


def _stage_number(name: str) -> int:
    """2 for `stage2_exec`; 0 for all else."""
    match = re.fullmatch(r"stage(\d+)_exec", name)
    return int(match[1]) if match else 0


def _option(name: str) -> str:
    return name.replace("_", "-")
