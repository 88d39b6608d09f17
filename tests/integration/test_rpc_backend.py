"""The rpc backend between processes on loopback: order, credits, routes, groups, and what goes wrong."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

import pytest

from paretopipe_runtime.transport.rpc_connector import MPT_UV_LANES
from tests.rpc_stage import Stage, prepare, run_cell, start

Make = Callable[[int], list[Stage]]


@pytest.fixture(scope="module")
def trio() -> Iterator[list[Stage]]:
    """Three stages that must stay sound."""
    stages = [Stage() for _ in range(3)]
    yield stages
    for stage in stages:
        stage.end()


@pytest.fixture
def make() -> Iterator[Make]:
    """Stages that a test may break."""
    made: list[Stage] = []

    def start_some(count: int) -> list[Stage]:
        made.extend(Stage() for _ in range(count))
        return made[-count:]

    yield start_some
    for stage in made:
        stage.end()


def fresh() -> str:
    return secrets.token_hex(32)


@pytest.mark.parametrize("backend", ["socket", "rpc", "rpc-mpt_uv", "rpc-hub", "rpc-hub-mpt_uv"])
def test_credits_hold_and_order_and_bits_are_kept(trio: list[Stage], backend: str) -> None:
    driver, *others = run_cell(
        trio, backend=backend, group=f"credits {backend}", secret=fresh(), elements=20_000, depths=(1, 5), batches=60
    )
    assert driver["bitwise"]  # and the driver refuses a result for a batch that is not under way
    assert driver["most_in_flight"] == 5
    for answer in (driver, *others):
        assert answer["registered"] == 0
        if backend != "socket":
            assert 1 <= answer["peak"] <= 5
            assert answer["outstanding"] == 0
    through_hub = 60 * 20_000 * 4
    assert (driver["relayed_bytes"] >= through_hub) if "hub" in backend else (driver["relayed_bytes"] == 0)


def test_a_group_serves_cell_after_cell_and_is_formed_anew_for_another_token(trio: list[Stage]) -> None:
    first = run_cell(trio, group="one", secret=fresh())
    prepared = prepare(trio, group="one", secret=fresh())
    assert [answer["rendezvous_port"] for answer in prepared] == [None] * 3
    start(trio, prepared)
    second = [stage.answer() for stage in trio]
    third = run_cell(trio, group="two", secret=fresh())
    assert {answer["group"] for answer in first} == {answer["group"] for answer in second} == {first[0]["group"]}
    assert {answer["group"] for answer in third} == {third[0]["group"]} != {first[0]["group"]}
    assert all(answers[0]["bitwise"] for answers in (first, second, third))


def test_a_member_that_was_left_behind_joins_the_next_group(trio: list[Stage]) -> None:
    """Two of three form a group of their own: the third hears of it, and all three can meet again under one token."""
    run_cell(trio, group="all", secret=fresh())
    run_cell(trio[:2], group="all", secret=fresh())
    assert run_cell(trio, group="all", secret=fresh())[0]["bitwise"]


def test_hanging_up_leaves_nothing_behind(trio: list[Stage]) -> None:
    """The driver ends a cell with batches still under way; the next cell of the group must not see them."""
    for _ in range(3):
        answers = run_cell(trio, group="hang up", secret=fresh(), depths=(8,), elements=500_000, batches=8)
        assert answers[0]["bitwise"]
        assert [answer["outstanding"] for answer in answers] == [0, 0, 0]
        assert [answer["registered"] for answer in answers] == [0, 0, 0]
        # The collector, sender and receiver threads are gone; a watcher may be about to go.
        assert all(answer["threads"] <= 2 for answer in answers)


def test_ports_are_the_data_addresses_and_close_with_the_group(trio: list[Stage]) -> None:
    run_cell(trio, group="ports", backend="rpc-mpt_uv", secret=fresh())
    listening = [stage.ask("listening")["at"] for stage in trio]
    assert {address for at in listening for address, _ in at} == {"127.0.0.1"}
    # TensorPipe's own and one per lane; at the first stage the rendezvous, too.
    assert [len(at) for at in listening] == [MPT_UV_LANES + 2, MPT_UV_LANES + 1, MPT_UV_LANES + 1]
    for stage in trio:
        stage.send("close")
    for stage in trio:
        assert stage.answer()["took_s"] < 5
        assert stage.ask("listening")["at"] == []


@pytest.mark.parametrize("backend", ["rpc", "rpc-hub"])
def test_a_payload_larger_than_agreed_is_refused(make: Make, backend: str) -> None:
    stages = make(3)
    cell = {"count": 3, "address": "127.0.0.1", "group": "a", "backend": backend, "elements": 5000}
    limits = [1 << 20, 1 << 20, 100]
    prepared = [
        stage.ask("prepare", index=index, limit_bytes=limits[index], **cell) for index, stage in enumerate(stages)
    ]
    start(stages, prepared)
    answers = [stage.answer() for stage in stages]
    assert answers[2]["error"] == "bad-frame"
    assert "20000 B announced, at most 100 B" in answers[2]["message"]
    assert {answers[0]["error"], answers[1]["error"]} <= {"peer-lost", "bad-frame"}


def test_a_wrong_secret_is_refused(make: Make) -> None:
    stages = make(2)
    for stage in stages:
        stage.ask("patch", module="connector", name="HANDSHAKE_S", value=2.0)
    prepared = []
    for index, stage in enumerate(stages):
        prepared.append(stage.ask("prepare", index=index, count=2, address="127.0.0.1", group="a", secret=fresh()))
    start(stages, prepared)
    answers = [stage.answer() for stage in stages]
    assert [answer["error"] for answer in answers] == ["handshake", "handshake"]
    assert max(answer["took_s"] for answer in answers) < 5


def test_an_absent_peer_is_an_error_in_seconds(make: Make) -> None:
    stages = make(3)
    for stage in stages:
        stage.ask("patch", module="connector", name="HANDSHAKE_S", value=2.0)
    prepared = prepare(stages)
    stages[2].end()
    start([*stages[:2], None], prepared)
    answers = [stage.answer() for stage in stages[:2]]
    assert {answer["error"] for answer in answers} <= {"unreachable", "peer-lost"}
    assert max(answer["took_s"] for answer in answers) < 5


@pytest.mark.parametrize("dies", [True, False])
def test_a_peer_that_does_not_come_to_the_rendezvous_is_an_error_in_seconds(make: Make, dies: bool) -> None:
    stages = make(2)
    stages[0].ask("patch", module="rpc_group", name="FORM_S", value=2.0)
    prepared = prepare(stages)
    stages[1].send("ring_only", peer={"address": "127.0.0.1", "port": prepared[0]["port"]}, rendezvous=None)
    stages[0].send(
        "run",
        peer={"address": "127.0.0.1", "port": prepared[1]["port"]},
        rendezvous={"address": "127.0.0.1", "port": prepared[0]["rendezvous_port"]},
    )
    stages[1].answer()
    if dies:
        stages[1].end()
    answer = stages[0].answer()
    assert answer["error"] == ("peer-lost" if dies else "unreachable")
    assert answer["took_s"] < 5
    # What RPC was left at in that process is unknown: it says so, and a new process is as good as new.
    assert prepare(stages[:1])[0]["error"] == "refused"
    assert run_cell(make(2), secret=fresh())[0]["bitwise"]


@pytest.mark.parametrize("route", ["rpc", "rpc-hub"])
def test_a_peer_killed_in_the_middle_of_a_call_is_noticed_in_seconds(make: Make, route: str) -> None:
    stages = make(3)
    start(stages, prepare(stages, backend=route, elements=1_000_000, depths=(4,), batches=100_000))
    time.sleep(1)
    killed_s = time.monotonic()
    stages[1].end()
    answers = [stages[index].answer() for index in (0, 2)]
    assert [answer["error"] for answer in answers] == ["peer-lost", "peer-lost"]
    # Who hears of it second may hear it from who heard it first.
    assert any("stage2" in answer["message"] for answer in answers)
    assert time.monotonic() - killed_s < 5
    closed_s = time.monotonic()
    for index in (0, 2):
        stages[index].send("close")
        stages[index].answer()
    assert time.monotonic() - closed_s < 12  # ends, or says within its limit that it does not
