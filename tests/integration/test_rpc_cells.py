"""Cells over the rpc backend through real agents: outputs, and a fresh start after a worker died."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from paretopipe_matrix.hosts.inventory import HostVars, Inventory
from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import CellError, CellRun
from tests.integration.conftest import LAN, REQUEST, cell

HOSTS = ("camera", "middle", "server")
BACKENDS = ("socket", "rpc", "rpc-mpt_uv", "rpc-hub")


@pytest.fixture(scope="module")
def trio() -> Iterator[Session]:
    pipelines = {"three": HOSTS}
    session = Session(Inventory(Path("test.yml"), {name: HostVars(name) for name in HOSTS}, pipelines), ["three"], None)
    session.apply("three", LAN)
    yield session
    session.close()


def run_of(session: Session, pair: tuple[int, int]) -> CellRun:
    described = session.describe(REQUEST, "three", timed=False)
    cuts = [described.cuts[k] for k in pair]
    return replace(cell(described, 1), cuts=tuple(cuts), pipeline="three")


@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_are_the_unsplit_models_bit_by_bit_over_every_backend(trio: Session, backend: str) -> None:
    last = len(trio.describe(REQUEST, "three", timed=False).cuts) - 1
    # Three stages; two, because nothing is left for the third; a first stage that only sends images on.
    pairs = ((3, 6), (4, last), (0, 4)) if backend == "rpc" else ((3, 6),)
    for pair in pairs:
        run = replace(run_of(trio, pair), backend=backend, depths=(3,))
        (result,) = trio.measure(run, lambda _event: None)
        measured = result.measured
        assert measured["output_bitwise"], (pair, measured["output_max_rel_err"])
        assert measured["transport"]["name"] == backend
        # RPC does not tell when a tensor began to arrive.
        received = [stage["recv_s"] for stage in measured["stages"][1:]]
        assert all((value is None) == (backend != "socket") for value in received)


def test_after_a_worker_died_the_next_cell_over_rpc_works(trio: Session) -> None:
    run = replace(run_of(trio, (3, 6)), backend="rpc")
    pids = {host: trio._fleet.agents[host].call("facts")["worker_pid"] for host in HOSTS}
    killed_s = 0.0

    def kill(_progress: object) -> None:
        nonlocal killed_s
        killed_s = time.monotonic()
        os.kill(pids["middle"], signal.SIGKILL)

    with pytest.raises(CellError) as caught:
        trio.measure(replace(run, depths=(1, 2, 3)), kill)
    assert (caught.value.kind, caught.value.host) == ("worker-killed", "middle")
    # Noticed within seconds; the rest is starting new workers.
    assert time.monotonic() - killed_s < 60
    assert all(result.measured["output_bitwise"] for result in trio.measure(run, lambda _event: None))
    now = {host: trio._fleet.agents[host].call("facts")["worker_pid"] for host in HOSTS}
    assert not set(now.values()) & set(pids.values())


def test_restart_gives_an_open_request_an_answer_and_the_new_workers_facts(trio: Session) -> None:
    agent = trio._fleet.agents["server"]
    before = agent.call("facts")["worker_pid"]
    # A worker that waits for a peer that never comes.
    listening = agent.send("probe_listen", {"listen_address": "127.0.0.1", "listen_port": 0})
    assert listening.result(20)["port"] > 0
    waiting = agent.send("probe_serve", {"secret": "ab" * 32, "timeout_s": 60.0, "egress": None})
    facts = agent.call("restart", timeout_s=60)
    assert facts["worker_pid"] != before
    assert facts["rpc_available"]
    error = waiting.exception(5)
    assert isinstance(error, CellError)
    assert error.kind == "aborted"
    assert agent.call("facts")["worker_pid"] == facts["worker_pid"]
