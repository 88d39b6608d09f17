"""Engines and backends that a host has, has not, or picks itself; on real agents."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import CellError, ModelDescription, Window
from tests.integration.conftest import cell

Describe = Callable[..., ModelDescription]


@pytest.fixture
def server_lacks(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the server's facts say that it lacks something."""

    def lack(**facts: Any) -> None:
        monkeypatch.setitem(session._fleet.facts, "server", session._fleet.facts["server"] | facts)

    return lack


def test_every_worker_says_what_it_has(session: Session) -> None:
    for facts in session.facts().values():
        assert facts["rpc_available"] is True
        assert facts["engines"]["eager"] is None
        assert {"fused", "onnxruntime", "compiled"} <= facts["engines"].keys()


@pytest.mark.parametrize(
    ("lacking", "asked", "kind", "words"),
    [
        ({"engines": {"fused": "no such thing here"}}, {"engine": "fused"}, "engine", "no such thing here"),
        ({"rpc_available": False}, {"backend": "rpc"}, "refused", "has no RPC"),
    ],
)
def test_a_host_that_lacks_something_fails_the_cells_it_takes_part_in(
    session: Session,
    describe: Describe,
    server_lacks: Callable[..., None],
    lacking: dict[str, Any],
    asked: dict[str, str],
    kind: str,
    words: str,
) -> None:
    server_lacks(**lacking)
    described = describe(**{key: value for key, value in asked.items() if key == "engine"})
    backend = asked.get("backend", "socket")
    with pytest.raises(CellError, match=words) as refused:
        session.measure(cell(described, 5, backend=backend), lambda event: None)
    assert (refused.value.kind, refused.value.host) == (kind, "server")
    assert refused.value.remedy
    (all_local,) = session.measure(cell(described, -1, backend=backend, depths=(1,)), lambda event: None)
    assert all_local.measured["valid"]


def test_best_is_settled_before_the_first_cell_and_named_in_the_record(session: Session, describe: Describe) -> None:
    described = describe(engine="best")
    picked = {host: engine["picked"] for host, engine in described.engines.items()}
    assert set(picked.values()) <= {"eager", "fused", "onnxruntime"}
    (point,) = session.measure(cell(described, 5, depths=(1,)), lambda event: None)
    assert {stage["host"]: stage["engine"] for stage in point.measured["stages"]} == picked
    assert point.measured["valid"], point.measured["invalid_reason"]
    assert point.measured["output_max_rel_err"] < 1e-3


def test_a_worker_killed_under_sockets_leaves_no_broken_rpc_group(session: Session, describe: Describe) -> None:
    """The group that rpc cells share is alive meanwhile, and loses a member."""
    described = describe()
    over_rpc = cell(described, 5, backend="rpc", depths=(1,))
    session.measure(over_rpc, lambda event: None)
    first = session._rpc_groups.token("local", ["edge", "server"], "rpc")
    worker = session.facts()["server"]["worker_pid"]
    threading.Timer(0.5, os.kill, (worker, signal.SIGKILL)).start()
    endless = cell(described, 5, depths=(1,), window=Window(batches=100_000, seconds=None, min_batches=1))
    with pytest.raises(CellError) as killed:
        session.measure(endless, lambda event: None)
    assert (killed.value.kind, killed.value.host) == ("worker-killed", "server")
    (point,) = session.measure(over_rpc, lambda event: None)
    assert point.measured["valid"], point.measured["invalid_reason"]
    assert session._rpc_groups.token("local", ["edge", "server"], "rpc") != first
