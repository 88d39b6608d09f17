"""What this process uses, read cheaply enough to be read for every batch."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def resident_bytes() -> int:
    """Resident set size of this process (proc(5), statm field 2)."""
    with _STATM.open("rb", buffering=0) as file:
        return int(file.read(128).split()[1]) * _PAGE_BYTES


def reset_peak() -> bool:
    """Let `peak_bytes` count from now (proc(5), clear_refs 5); False where this kernel cannot."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """Largest resident set size of this process since `reset_peak`, else since its start (proc(5), VmHWM)."""
    with _STATUS.open("rb", buffering=0) as file:
        text = file.read(4096)
    start = text.index(b"VmHWM:") + 6
    return int(text[start : text.index(b"kB", start)]) * 1024
