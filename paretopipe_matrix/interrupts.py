"""Ctrl-C and SIGTERM: stop at once, but never in the middle of a write."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_INTERRUPTED = 130


class Interrupts:
    """While entered, the first SIGINT or SIGTERM raises KeyboardInterrupt in the main thread, once a shielded part is
    over; the second ends the process at once (agents stop when their channel closes).
    """

    def __init__(self) -> None:
        self._received = 0
        self._shielded = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Hold an interrupt back until the block is done."""
        self._shielded = True
        before = self._received
        try:
            yield
        finally:
            self._shielded = False
        if self._received > before:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received += 1
        if self._received > 1:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a live display hides the cursor
            os._exit(EXIT_INTERRUPTED)
        if not self._shielded:
            raise KeyboardInterrupt
