"""Pipelines on disjoint hosts are measured at the same time; a stop reaches all of them."""

import json
import signal
import time
from datetime import datetime, timedelta

import pytest

from tests.integration.test_pp_matrix_simulated import SIMULATION, Place

INVENTORY = """
all:
  hosts: {a1: , a2: , b1: , b2: }
  vars:
    ansible_connection: local
    paretopipe_pipelines: {a: [a1, a2], b: [b1, b2], c: [a2, a1]}
"""
SLEEP_S = 0.15


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path)
    (tmp_path / "inventory" / "four.yml").write_text(INVENTORY)
    made.simulate(sleep_s=SLEEP_S)
    return made


def run(place, pipelines, **how):
    arguments = [word for name in pipelines for word in ("--pipeline", name)]
    return place(
        "run", "--inventory", "inventory/four.yml", *arguments, "--split", "1,2,3", "--depth", "1", "--rounds", "2",
        "--out", place.out, **how,
    )  # fmt: skip


def spans(place):
    """Pipeline -> when its first and its last cell began."""
    found = {}
    for record in place.lines():
        began = datetime.fromisoformat(record["started_at"])
        first, last = found.get(record["pipeline"], (began, began))
        found[record["pipeline"]] = min(first, began), max(last, began)
    return found


def test_disjoint_pipelines_overlap_and_lose_nothing(place):
    run(place, ["a", "b"])
    assert len(place.lines()) == 12
    assert len({json.dumps([r["cell"], r["round"]]) for r in place.lines()}) == 12
    (a_first, a_last), (b_first, b_last) = spans(place).values()
    assert max(a_first, b_first) < min(a_last, b_last)
    assert abs(a_first - b_first) < timedelta(seconds=SLEEP_S)


def test_pipelines_that_share_hosts_take_turns(place):
    run(place, ["a", "c"])
    (a_first, a_last), (c_first, c_last) = spans(place).values()
    assert a_last < c_first or c_last < a_first


def test_a_failure_in_one_lane_leaves_the_other_alone(place):
    place.simulate(failures=[{"cell": "-a-", "kind": "unreachable", "message": "gone", "host": "a2"}], sleep_s=SLEEP_S)
    run(place, ["a", "b"], status=1)
    assert {(r["pipeline"], r["status"]) for r in place.lines()} == {("a", "failed"), ("b", "ok")}


def test_fail_fast_stops_the_other_lane_without_failing_its_cells(place):
    place.simulate(failures=[{"cell": "-a-", "kind": "unreachable", "message": "gone", "host": "a2"}], sleep_s=SLEEP_S)
    output = place(
        "run", "--inventory", "inventory/four.yml", "--pipeline", "a", "--pipeline", "b", "--depth", "1",
        "--rounds", "5", "--fail-fast", "--out", place.out, status=1,
    )  # fmt: skip
    assert "--fail-fast" in output
    assert all(r["status"] == "ok" for r in place.lines() if r["pipeline"] == "b")
    assert sum(r["pipeline"] == "b" for r in place.lines()) < 5


def test_an_interrupt_stops_both_and_records_no_failure(place):
    process = place.start(
        "run", "--inventory", "inventory/four.yml", "--pipeline", "a", "--pipeline", "b", "--depth", "1",
        "--rounds", "9", "--out", place.out,
    )  # fmt: skip
    place.wait_for_records(process, 4)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=20)[0]
    assert process.returncode == 130, output
    assert time.monotonic() - began < 5
    assert all(record["status"] == "ok" for record in place.lines())
    place("run", "--out", place.out, "--inventory", "inventory/four.yml")
    assert len(place.lines()) == 2 * 9 * (len(SIMULATION["models"]["mobilenet_v2"]["blocks"]) + 1)
