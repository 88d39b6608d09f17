"""Reading and appending what a run leaves behind (docs/formats.md). Knows no torch, no hosts, no pandas."""

from paretopipe_runtime.results.directory import ResultsError, RunData, load_run, newest_run
from paretopipe_runtime.results.jsonl import append_lines, read_lines, truncate_torn_tail

__all__ = [
    "ResultsError",
    "RunData",
    "append_lines",
    "load_run",
    "newest_run",
    "read_lines",
    "truncate_torn_tail",
]
