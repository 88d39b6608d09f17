"""Append-only JSON lines that survive a crash at any moment."""

from __future__ import annotations

import gzip
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


def line_blocks(path: Path) -> Iterator[tuple[int, list[JsonObject]]]:
    """`read_lines` in blocks of some hundred lines, each time with the number of the first one (from 1).

    Raises OSError if there is no such file.
    """
    first, damaged = 1, 0
    for lines in _whole_lines(path):
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


def _whole_lines(path: Path) -> Iterator[list[bytes]]:
    """Lines that end in a newline, without it, in blocks of about `_BLOCK_BYTES`."""
    with _open(path) as file:
        rest = b""
        while block := _next(file, path):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            yield lines


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _next(file: IO[bytes], path: Path) -> bytes:
    try:
        return file.read(_BLOCK_BYTES)
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
