"""Work in a process of its own, beside the rest: Python computes one thing at a time in a process."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import click

LARGE = 20_000
"""Records from which a second process is worth its start."""
Result = TypeVar("Result")


class LostProcessError(click.ClickException):
    """A process that was ended from outside: one line, exit status 1."""


class Beside(Generic[Result]):
    """A function that is computed in a copy of this process, which shares the data and hands back the result.

    The copy is made by fork(2), so this process must not have started threads that hold locks. Where that is not to be
    relied on (anywhere but on Linux), or `apart` is false, the function is called here, when the result is asked for.
    """

    def __init__(self, work: Callable[[], Result], *, apart: bool = True) -> None:
        self._work = work
        self._process: Any = None
        if apart and sys.platform == "linux":
            context = multiprocessing.get_context("fork")
            self._connection, theirs = context.Pipe(duplex=False)
            self._process = context.Process(target=_send, args=(theirs, work), daemon=True)
            self._process.start()
            theirs.close()

    def result(self) -> Result:
        """The function's result. Raises what it raised, and LostProcessError where its process ended without a word."""
        if self._process is None:
            return self._work()
        try:
            done, value = self._connection.recv()
        except EOFError:
            self._process.join()
            raise LostProcessError(
                f"a process of this command was ended (status {self._process.exitcode}; -9 is often a lack of memory): "
                "free some memory and run it again"
            ) from None
        self._process.join()
        if not done:
            raise value
        result: Result = value
        return result


def _send(connection: Connection[Any, Any], work: Callable[[], Any]) -> None:
    # Ctrl-C reaches all processes of a terminal: the first one says what there is to say, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = (True, work())
    except Exception as error:  # noqa: BLE001  # raised again where the result is asked for
        answer = (False, error)
    connection.send(answer)
