"""The allocator of `pages.c` from inside a process that was started with it."""

from __future__ import annotations

import ctypes
from typing import NamedTuple


class Figures(NamedTuple):
    """What the allocator did; bytes in units of 64 KiB."""

    live_bytes: int
    peak_bytes: int
    """Of `live_bytes` since the last `trim`."""
    fresh_bytes: int
    moved_bytes: int
    dropped_bytes: int
    moves: int
    mappings: int


def figures() -> Figures | None:
    """What it did so far in this process; None where glibc serves all."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "paretopipe_pages"):
        return None
    found = (ctypes.c_uint64 * len(Figures._fields))()
    return Figures(*found) if library.paretopipe_pages(found) else None


def trim() -> None:
    """Give all free memory back to the system, the allocator's and glibc's (malloc_trim(3))."""
    library = ctypes.CDLL(None)
    if hasattr(library, "paretopipe_trim_pages"):
        library.paretopipe_trim_pages()
    library.malloc_trim(0)
