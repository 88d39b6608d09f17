"""The samples of a run as one table: a row per batch, in either layout of docs/formats.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretopipe_runtime.results import ResultsError

if TYPE_CHECKING:
    import pandas as pd

PACKED = "samples.parquet"
"""All samples of a packed run in one file."""
_FOLDER = "samples"


def read_samples(directory: Path) -> pd.DataFrame | None:
    """All samples of a run, sorted by cell and round; None where it has none.

    Columns: `cell` and `round`, then those of the files (`depth, batch_id, counted, done_s, latency_s, stage1_exec_s,
    ...`); what an older run or a shorter pipeline did not store is NaN or None. Raises ResultsError on a file that
    cannot be read.
    """
    import pyarrow as pa

    tables = [table for _, table in sample_tables(directory)]
    if not tables:
        return None
    table = pa.concat_tables(tables, promote_options="permissive")
    # Cells repeat by the hundred: dictionaries share one text per cell.
    frame: pd.DataFrame = table.to_pandas()
    frame["cell"] = frame["cell"].astype(object)
    return frame


def sample_tables(directory: Path) -> Iterator[tuple[Path, Any]]:
    """Each samples file with its rows as a pyarrow Table that starts with `cell` (a dictionary) and `round`.

    Raises ResultsError on a file that cannot be read.
    """
    import pyarrow as pa

    packed = directory / PACKED
    if packed.exists():
        yield packed, _read(packed, read_dictionary=["cell"])
    for cell, number, path in sample_files(directory):
        table = _read(path)
        rows = table.num_rows
        cells = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [cell])
        rounds = pa.array([number] * rows, pa.int64())
        yield path, table.add_column(0, "cell", cells).add_column(1, "round", rounds)


def sample_files(directory: Path) -> list[tuple[str, int, Path]]:
    """Cell, round and path of every samples file of a run that is not packed, sorted by cell and round."""
    found = [
        (path.parent.name, int(path.stem), path)
        for path in (directory / _FOLDER).glob("*/*.parquet")
        if path.stem.isdecimal()
    ]
    return sorted(found)


def sample_schema(directory: Path) -> Any:
    """The pyarrow Schema of what `sample_tables` gives, all columns that any file has; None where there is no file.

    Raises ResultsError on a file that cannot be read, or whose columns are of another kind than an earlier file's.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema = None
    for _, _, path in sample_files(directory):
        with _reading(path):
            found = parquet.read_schema(path).remove_metadata()
            schema = pa.unify_schemas([schema, found], promote_options="permissive") if schema else found
    if schema is None:
        return None
    cell, number = pa.field("cell", pa.dictionary(pa.int32(), pa.string())), pa.field("round", pa.int64())
    return schema.insert(0, cell).insert(1, number)


def _read(path: Path, **options: Any) -> Any:
    from pyarrow import parquet

    with _reading(path), parquet.ParquetFile(path, **options) as file:
        # One thread: most of a small file would go into handing its columns out.
        return file.read(use_threads=False).replace_schema_metadata(None)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(f"{path}: cannot be read as samples ({reason}); restore the file or remove it") from error
