"""The format of a weight file: every tensor's bytes, then an index in JSON, then the index's length and a mark.

A file cut short is recognised by its end, a changed one by its hash.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any

import torch

from paretopipe_runtime.model.sources import Source
from paretopipe_runtime.model.tensors import Slot

MAGIC = b"PPWEIGHT"
# The largest page of a Linux kernel in use: 4 KiB on x86 and Pi 4, 16 KiB on Pi 5, 64 KiB on some ARM servers.
PAGE_BYTES = 1 << 16
# Smaller tensors are read: a mapping of its own costs each a file descriptor, and a DenseNet has a thousand.
MAP_FROM_BYTES = 1 << 17
SMALL_ALIGNMENT_BYTES = 64
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """Where a tensor is in the file; its values are in row-major order."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def mapped(self) -> bool:
        """Whether it is large enough to be mapped; then it starts on a page."""
        return self.nbytes >= MAP_FROM_BYTES


@dataclass(frozen=True)
class Index:
    """What a weight file says about itself."""

    key: dict[str, Any]
    hash: str
    entries: dict[str, Entry]


class Digest:
    """BLAKE2b over names, dtypes, shapes and bytes of tensors, in order of their names."""

    def __init__(self) -> None:
        self._state = blake2b(digest_size=16)

    def begin(self, entry: Entry) -> None:
        """Start the next tensor."""
        self._state.update(f"{entry.name} {entry.dtype} {entry.shape}\n".encode())

    def update(self, raw: memoryview) -> None:
        """Add values of the tensor begun last."""
        self._state.update(raw)

    def hexdigest(self) -> str:
        """The digest of all that was added."""
        return self._state.hexdigest()


def layout(slots: Iterable[Slot]) -> list[tuple[Slot, Entry]]:
    """Where each tensor goes, in order of names."""
    placed: list[tuple[Slot, Entry]] = []
    end = 0
    for slot in sorted(slots, key=lambda slot: slot.name):
        tensor = slot.tensor
        alignment = PAGE_BYTES if tensor.nbytes >= MAP_FROM_BYTES else SMALL_ALIGNMENT_BYTES
        offset = -(-end // alignment) * alignment
        placed.append((slot, Entry(slot.name, tensor.dtype, tuple(tensor.shape), offset)))
        end = offset + tensor.nbytes
    return placed


def raw_bytes(piece: torch.Tensor) -> memoryview:
    """The bytes of a flat tensor, not copied."""
    return piece.contiguous().view(torch.uint8).numpy().data


def hash_of(slots: Iterable[Slot], source: Source) -> str:
    """The hash that a file with these values would have."""
    digest = Digest()
    for slot, entry in layout(slots):
        digest.begin(entry)
        for piece in source(slot):
            digest.update(raw_bytes(piece))
    return digest.hexdigest()


def write(path: Path, slots: Iterable[Slot], source: Source, key: Mapping[str, Any]) -> None:
    """Write a file under a temporary name, then give it its own: two writers do not disturb each other.

    It is on the disk before it gets its name, so that the kernel does not write it back during a measurement.
    Raises `OSError`.
    """
    placed = layout(slots)
    digest = Digest()
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp", delete=False) as file:
        try:
            for slot, entry in placed:
                file.seek(entry.offset)
                digest.begin(entry)
                for piece in source(slot):
                    raw = raw_bytes(piece)
                    digest.update(raw)
                    file.write(raw)
            rows = [
                {"name": e.name, "dtype": str(e.dtype).removeprefix("torch."), "shape": e.shape, "offset": e.offset}
                for _, e in placed
            ]
            index = json.dumps({"key": dict(key), "hash": digest.hexdigest(), "tensors": rows}).encode()
            file.write(index + len(index).to_bytes(8, "little") + MAGIC)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:  # an interrupt, too, must not leave half a gigabyte behind
            Path(file.name).unlink(missing_ok=True)
            raise


def read_index(file: BufferedReader) -> Index:
    """Raises `ValueError`, `KeyError` or `TypeError` for anything but a whole weight file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 16))
    trailer = file.read(16)
    length = int.from_bytes(trailer[:8], "little")
    if trailer[8:] != MAGIC or length > size - 16:
        raise ValueError("its end is missing")
    file.seek(size - 16 - length)
    index = json.loads(file.read(length))
    entries: dict[str, Entry] = {}
    for row in index["tensors"]:
        dtype = getattr(torch, row["dtype"], None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{row['dtype']!r} is no dtype")
        entries[row["name"]] = Entry(row["name"], dtype, tuple(map(int, row["shape"])), int(row["offset"]))
    return Index(dict(index["key"]), str(index["hash"]), entries)


def hash_file(file: BufferedReader, entries: Iterable[Entry]) -> str:
    """Compute the hash from the file's bytes, with little memory. Raises `ValueError` for a file cut short."""
    digest = Digest()
    buffer = memoryview(bytearray(READ_BYTES))
    for entry in sorted(entries, key=lambda entry: entry.name):
        digest.begin(entry)
        file.seek(entry.offset)
        left = entry.nbytes
        while left:
            count = file.readinto(buffer[: min(left, READ_BYTES)])
            if not count:
                raise ValueError("it is shorter than its index says")
            digest.update(buffer[:count])
            left -= count
    return digest.hexdigest()
