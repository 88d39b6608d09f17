"""Append-only JSON lines that survive a crash at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

JsonObject = dict[str, Any]


def append_lines(path: Path, objects: Iterable[JsonObject]) -> None:
    """Append one line per object in a single write and wait until it is on the disk.

    Raises OSError (a full disk, say) with nothing but a torn last line left behind, which readers drop.
    """
    text = "".join(json.dumps(obj, allow_nan=False, separators=(",", ":")) + "\n" for obj in objects)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        data = text.encode()
        start = os.fstat(fd).st_size
        written = os.write(fd, data)
        if written != len(data):
            os.ftruncate(fd, start)
            raise OSError(28, "disk full: a record could not be written whole", str(path))
        os.fsync(fd)
    finally:
        os.close(fd)


def read_lines(path: Path) -> list[JsonObject]:
    """All whole lines of a file; a torn last line (no newline, or not JSON) is dropped.

    Raises ValueError naming file and line if a line before the last one is not a JSON object: that is not
    what a crash leaves, so it is not guessed at.
    """
    if not path.exists():
        return []
    raw = path.read_bytes()
    objects: list[JsonObject] = []
    lines = raw.split(b"\n")
    tail = lines.pop()  # after the last newline: empty, or torn
    del tail
    for number, line in enumerate(lines, start=1):
        try:
            obj = json.loads(line)
        except ValueError:
            obj = None
        if not isinstance(obj, dict):
            if number == len(lines):
                break
            raise ValueError(f"{path}:{number}: not a JSON object; the file was edited or damaged")
        objects.append(obj)
    return objects


def truncate_torn_tail(path: Path) -> int:
    """Cut off what `read_lines` would drop, so that the next append starts on a line of its own.

    Returns the number of bytes removed.
    """
    if not path.exists():
        return 0
    raw = path.read_bytes()
    keep = raw.rfind(b"\n") + 1
    if keep:
        last = raw[raw.rfind(b"\n", 0, keep - 1) + 1 : keep]
        try:
            whole = isinstance(json.loads(last), dict)
        except ValueError:
            whole = False
        if not whole:
            keep -= len(last)
    if keep < len(raw):
        with path.open("r+b") as file:
            file.truncate(keep)
            os.fsync(file.fileno())
    return len(raw) - keep
