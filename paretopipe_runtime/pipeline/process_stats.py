"""What this process uses, read cheaply enough to be read for every batch."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Resident set size of this process (proc(5), statm field 2)."""
    with _STATM.open("rb", buffering=0) as file:
        return int(file.read(128).split()[1]) * _PAGE_BYTES


def private_resident_bytes() -> int:
    """Resident memory without pages shared with other processes (proc(5), smaps_rollup: Private_*)."""
    total_kib = 0
    with Path("/proc/self/smaps_rollup").open() as file:
        for line in file:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total_kib += int(line.split()[1])
    return total_kib * 1024
