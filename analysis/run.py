"""A results directory as one table: a row per record, a column per scalar that a record or one of its stages has."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.beside import Beside
from analysis.columns import Columns, NumberError, is_measurement
from analysis.operating_points import AXES, table_columns
from paretopipe_runtime.results import ResultsError, RunFiles, open_files, records_file

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

JsonObject = dict[str, Any]
_WHOLE = ("schema", "round", "n_cuts", *AXES)
_NESTED = ("stages", "transport", "error")
PART_BYTES = 1 << 24
"""Fewer bytes of records than this are read faster than another process is started and heard."""
_KINDS: dict[str, set[type]] = {
    "cell": {str},
    "round": {int},
    "depth": {int, type(None)},
    "stages": {list, type(None)},
}


@dataclass(frozen=True)
class Run:
    """One results directory."""

    directory: Path
    run: JsonObject
    """run.json."""
    probes: list[JsonObject]
    """Lines of probes.jsonl."""
    frame: pd.DataFrame
    """One row per record that counts (the last of its cell, round and depth), in file order of the first occurrence.

    First `table_columns`, then `n_cuts`, `state`, `failure`, every other scalar key of a record (`window_s`,
    `granularity`, `segment`, ...), those of its stages as `stage1_host`, `stage1_serialize_s`, ..., of its transport
    as `transport_streams`, ... (lists joined by `+`), of its error as `error_kind`, ..., and `n_stages` (0 where
    failed).

    `state` is `valid`, `invalid` or `failed`: a record is invalid, too, where its segment's `after` probe found
    another network, or where it calls itself valid without a latency or a throughput. `invalid_reason` says why.
    `failure` is the error as `kind on host: message`, or None.

    Measurements are floats, NaN where null. Texts, flags and the axes (whole numbers, `depth` None where an imported
    result does not know it) are objects, None where null.
    """

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The rows of `frame` that have measurements, valid or not, numbered from 0."""
        return self.frame[self.frame["status"] == "ok"].reset_index(drop=True)


def read_run(directory: Path) -> Run:
    """Read a results directory, packed or not.

    Raises ResultsError if it is none, is of another schema, or is damaged beyond a torn last line.
    """
    files = open_files(directory)
    return Run(directory, files.run, files.probes, _read(files).frame(files.changed_networks()))


def frame_of_records(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """`Run.frame` of records that are in no file. Raises ResultsError as `read_run`."""
    table = _Table("record")
    table.add(1, list(records))
    return table.frame({})


def _read(files: RunFiles) -> _Table:
    """The records, a large file's by several processes."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    parts = files.record_parts(cores, PART_BYTES)
    if len(parts) > 1:
        try:
            beside = [Beside(partial(_read_part, files, part)) for part in parts[1:]]
            table = _read_part(files, parts[0])
            import_module("pandas")  # here, while the others finish
            for found in beside:
                table.extend(found.result())
        except ResultsError:
            # A part does not know which line of the file its first one is: in what follows the same error has numbers.
            pass
        else:
            return table
    return _read_part(files, None)


def _read_part(files: RunFiles, part: range | None) -> _Table:
    table = _Table(str(records_file(files.directory)))
    for first, records in files.record_blocks(AXES, part):
        table.add(first, records)
    return table


class _Table:
    """The columns of a frame while records come in; `source` is what an error calls the file."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._records = Columns(exact=_WHOLE)
        self._stages: list[Columns] = []
        self._stage_counts: list[int] = []
        self._transport = Columns(joined=True)
        self._error = Columns()
        self._places: dict[tuple[str, int, int | None], int] = {}
        self._rows: list[int] = []
        """Place in the frame -> which of the records added counts there."""

    def add(self, first: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records; `first` is the line number of the first. Raises ResultsError."""
        cells, rounds, depths = (self._checked(first, records, key) for key in ("cell", "round", "depth"))
        stages = self._checked(first, records, "stages")
        for row, key in enumerate(zip(cells, rounds, depths, strict=True), start=len(self._records)):
            place = self._places.setdefault(key, len(self._rows))
            if place == len(self._rows):
                self._rows.append(row)
            else:
                self._rows[place] = row
        try:
            self._add_stages(first, [found or () for found in stages])
            self._records.add(records)
        except NumberError as error:
            raise ResultsError(f"{self._source}:{first + error.row}: {error}; the file was edited") from error
        self._transport.add([_part(record, "transport") for record in records])
        self._error.add([_part(record, "error") for record in records])

    def extend(self, later: _Table) -> None:
        """Append what was added to another table."""
        before = len(self._records)
        for key, place in later._places.items():
            row = before + later._rows[place]
            if self._places.setdefault(key, len(self._rows)) == len(self._rows):
                self._rows.append(row)
            else:
                self._rows[self._places[key]] = row
        while len(self._stages) < len(later._stages):
            self._stages.append(Columns(length=before))
        for k, columns in enumerate(self._stages):
            columns.extend(later._stages[k] if k < len(later._stages) else Columns(length=len(later._records)))
        self._stage_counts += later._stage_counts
        self._records.extend(later._records)
        self._transport.extend(later._transport)
        self._error.extend(later._error)

    def _checked(self, first: int, records: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
        values = [record.get(key) for record in records]
        if not set(map(type, values)) <= _KINDS[key]:
            row = next(row for row, value in enumerate(values) if type(value) not in _KINDS[key])
            raise ResultsError(f"{self._source}:{first + row}: {key!r} is {values[row]!r}; the file was edited")
        return values

    def _add_stages(self, first: int, stages: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        counts = [len(found) for found in stages]
        for row, found in enumerate(stages):
            if not all(type(stage) is dict for stage in found):
                raise ResultsError(f"{self._source}:{first + row}: a stage is no object; the file was edited")
        while len(self._stages) < max(counts, default=0):
            self._stages.append(Columns(length=len(self._records)))
        for k, columns in enumerate(self._stages):
            columns.add([found[k] if len(found) > k else None for found in stages])
        self._stage_counts += counts

    def frame(self, changed: Mapping[str, str]) -> pd.DataFrame:
        """All that was added. `changed`: segment -> why its records are invalid."""
        import numpy as np
        import pandas as pd

        records = {key: values for key, values in self._records.arrays().items() if key not in _NESTED}
        stages = {
            f"stage{k}_{key}": values
            for k, columns in enumerate(self._stages, start=1)
            for key, values in columns.arrays().items()
        }
        transport = {f"transport_{key}": values for key, values in self._transport.arrays().items()}
        error = {f"error_{key}": values for key, values in self._error.arrays().items()}
        counts = {"n_stages": np.array(self._stage_counts, dtype=np.int64)}
        columns = records | stages | transport | error | counts
        rows = np.array(self._rows, dtype=np.int64)
        if len(rows) != len(self._records) or (rows != np.arange(len(rows))).any():
            columns = {name: values[rows] for name, values in columns.items()}
        designed = [*table_columns(len(self._stages)), "n_cuts"]
        for name in designed:
            if name not in columns:
                columns[name] = np.full(len(rows), np.nan if is_measurement(name) else None)
        columns |= _judged(columns, changed)
        order = dict.fromkeys([*designed, "state", "failure", *columns])
        series = {name: pd.Series(columns[name], dtype=columns[name].dtype, copy=False) for name in order}
        return pd.DataFrame(series)


def _part(record: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    part = record.get(key)
    return part if isinstance(part, dict) else None


def _judged(columns: Mapping[str, NDArray[Any]], changed: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """`valid`, `invalid_reason`, `state` and `failure`: what counts, and why not."""
    import numpy as np

    ok = columns["status"] == "ok"
    claimed = np.array(list(map(bool, columns["valid"])), dtype=np.bool_)
    reasons = np.full(len(claimed), None, dtype=object)
    reasons[ok & ~claimed] = columns["invalid_reason"][ok & ~claimed]
    valid = columns["valid"].copy()
    for row in np.flatnonzero(ok & claimed) if changed else ():
        reason = changed.get(columns["segment"][row]) if "segment" in columns else None
        if reason is not None:
            valid[row], claimed[row], reasons[row] = False, False, reason
    measured = np.isfinite(columns["latency_s"]) & np.isfinite(columns["throughput_img_s"])
    reasons[ok & ~claimed & (reasons == None)] = "no reason recorded"  # noqa: E711  # elementwise
    reasons[ok & claimed & ~measured] = "the record has no latency or no throughput"
    words: NDArray[np.object_] = np.array(["failed", "invalid", "valid"], dtype=object)
    state = words[np.where(ok, 1 + (claimed & measured), 0)]
    failure = np.full(len(state), None, dtype=object)
    for row in np.flatnonzero(~ok):
        failure[row] = _failure(*(_at(columns, f"error_{key}", row) for key in ("kind", "host", "message")))
    return {"valid": valid, "invalid_reason": reasons, "state": state, "failure": failure}


def _at(columns: Mapping[str, NDArray[Any]], name: str, row: np.intp) -> Any:
    return columns[name][row] if name in columns else None


def _failure(kind: str | None, host: str | None, message: str | None) -> str:
    where = f" on {host}" if host else ""
    return f"{kind or 'unknown'}{where}: {message or 'no error recorded'}"
