"""Reading and appending what a run leaves behind (docs/formats.md). Knows no torch, no hosts, no pandas."""

from paretopipe_runtime.results.directory import (
    PACKED_RECORDS,
    RECORDS,
    ResultsError,
    RunData,
    RunFiles,
    load_run,
    newest_run,
    open_files,
    records_file,
)
from paretopipe_runtime.results.jsonl import append_lines, copy_lines, read_lines, truncate_torn_tail

__all__ = [
    "PACKED_RECORDS",
    "RECORDS",
    "ResultsError",
    "RunData",
    "RunFiles",
    "append_lines",
    "copy_lines",
    "load_run",
    "newest_run",
    "open_files",
    "read_lines",
    "records_file",
    "truncate_torn_tail",
]
