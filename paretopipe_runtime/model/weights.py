"""Weights in a file that a stage maps: it touches its own pages only, and dropping it gives them back."""

from __future__ import annotations

import errno
import json
import logging
import mmap
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from paretopipe_runtime.model.errors import ModelError
from paretopipe_runtime.model.sources import Source, pieces_of
from paretopipe_runtime.model.tensors import Slot
from paretopipe_runtime.model.weight_file import Index, hash_file, hash_of, raw_bytes, read_index, write

log = logging.getLogger(__name__)

FORMAT = 1
ABANDONED_AFTER_S = 24 * 3600.0


def cache_directory() -> Path:
    """Where weight files are kept: `$PARETOPIPE_CACHE`, else `~/.cache/paretopipe/weights`."""
    override = os.environ.get("PARETOPIPE_CACHE")
    return Path(override).expanduser() if override else Path.home() / ".cache" / "paretopipe" / "weights"


def cache_key(name: str, weights: str | Path, seed: int, slots: list[Slot]) -> dict[str, Any]:
    """What fixes a weight file's content, as far as it can be told without reading the weights.

    `structure` is a digest of all names, shapes and dtypes, the rules for random weights, and the values that the
    model's own code made, so it changes with the code of a user's factory wherever that matters.
    Raises `ModelError` where `weights` is a file that cannot be found.
    """
    import torchvision

    structure = blake2b(digest_size=16)
    for slot in slots:
        tensor = slot.tensor
        structure.update(f"{slot.names} {slot.kind} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        structure.update(f"{slot.initial} {slot.bound.hex()}\n".encode())
        if slot.initial == "keep":
            for piece in pieces_of(tensor):
                structure.update(raw_bytes(piece))
    key = {
        "format": FORMAT,
        "model": name,
        "torchvision": torchvision.__version__,
        "structure": structure.hexdigest(),
        "weights": str(weights),
    }
    if str(weights) in ("random", "factory"):
        return key | {"seed": seed}
    path = Path(weights).expanduser().resolve()
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(f"no weights file {path} on this host: copy it there, or give random") from error
    return key | {"weights": str(path), "size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


class WeightStore:
    """The tensors of one model with one set of weights, in one read-only file. Opened by `open_store`.

    `hash` was computed by this process from the file's bytes: BLAKE2b over names, dtypes, shapes and values.
    """

    def __init__(self, path: Path, file: BufferedReader, index: Index) -> None:
        self.path = path
        self.hash = index.hash
        self._file = file  # kept open: the path may be given to another file, this one stays what was hashed
        self._entries = index.entries
        self._maps: WeakValueDictionary[str, mmap.mmap] = WeakValueDictionary()

    @property
    def names(self) -> list[str]:
        """The stored tensors' names."""
        return list(self._entries)

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor of the file. Large ones are private mappings, which tensors of the same name share while one lives.

        What is written to them never reaches the file; still, treat them as read-only.
        """
        entry = self._entries[name]
        count = prod(entry.shape)
        if count == 0:
            return torch.empty(entry.shape, dtype=entry.dtype)
        if not entry.mapped:
            memory = bytearray(os.pread(self._file.fileno(), entry.nbytes, entry.offset))
            return torch.frombuffer(memory, dtype=entry.dtype, count=count).view(entry.shape)
        pages = self._maps.get(name)
        if pages is None:
            pages = mmap.mmap(self._file.fileno(), entry.nbytes, access=mmap.ACCESS_COPY, offset=entry.offset)
            self._maps[name] = pages
        return torch.frombuffer(pages, dtype=entry.dtype, count=count).view(entry.shape)

    def close(self) -> None:
        """Close the file; tensors that were mapped stay valid."""
        self._file.close()


def open_store(slots: list[Slot], source: Source, key: Mapping[str, Any], directory: Path | None = None) -> WeightStore:
    """Open the weight file for `key`, writing it first where there is none or it is damaged.

    A factory's weights are compared with what it returns now. Raises `ModelError` where the directory cannot be used.
    """
    directory = directory or cache_directory()
    digest = blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(key["model"]))[:60]
    path = directory / f"{slug}-{digest}.weights"
    expected = hash_of(slots, source) if key["weights"] == "factory" else None
    try:
        store = _open(path, key, expected)
        if store is None:
            directory.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(directory)
            write(path, slots, source, key)
            store = _open(path, key, expected)
    except OSError as error:
        raise _unusable(error, directory, slots) from error
    if store is None:
        raise ModelError(
            f"the weight file {path} does not read back as it was written: is the disk failing? "
            "Set PARETOPIPE_CACHE to a directory on another"
        )
    return store


def _open(path: Path, key: Mapping[str, Any], expected: str | None) -> WeightStore | None:
    """Open and check a weight file; None where there is none, or none that can be trusted."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    try:
        index = read_index(file)
        found = hash_file(file, index.entries.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("weight file %s is damaged (%s)", path, error)
    else:
        if found == index.hash and index.key == dict(key) and expected in (None, found):
            return WeightStore(path, file, index)
        log.warning("weight file %s is damaged or out of date", path)
    file.close()
    return None


def _unusable(error: OSError, directory: Path, slots: list[Slot]) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        needed_mb = sum(slot.tensor.nbytes for slot in slots) / 1e6
        return ModelError(
            f"no space left in {directory} for {needed_mb:.0f} MB of weights: delete old files there, "
            "or set PARETOPIPE_CACHE to a directory on another disk"
        )
    return ModelError(
        f"cannot keep weights in {directory} ({error.strerror or error}): "
        "set PARETOPIPE_CACHE to a directory that can be written"
    )


def _remove_abandoned(directory: Path) -> None:
    """Delete what killed writers left behind; young files may belong to a writer at work."""
    for path in directory.glob("*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                path.unlink()
