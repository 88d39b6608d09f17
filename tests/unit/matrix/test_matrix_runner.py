import re
from pathlib import Path

import pytest

from paretopipe_matrix.interrupts import Interrupts
from paretopipe_matrix.records import MEASURED
from paretopipe_matrix.runner import Runner
from paretopipe_matrix.schedule import Slot, keys, schedule
from paretopipe_matrix.store import Store
from paretopipe_matrix.testbed import CellError, DepthResult
from paretopipe_runtime.results import read_lines

FORMATS = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()


class Screen:
    def __init__(self):
        self.notes = []
        self.finished = []

    def start(self, text):
        pass

    def finish(self, key, text, observed_s):
        self.finished.append(key)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def measure(context, planned, simulated, place):
    """Run a spec on a simulation; returns records, probes, the screen, and whether it ran to the end."""

    def go(spec, wrap=lambda testbed: testbed, fail_fast=False, **simulation):
        asked = context(**spec)
        plans = planned(asked)
        testbed = wrap(simulated(asked, **simulation))
        slots = [Slot(p.cell.id, p.cell.pipeline, p.cell.profile, p.depths) for p in plans]
        rounds = asked.loaded.spec.rounds
        screen = Screen()
        with Store(place / "r") as store:
            store.write_run({"seed": 0})
            runner = Runner(
                testbed,
                store,
                {plan.cell.id: plan for plan in plans},
                asked.profiles,
                screen,
                Interrupts(),
                fail_fast=fail_fast,
            )
            complete = runner.run(schedule(slots, rounds, 0, keys(slots, rounds)))
            judged = store.load().records
        return read_lines(place / "r/records.jsonl"), read_lines(place / "r/probes.jsonl"), screen, complete, judged

    return go


def documented(heading, until):
    table = FORMATS[FORMATS.index(heading) : FORMATS.index(until)]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_records_have_exactly_the_documented_keys(measure):
    fault = {"cell": "P1", "depths": [2], "message": "killed", "host": "server", "log_tail": ["oom"]}
    records, probes, *_ = measure({"splits": "P1,P2", "rounds": 1}, failures=[fault])
    names = documented("### records.jsonl", "A failed record has")
    assert {record["status"] for record in records} == {"ok", "failed"}
    assert all(set(record) == names for record in records)
    listed = documented("### probes.jsonl", "A segment that was cut off")
    assert all(set(probe) == listed for probe in probes)
    declared = re.search(r"^\| `declared` \|(.*)\|$", FORMATS, re.M)[1]
    assert set(probes[0]["declared"]) == set(re.findall(r"`(\w+)`", declared))


def test_every_cell_round_and_depth_once_between_two_probes(measure):
    records, probes, screen, complete, _ = measure({"profiles": ["lan", "slow"], "rounds": 2})
    found = [(r["cell"], r["round"], r["depth"]) for r in records]
    assert len(found) == len(set(found)) == 4 * 2 * 2 * 3
    assert complete
    assert len(screen.finished) == 16
    segments = {(r["profile"], r["round"]): r["segment"] for r in records}
    assert len(set(segments.values())) == 4
    for segment in segments.values():
        assert [p["when"] for p in probes if p["segment"] == segment] == ["before", "after"]


def test_network_is_in_the_record(measure):
    records, *_ = measure({"profiles": "slow", "splits": "P1", "rounds": 1, "depths": 1})
    assert records[0]["rtt_s"] == pytest.approx(0.2002)
    assert records[0]["bandwidth_bit_s"] == 5e6
    assert records[0]["shaper"] == "link-model"


def test_a_failure_keeps_finished_depths_and_the_rest_of_the_run(measure):
    fault = {"cell": "P1", "rounds": [1], "depths": [2], "kind": "oom", "message": "killed", "host": "server"}
    records, _, screen, complete, _ = measure({"rounds": 2}, failures=[fault])
    mine = {r["depth"]: r for r in records if r["split"] == "P1" and r["round"] == 1}
    assert [mine[d]["status"] for d in (1, 2, 4)] == ["ok", "failed", "failed"]
    assert mine[2]["error"] == {"kind": "oom", "message": "killed", "host": "server", "remedy": None, "log_tail": []}
    assert all(mine[2][key] is None for key in MEASURED if key != "valid")
    assert mine[2]["valid"] is False
    assert all(r["status"] == "ok" for r in records if (r["split"], r["round"]) != ("P1", 1))
    assert complete
    assert any("P1" in note and "server: killed" in note for note in screen.notes)


def test_fail_fast_stops_but_probes_once_more(measure):
    records, probes, _, complete, _ = measure({"rounds": 3}, fail_fast=True, failures=[{"cell": "mobilenet"}])
    assert not complete
    assert len(records) == 3
    assert [p["when"] for p in probes] == ["before", "after"]


def test_a_round_off_its_profile_is_not_run(measure):
    off = [{"rtt_s": 0.0002, "bandwidth_bit_s": 9e8}]
    kept = [{"rtt_s": 0.2001, "bandwidth_bit_s": 5e6}]
    records, probes, screen, complete, _ = measure(
        {"profiles": ["slow", "lan"], "splits": "P1", "rounds": 2}, probes={"slow": off + kept}
    )
    slow = [r for r in records if r["profile"] == "slow"]
    assert {(r["round"], r["status"]) for r in slow} == {(1, "failed"), (2, "ok")}
    error = next(r["error"] for r in slow if r["round"] == 1)
    assert error["kind"] == "network"
    assert "declared +200 ms round trip, measured 0.2 ms" in error["message"]
    assert [(p["when"], p["ok"]) for p in probes if p["profile"] == "slow"] == [
        ("before", False),
        ("before", True),
        ("after", True),
    ]
    assert all(r["status"] == "ok" for r in records if r["profile"] == "lan")
    assert complete
    assert len(screen.finished) == 4


def test_a_path_that_changed_makes_the_round_invalid(measure):
    paths = [{"rtt_s": 0.2001, "bandwidth_bit_s": 5e6}, {"rtt_s": 0.4, "bandwidth_bit_s": 5e6}]
    paths += [{"rtt_s": 0.2001, "bandwidth_bit_s": 5e6}]
    records, _, screen, _, judged = measure({"profiles": "slow", "splits": "P1", "rounds": 2}, probes={"slow": paths})
    assert all(r["status"] == "ok" and r["valid"] for r in records)
    assert {(r["round"], r["valid"]) for r in judged} == {(1, False), (2, True)}
    assert any("round 1 of slow is invalid" in note for note in screen.notes)


def test_a_profile_that_cannot_be_imposed_fails_its_group_only(measure):
    records, probes, screen, _, _ = measure(
        {"profiles": ["slow", "lan"], "splits": "P1", "rounds": 2}, refused_profiles={"slow": "no netem here"}
    )
    assert {(r["profile"], r["status"]) for r in records} == {("slow", "failed"), ("lan", "ok")}
    assert {r["shaper"] for r in records if r["profile"] == "slow"} == {None}
    assert {p["profile"] for p in probes} == {"lan"}
    assert len(screen.finished) == 4


class Bent:
    """A testbed whose results are bent on their way."""

    def __init__(self, testbed, bend):
        self.testbed = testbed
        self.bend = bend

    def __getattr__(self, name):
        return getattr(self.testbed, name)

    def measure(self, run, on_progress):
        return self.bend(self.testbed.measure(run, on_progress))


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda results: results[:1], "returned nothing for depth 2"),
        (lambda results: [DepthResult(r.depth, {"valid": True}, []) for r in results], "measured no invalid_reason"),
        (
            lambda results: [
                DepthResult(r.depth, r.measured | {"stages": [{"exec_s": float("nan")}]}, []) for r in results
            ],
            r"stages\[0\]\.exec_s is not a finite number",
        ),
    ],
)
def test_gaps_and_no_numbers_are_failures(measure, bend, words):
    records, *_ = measure({"splits": "P1", "rounds": 1}, wrap=lambda testbed: Bent(testbed, bend))
    failed = [r for r in records if r["status"] == "failed"]
    assert failed
    assert len(records) == 3
    assert re.search(words, failed[0]["error"]["message"])


def test_an_unreachable_path_fails_the_round(measure):
    class Dark(Bent):
        def probe(self, pipeline, profile):
            raise CellError("network", "server does not answer")

    records, probes, *_ = measure({"splits": "P1", "rounds": 1}, wrap=lambda testbed: Dark(testbed, None))
    assert {r["status"] for r in records} == {"failed"}
    assert "server does not answer" in records[0]["error"]["message"]
    assert (probes[0]["ok"], probes[0]["rtt_s"]) == (False, None)


def test_an_interrupt_records_nothing_for_the_cell(measure, place):
    calls = []

    class Pressed(Bent):
        def measure(self, run, on_progress):
            calls.append(run.cell_id)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return self.testbed.measure(run, on_progress)

    with pytest.raises(KeyboardInterrupt):
        measure({"rounds": 1}, wrap=lambda testbed: Pressed(testbed, None))
    assert {r["cell"] for r in read_lines(place / "r/records.jsonl")} == {calls[0]}
