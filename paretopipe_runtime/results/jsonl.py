"""Append-only JSON lines that survive a crash at any moment."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

JsonObject = dict[str, Any]
_BLOCK_BYTES = 1 << 18
"""Read at once: lines of a block become objects together, and no more of them are held. A hundred or so records stay in
the processor's cache: blocks of 4 MB took 1.8 times as long."""


def _fast_parser() -> Callable[[bytes], Any]:
    # A controller has orjson, a host of a pipeline need not: both parsers give the same objects.
    try:
        import orjson
    except ModuleNotFoundError:
        return json.loads
    return cast("Callable[[bytes], Any]", orjson.loads)


_parse_fast = _fast_parser()


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

    A file whose name ends in `.gz` is decompressed. Raises ValueError naming file and line if a line before the last
    one is not a JSON object: that is not what a crash leaves, so it is not guessed at.
    """
    return [obj for _, objects in line_blocks(path) for obj in objects] if path.exists() else []


def line_parts(path: Path, most: int) -> list[range]:
    """Up to `most` ranges of bytes, about equal, that begin at a line and are all of the file; one of a `.gz` file.

    Raises OSError if there is no such file.
    """
    size = path.stat().st_size
    if path.suffix == ".gz" or most < 2:
        return [range(size)]
    starts = [0]
    with path.open("rb") as file:
        for k in range(1, most):
            file.seek(size * k // most)
            file.readline()
            starts.append(file.tell())
    return [range(a, b) for a, b in itertools.pairwise([*starts, size]) if a < b]


def line_blocks(path: Path, part: range | None = None) -> Iterator[tuple[int, list[JsonObject]]]:
    """`read_lines` in blocks of some hundred lines, each time with the number of the first one (from 1).

    With `part`, one of `line_parts`, only the lines there, and from its beginning their numbers count. Raises OSError
    if there is no such file.
    """
    first, damaged = 1, 0
    for lines in _whole_lines(path, part):
        objects = []
        for number, line in enumerate(lines, start=first):
            if damaged:
                raise ValueError(f"{path}:{damaged}: not a JSON object; the file was edited or damaged")
            obj = _parsed(line)
            if isinstance(obj, dict):
                objects.append(obj)
            else:
                damaged = number
        if objects:
            yield first, objects
        first += len(lines)
    if damaged and part and part.stop < path.stat().st_size:
        raise ValueError(f"{path}: a line before the last one is not a JSON object; the file was edited or damaged")


def _whole_lines(path: Path, part: range | None = None) -> Iterator[list[bytes]]:
    """Lines that end in a newline, without it, in blocks of about `_BLOCK_BYTES`."""
    with _open(path) as file:
        left = None
        if part is not None and path.suffix != ".gz":
            file.seek(part.start)
            left = len(part)
        rest = b""
        while block := _next(file, path, left):
            left = left if left is None else left - len(block)
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            yield lines


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _next(file: IO[bytes], path: Path, left: int | None) -> bytes:
    """The next bytes, at most as many as are `left` (None: as there are)."""
    try:
        return file.read(_BLOCK_BYTES if left is None else min(_BLOCK_BYTES, left))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error}); take another copy of it") from error


def _parsed(line: bytes) -> Any:
    """The value, or None where the line is no JSON. NaN and Infinity, which JSON does not have, are numbers."""
    try:
        return _parse_fast(line)
    except ValueError:
        try:
            return json.loads(line)
        except ValueError:
            return None


def copy_lines(source: Path, write: Callable[[bytes], object]) -> int:
    """Pass every line that `read_lines` reads to `write`, bytes as they are; returns how many there are.

    Raises ValueError and OSError as `line_blocks` does.
    """
    count = 0
    held: bytes | None = None
    for lines in _whole_lines(source):
        for line in lines:
            if held is not None:
                write(held + b"\n")
                count += 1
            held = line
    if held is not None and isinstance(_parsed(held), dict):
        write(held + b"\n")
        count += 1
    return count


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
        if not isinstance(_parsed(last), dict):
            keep -= len(last)
    if keep < len(raw):
        with path.open("r+b") as file:
            file.truncate(keep)
            os.fsync(file.fileno())
    return len(raw) - keep
