"""What goes wrong on real agents: named, with host and remedy, and over when it is over."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from paretopipe_matrix.hosts.inventory import HostVars
from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import CellError, JsonObject, ModelDescription, Window
from paretopipe_runtime.transport.endpoint import listen
from tests.integration.conftest import LAN, REQUEST, cell, inventory

Describe = Callable[..., ModelDescription]
LONG = Window(batches=None, seconds=30.0, min_batches=1)


def ignore(_event: JsonObject) -> None:
    return


@pytest.fixture
def altered(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, JsonObject], None]:
    """Change what one host is told in one operation."""

    def alter(operation: str, host: str, change: JsonObject) -> None:
        send = session._fleet.agents[host].send

        def changed(asked: str, params: JsonObject | None = None) -> object:
            return send(asked, (params or {}) | change if asked == operation else params)

        monkeypatch.setattr(session._fleet.agents[host], "send", changed)

    return alter


@pytest.fixture(autouse=True)
def works_afterwards(session: Session, describe: Describe, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test breaks, the next cell must run."""
    session.apply("local", LAN)
    yield
    monkeypatch.undo()
    results = session.measure(cell(describe(), 3), ignore)
    assert [result.measured["output_bitwise"] for result in results] == [True, True]


@pytest.mark.parametrize("victim", ["server", "edge"])
def test_a_killed_worker_fails_its_cell_only(session: Session, describe: Describe, victim: str) -> None:
    described = describe()
    pid = session._fleet.agents[victim].call("facts")["worker_pid"]
    threading.Timer(1.0, os.kill, args=(pid, signal.SIGKILL)).start()
    start_s = time.monotonic()
    with pytest.raises(CellError, match=rf"worker on {victim} was killed \(137\).*out of memory") as caught:
        session.measure(cell(described, 3, window=LONG), ignore)
    assert time.monotonic() - start_s < 15
    assert (caught.value.kind, caught.value.host) == ("worker-killed", victim)
    assert "rerun" in str(caught.value.remedy)


def test_depths_finished_before_a_failure_are_kept(session: Session, describe: Describe) -> None:
    described = describe()
    pid = session._fleet.agents["server"].call("facts")["worker_pid"]
    run = cell(described, 3, window=Window(batches=2000, seconds=2.0, min_batches=1), depths=(1, 2))
    threading.Timer(3.0, os.kill, args=(pid, signal.SIGKILL)).start()
    with pytest.raises(CellError) as caught:
        session.measure(run, ignore)
    assert [result.depth for result in caught.value.finished] == [1]


def test_a_peer_with_the_wrong_secret(
    session: Session, describe: Describe, altered: Callable[[str, str, JsonObject], None]
) -> None:
    altered("prepare", "server", {"secret": "00" * 32})
    with pytest.raises(CellError, match="secret") as caught:
        session.measure(cell(describe(), 3), ignore)
    assert caught.value.kind == "handshake"
    assert caught.value.remedy


def test_a_peer_with_other_weights(
    session: Session, describe: Describe, altered: Callable[[str, str, JsonObject], None]
) -> None:
    described = describe()
    altered("prepare", "server", {"seed": 1})
    with pytest.raises(CellError, match="weight_hash differs") as caught:
        session.measure(cell(described, 3), ignore)
    assert "same weights" in str(caught.value.remedy)


def test_hosts_with_other_weights_are_found_before_any_cell(
    session: Session, altered: Callable[[str, str, JsonObject], None]
) -> None:
    altered("describe", "server", {"seed": 1})
    with pytest.raises(CellError, match="weight_hash differs") as caught:
        session.describe(replace(REQUEST, model="alexnet"), "local", timed=False)
    assert caught.value.host == "server"


def test_a_peer_prepared_for_another_cut(
    session: Session, describe: Describe, altered: Callable[[str, str, JsonObject], None]
) -> None:
    described = describe()
    altered("prepare", "server", {"cuts": [4]})
    with pytest.raises(CellError, match="cuts differs: "):
        session.measure(cell(described, 3), ignore)


def test_hosts_with_other_torch_versions_are_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {name: dict(fact) for name, fact in session._fleet.facts.items()}
    facts["server"]["torch"] = "2.9.1"
    monkeypatch.setattr(session._fleet, "facts", facts)
    with pytest.raises(CellError, match=r"torch differs between hosts: edge has .*, server has 2\.9\.1"):
        session.apply("local", LAN)


def test_a_busy_data_port_names_host_port_and_remedy(session: Session, describe: Describe) -> None:
    described = describe()
    with listen("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        session._inventory.hosts["server"] = HostVars("server", data_port=port)  # type: ignore[index]
        try:
            with pytest.raises(CellError, match=f"port {port} on 127.0.0.1 is in use") as caught:
                session.measure(cell(described, 3), ignore)
        finally:
            session._inventory.hosts["server"] = HostVars("server")  # type: ignore[index]
    assert caught.value.host == "server"
    assert "paretopipe_data_port" in str(caught.value.remedy)


def test_a_cell_that_takes_too_long_is_stopped(session: Session, describe: Describe) -> None:
    start_s = time.monotonic()
    with pytest.raises(CellError, match="did not finish the cell within 1 s") as caught:
        session.measure(cell(describe(), 3, window=LONG, timeout_s=1.0), ignore)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - start_s < 15


def test_abort_ends_a_cell(session: Session, describe: Describe) -> None:
    described = describe()
    threading.Timer(0.7, session.abort).start()
    start_s = time.monotonic()
    with pytest.raises(CellError) as caught:
        session.measure(cell(described, 3, window=LONG), ignore)
    assert caught.value.kind == "aborted"
    assert time.monotonic() - start_s < 10


def test_an_unknown_model_and_a_missing_file(session: Session, describe: Describe) -> None:
    with pytest.raises(CellError, match="resnet18") as caught:
        describe(model="resnet_18")
    assert caught.value.kind == "model"
    with pytest.raises(CellError, match=r"nothing\.pt") as caught:
        describe(weights="/nowhere/nothing.pt")
    assert caught.value.kind == "model"


def test_an_agent_that_cannot_start_names_the_interpreter() -> None:
    with pytest.raises(CellError, match="/no/such/python") as caught:
        Session(inventory(edge=HostVars("edge", python="/no/such/python")), ["local"], None)
    assert caught.value.host == "edge"
