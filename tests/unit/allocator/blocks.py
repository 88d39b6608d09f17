"""Blocks of memory by the C library's functions, with contents that can be checked; for processes of their own.

What a block holds at offset i is the byte i % 8 of its number, at its begin, at its end and once in every page.
"""

from __future__ import annotations

import ctypes
import random
from bisect import bisect_left, insort
from pathlib import Path

KB, MB = 1 << 10, 1 << 20
PAGE = 4 * KB

libc = ctypes.CDLL(None, use_errno=True)
_WORD, _BLOCK = ctypes.c_size_t, ctypes.c_void_p
for _name, _result, *_arguments in (
    ("malloc", _BLOCK, _WORD),
    ("calloc", _BLOCK, _WORD, _WORD),
    ("realloc", _BLOCK, _BLOCK, _WORD),
    ("reallocarray", _BLOCK, _BLOCK, _WORD, _WORD),
    ("aligned_alloc", _BLOCK, _WORD, _WORD),
    ("posix_memalign", ctypes.c_int, ctypes.POINTER(_BLOCK), _WORD, _WORD),
    ("free", None, _BLOCK),
    ("malloc_usable_size", _WORD, _BLOCK),
):
    _function = getattr(libc, _name)
    _function.restype, _function.argtypes = _result, _arguments


def posix_memalign(alignment: int, size: int) -> int:
    block = _BLOCK()
    error = libc.posix_memalign(ctypes.byref(block), alignment, size)
    assert error == 0, error
    return block.value


def contents(address: int, size: int) -> memoryview:
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def write(address: int, size: int, number: int) -> None:
    view, label = contents(address, size), number.to_bytes(8, "little")
    view[::PAGE] = label[:1] * len(range(0, size, PAGE))
    view[:8] = label[:size]
    end = max(size - 8, 0)
    view[end:] = bytes(label[i % 8] for i in range(end, size))


def check(address: int, size: int, number: int, is_cut: bool = False) -> None:
    """`is_cut`: the block was longer when it was written."""
    view, label = contents(address, size), number.to_bytes(8, "little")
    assert bytes(view[:8]) == label[:size], f"begin of {number}"
    assert bytes(view[::PAGE]) == label[:1] * len(range(0, size, PAGE)), f"pages of {number}"
    end = max(size - 8, 0)
    assert is_cut or bytes(view[end:]) == bytes(label[i % 8] for i in range(end, size)), f"end of {number}"


def status(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return KB * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def mappings() -> int:
    """As the kernel counts them."""
    return Path("/proc/self/maps").read_text().count("\n")


class Blocks:
    """Random operations on blocks that are checked whenever they change, and do not overlap."""

    def __init__(self, seed: int, most_bytes: int = 256 * MB, thread: int = 0) -> None:
        self._random = random.Random(f"{seed} {thread}")
        self._most = most_bytes
        self._number = thread  # of the next block
        self._live: list[tuple[int, int, int]] = []  # address, size, number; in order
        self.live_bytes = 0

    @property
    def count(self) -> int:
        return len(self._live)

    def step(self) -> None:
        """One operation."""
        choice = self._random.random()
        if self._live and (choice < 0.36 or self.live_bytes > self._most):
            self.free_one()
        elif self._live and choice < 0.5:
            self._reallocate()
        else:
            self._allocate()

    def free_one(self) -> None:
        address, size, number = self._taken()
        check(address, size, number)
        libc.free(address)

    def free_all(self) -> None:
        while self._live:
            self.free_one()

    def check_all(self) -> None:
        for block in self._live:
            check(*block)

    def _taken(self) -> tuple[int, int, int]:
        block = self._live.pop(self._random.randrange(len(self._live)))
        self.live_bytes -= block[1]
        return block

    def _size(self) -> int:
        kind = self._random.random()
        if kind < 0.2:
            return self._random.randint(1, 8 * KB)
        if kind < 0.5:
            threshold = self._random.choice((64 * KB, 256 * KB))
            return threshold + self._random.randint(-2, 2) * self._random.choice((1, 64, PAGE, 16 * KB))
        if kind < 0.7:  # where one unit more is needed
            return self._random.randint(5, 20) * 64 * KB - self._random.choice((0, PAGE)) + self._random.randint(-1, 1)
        return int(256 * KB * 160 ** (self._random.random() ** 2))

    def _allocate(self) -> None:
        size, kind = self._size(), self._random.random()
        alignment = 16
        if kind < 0.5:
            address = libc.malloc(size)
        elif kind < 0.6:
            address = libc.calloc(size, 1)
            assert not any(contents(address, size)[::PAGE]), "calloc"
        elif kind < 0.9:
            alignment = 1 << self._random.randint(3, 13)
            address = posix_memalign(alignment, size)
        else:
            alignment = 1 << self._random.randint(3, 20)
            address = libc.aligned_alloc(alignment, size)
        assert address % alignment == 0, f"{address:x} of {size} is not aligned to {alignment}"
        self._put(address, size)

    def _reallocate(self) -> None:
        old_address, old, number = self._taken()
        check(old_address, old, number)
        size = self._size()
        address = libc.realloc(old_address, size)
        check(address, min(old, size), number, is_cut=size < old)
        self._put(address, size)

    def _put(self, address: int, asked: int) -> None:
        assert address
        size = libc.malloc_usable_size(address)  # may all be used (malloc_usable_size(3))
        assert size >= asked
        block = (address, size, self._number)
        place = bisect_left(self._live, block)
        for start, length, other in self._live[max(place - 1, 0) : place + 1]:
            assert start + length <= address or address + size <= start, f"{self._number} overlaps {other}"
        insort(self._live, block)
        write(*block)
        self._number += 4  # of the threads
        self.live_bytes += size
