"""The results directory while it is written (docs/formats.md)."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from paretopipe_matrix.errors import StoreError, WriteError
from paretopipe_matrix.testbed import JsonObject
from paretopipe_runtime.results import PACKED_RECORDS, append_lines, load_run, read_lines, truncate_torn_tail
from paretopipe_runtime.results.directory import SCHEMA, RunData

_LOCK = ".lock"
_OURS = {_LOCK, "logs", "run.json"}


class Store:
    """A results directory held exclusively; use as a context manager.

    Raises StoreError if another pp-matrix holds it or if it holds something else, WriteError if it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: IO[str] | None = None

    def __enter__(self) -> Store:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Opened without truncation: the pid in it belongs to whoever holds the lock.
            self._lock = (self.directory / _LOCK).open("a+")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock.truncate(0)
            self._lock.write(str(os.getpid()))
            self._lock.flush()
        except BlockingIOError as error:
            holder = _holder(self._lock)
            self._release()
            raise StoreError(
                f"{self.directory}: another pp-matrix{holder} is writing here; wait for it, or choose another --out"
            ) from error
        except OSError as error:
            self._release()
            raise WriteError(f"{self.directory}: cannot write results here: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        # Nothing was planned or logged: leave no empty directory behind.
        if {path.name for path in self.directory.iterdir()} == {_LOCK}:
            (self.directory / _LOCK).unlink()
            self.directory.rmdir()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def log_dir(self) -> Path:
        """Where hosts' logs go."""
        return self.directory / "logs"

    def load(self) -> RunData | None:
        """What is here already, torn tails cut off first; None for a new directory.

        Raises StoreError if the directory is packed or holds something else, ResultsError if it is damaged.
        """
        if (self.directory / PACKED_RECORDS).exists():
            raise StoreError(
                f"{self.directory}: a packed copy ({PACKED_RECORDS}), which nothing is measured into; "
                "name the run it was made of, or choose another --out"
            )
        if not (self.directory / "run.json").exists():
            foreign = sorted({path.name for path in self.directory.iterdir() if not path.name.startswith(".")} - _OURS)
            if foreign:
                raise StoreError(
                    f"{self.directory}: holds {foreign[0]} but no run.json, so it is no results directory; "
                    "choose another --out"
                )
            return None
        with self._writing("records.jsonl"):
            for name in ("records.jsonl", "probes.jsonl"):
                truncate_torn_tail(self.directory / name)
        return load_run(self.directory)

    def write_run(self, run: JsonObject) -> None:
        """Write run.json whole or not at all."""
        text = json.dumps({"schema": SCHEMA, **run}, indent=2, allow_nan=False) + "\n"
        with self._writing("run.json"):
            _replace(self.directory / "run.json", lambda path: path.write_text(text))

    def append_records(self, records: Sequence[JsonObject]) -> None:
        """Append to records.jsonl in one write and wait for the disk."""
        with self._writing("records.jsonl"):
            append_lines(self.directory / "records.jsonl", records)

    def append_probe(self, probe: JsonObject) -> None:
        """Append to probes.jsonl and wait for the disk."""
        with self._writing("probes.jsonl"):
            append_lines(self.directory / "probes.jsonl", [probe])

    def open_segments(self, pipeline: str, profile: str) -> list[str]:
        """Segments of a group that have a `before` probe with a kept profile, but no `after`: the run was cut off."""
        opened: dict[str, None] = {}
        for line in read_lines(self.directory / "probes.jsonl"):
            if line["when"] == "after":
                opened.pop(line["segment"], None)
            elif line["ok"] and (line["pipeline"], line["profile"]) == (pipeline, profile):
                opened[line["segment"]] = None
        return list(opened)

    def write_samples(self, cell: str, round_: int, rows: Iterable[JsonObject]) -> None:
        """Write samples/<cell>/<round>.parquet; rows of depths that were not measured this time are kept."""
        import pandas as pd

        new = pd.DataFrame(list(rows))
        if new.empty:
            return
        path = self.directory / "samples" / cell / f"{round_}.parquet"
        with self._writing(f"samples of {cell}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                old = pd.read_parquet(path)
                kept = old[~old["depth"].isin(set(new["depth"]))]
                new = pd.concat([kept, new]) if len(kept) else new
            ordered = new.sort_values(["depth", "batch_id"], kind="stable").reset_index(drop=True)
            _replace(path, lambda temporary: ordered.to_parquet(temporary, index=False))

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WriteError(
                f"{self.directory}: cannot write {what}: {error.strerror or error}; what was finished before is saved. "
                f"Make room, then: pp-matrix run --out {self.directory}"
            ) from error


def _holder(lock: IO[str] | None) -> str:
    if lock is None:
        return ""
    lock.seek(0)
    pid = lock.read().strip()
    return f" (process {pid})" if pid.isdecimal() else ""


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        os.fchmod(handle, 0o644)
        write(temporary)
        os.fsync(handle)
        temporary.replace(path)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)
