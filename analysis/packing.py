"""A results directory made small to keep and to attach: everything that was measured, in four files or fewer."""

from __future__ import annotations

import fcntl
import gzip
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from analysis.run import read_run
from analysis.samples import PACKED as PACKED_SAMPLES
from analysis.samples import sample_files, sample_schema, sample_tables
from paretopipe_runtime.results import PACKED_RECORDS, RECORDS, copy_lines

_ROWS_AT_ONCE = 1 << 18
"""Sample rows of one group in the Parquet file, and about as many are held at once."""


class PackingError(Exception):
    """A run that cannot be packed, or a place that cannot be written to; one line that says why."""


@dataclass(frozen=True)
class PackedFile:
    """A file of a packed run."""

    name: str
    entries: int
    """Lines or rows; 1 for run.json."""
    unit: str
    source_bytes: int
    """What it takes in the run."""
    packed_bytes: int


def pack(directory: Path, out: Path) -> list[PackedFile]:
    """Write a packed copy of the run in `directory` to `out`, all of it or nothing, and read it back.

    run.json, probes.jsonl and all whole lines of records.jsonl are kept as they are, superseded ones too; the samples
    become one table. Logs and figures are left out. The same run gives the same bytes with the same versions of zlib
    and pyarrow. Raises PackingError, ResultsError where a file cannot be read, and OSError.
    """
    if (directory / PACKED_RECORDS).exists():
        raise PackingError(f"{directory}: packed already; copy it as it is")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PackingError(f"{out}: exists and is not empty; name another place")
    with _unwritten(directory):
        before = read_run(directory).frame
        if before.empty:
            raise PackingError(f"{directory}: no round is finished yet; nothing to pack")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
            place = Path(name, "packed")
            place.mkdir()
            made = _written(directory, place)
            if not read_run(place).frame.equals(before):
                raise PackingError(f"{directory}: the copy reads otherwise than the run, so it is not kept; try again")
            # Replaces an empty directory, and fails on any other.
            place.rename(out)
    return made


def _written(directory: Path, place: Path) -> list[PackedFile]:
    made = [_copied(directory, place, "run.json", "object"), _records(directory, place)]
    if (directory / "probes.jsonl").exists():
        made.append(_copied(directory, place, "probes.jsonl", "line"))
    schema = sample_schema(directory)
    if schema is not None:
        made.append(_samples(directory, place, schema))
    return made


@contextmanager
def _unwritten(directory: Path) -> Iterator[None]:
    """While nobody measures into the run. Raises PackingError where pp-matrix holds its lock."""
    try:
        lock: IO[bytes] = (directory / ".lock").open("rb")
    except FileNotFoundError:
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PackingError(f"{directory}: pp-matrix is writing here; wait for it") from error
        yield


def _copied(directory: Path, place: Path, name: str, unit: str) -> PackedFile:
    source, target = directory / name, place / name
    if unit == "line":
        with target.open("wb") as file:
            entries = copy_lines(source, file.write)
    else:
        shutil.copyfile(source, target)
        entries = 1
    return PackedFile(name, entries, unit, source.stat().st_size, target.stat().st_size)


def _records(directory: Path, place: Path) -> PackedFile:
    source, target = directory / RECORDS, place / PACKED_RECORDS
    # Neither name nor time in the header: the same records are the same bytes.
    with target.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        entries = copy_lines(source, packed.write)
    return PackedFile(PACKED_RECORDS, entries, "line", source.stat().st_size, target.stat().st_size)


def _samples(directory: Path, place: Path, schema: Any) -> PackedFile:
    import pyarrow as pa
    from pyarrow import parquet

    target = place / PACKED_SAMPLES
    entries = 0
    # Times hardly repeat: their bytes by place (all exponents, then ...) take two thirds of what a dictionary does.
    measured = [field.name for field in schema if pa.types.is_floating(field.type)]
    others = [field.name for field in schema if field.name not in measured]
    options = {"use_byte_stream_split": measured, "use_dictionary": others}
    with parquet.ParquetWriter(target, schema, compression="zstd", compression_level=9, **options) as writer:
        for table in _gathered((table for _, table in sample_tables(directory)), schema):
            writer.write_table(table, row_group_size=_ROWS_AT_ONCE)
            entries += table.num_rows
    sources = sum(path.stat().st_size for _, _, path in sample_files(directory))
    return PackedFile(PACKED_SAMPLES, entries, "row", sources, target.stat().st_size)


def _gathered(tables: Iterable[Any], schema: Any) -> Iterator[Any]:
    """Tables of at least `_ROWS_AT_ONCE` rows, but for the last, with all columns of `schema`."""
    import pyarrow as pa

    held: list[Any] = []
    for table in tables:
        held.append(_filled(table, schema))
        if sum(part.num_rows for part in held) >= _ROWS_AT_ONCE:
            yield pa.concat_tables(held).unify_dictionaries()
            held = []
    if held:
        yield pa.concat_tables(held).unify_dictionaries()


def _filled(table: Any, schema: Any) -> Any:
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def total(files: Sequence[PackedFile]) -> tuple[int, int]:
    """Bytes before and after."""
    return sum(file.source_bytes for file in files), sum(file.packed_bytes for file in files)
