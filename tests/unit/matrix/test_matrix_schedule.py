from hypothesis import given
from hypothesis import strategies as st

from paretopipe_matrix.schedule import Slot, finished, keys, rejected, schedule
from paretopipe_matrix.states import cell_states

LAN = [Slot(f"lan{i}", "local", "lan", (1, 2)) for i in range(8)]
SLOW = [Slot(f"slow{i}", "local", "slow", (1,)) for i in range(3)]


def record(cell, round_=1, depth=1, status="ok", valid=True):
    return {"cell": cell, "round": round_, "depth": depth, "status": status, "valid": valid}


def order(groups):
    return [[[task.cell for task in p.tasks] for p in group.passes] for group in groups]


def test_groups_stay_together_and_rounds_follow_each_other():
    mixed = [slot for pair in zip(LAN, SLOW, strict=False) for slot in pair] + LAN[3:]
    groups = schedule(mixed, 3, 0, keys(mixed, 3))
    assert [(g.profile, [p.round for p in g.passes]) for g in groups] == [("lan", [1, 2, 3]), ("slow", [1, 2, 3])]
    assert all(sorted(t.cell for t in p.tasks) == [s.cell for s in LAN] for p in groups[0].passes)


def test_order_is_random_per_round_and_fixed_by_the_seed():
    first = order(schedule(LAN, 3, 0, keys(LAN, 3)))
    assert first == order(schedule(LAN, 3, 0, keys(LAN, 3)))
    assert first != order(schedule(LAN, 3, 1, keys(LAN, 3)))
    assert first[0][0] != first[0][1] != [s.cell for s in LAN]


def test_failed_is_finished_until_asked_for_again():
    records = [record("lan0", status="failed", valid=False), record("lan1"), record("lan2", valid=False)]
    assert finished(records) == {("lan0", 1, 1), ("lan1", 1, 1), ("lan2", 1, 1)}
    assert rejected(records) == {("lan0", 1, 1), ("lan2", 1, 1)}


def test_only_missing_depths_are_left():
    done = finished([record("lan0", 1, 1)])
    (group,) = schedule(LAN[:1], 1, 0, keys(LAN[:1], 1) - done)
    assert group.passes[0].tasks[0].depths == (2,)


def test_nothing_left():
    assert schedule(LAN, 2, 0, set()) == []


everything = keys(LAN + SLOW, 3)


@given(st.sets(st.sampled_from(sorted(everything))), st.integers(0, 5))
def test_a_resumed_run_measures_exactly_the_rest_in_the_same_order(done, seed):
    whole = schedule(LAN + SLOW, 3, seed, everything)
    rest = schedule(LAN + SLOW, 3, seed, everything - done)

    def flat(groups):
        return [(t.cell, t.round, d) for g in groups for p in g.passes for t in p.tasks for d in t.depths]

    assert flat(rest) == [key for key in flat(whole) if key not in done]
    assert len(flat(whole)) == len(everything)


def test_states():
    records = [
        record("lan0", 1, 1),
        record("lan0", 1, 2),
        record("lan0", 2, 1),
        record("lan1", 1, 1, status="failed", valid=False),
        record("lan1", 1, 2, valid=False),
        record("lan2", 1, 1, valid=False),
        record("lan2", 1, 2),
        *(record("lan3", r, d) for r in (1, 2) for d in (1, 2)),
    ]
    states = cell_states(LAN[:5], 2, records)
    assert [(s.word, s.ok, s.failed, s.invalid, s.pending) for s in states] == [
        ("pending", 1, 0, 0, 1),
        ("failed", 0, 1, 0, 1),
        ("invalid", 0, 0, 1, 1),
        ("ok", 2, 0, 0, 0),
        ("pending", 0, 0, 0, 2),
    ]
