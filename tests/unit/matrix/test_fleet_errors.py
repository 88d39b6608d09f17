"""Of several errors of one cell, the one that is reported is the one that explains the others."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from paretopipe_matrix.hosts.fleet import Fleet
from paretopipe_matrix.testbed import CellError


class SlowAgent:
    """Never answers by itself; stops when it is told to."""

    def __init__(self, answer: Future[dict[str, object]]) -> None:
        self.answer = answer

    def timed_out(self, operation: str, timeout_s: float) -> CellError:
        return CellError("timeout", f"did not finish {operation} within {timeout_s:.0f} s")

    def abort(self) -> None:
        self.answer.set_exception(CellError("aborted", "stopped by the controller"))


def test_a_host_that_waits_for_a_lost_neighbour_is_not_called_slow() -> None:
    waiting: Future[dict[str, object]] = Future()
    failed: Future[dict[str, object]] = Future()
    failed.set_exception(CellError("unreachable", "no peer connected to x86 within 10 s"))
    fleet = object.__new__(Fleet)
    fleet.agents = {"pi": SlowAgent(waiting)}  # type: ignore[dict-item]
    with pytest.raises(CellError, match="no peer connected"):
        fleet.gather({"pi": waiting, "x86": failed}, "the cell", 390.0, main="pi")


def test_a_host_that_takes_too_long_is() -> None:
    waiting: Future[dict[str, object]] = Future()
    fleet = object.__new__(Fleet)
    fleet.agents = {"pi": SlowAgent(waiting)}  # type: ignore[dict-item]
    with pytest.raises(CellError, match="did not finish the cell within 0 s"):
        fleet.gather({"pi": waiting}, "the cell", 0.05, main="pi")


def test_a_host_that_takes_too_long_after_its_neighbour_hung_up_is_too() -> None:
    waiting: Future[dict[str, object]] = Future()
    lost: Future[dict[str, object]] = Future()
    lost.set_exception(CellError("peer-lost", "the peer closed the connection"))
    fleet = object.__new__(Fleet)
    fleet.agents = {"pi": SlowAgent(waiting)}  # type: ignore[dict-item]
    with pytest.raises(CellError, match="did not finish"):
        fleet.gather({"pi": waiting, "x86": lost}, "the cell", 0.05, main="pi")
