import json

import pytest

from paretopipe_matrix.context import new_context
from paretopipe_matrix.errors import SelectionError, SpecError
from paretopipe_matrix.estimate import timeout_s


def test_axes_multiply(context, planned):
    plans = planned(context(models=["mobilenet_v2", "resnet18"], profiles=["lan", "slow"], batch_sizes=[1, 8]))
    assert len(plans) == len({plan.cell.id for plan in plans}) == 2 * 2 * 2 * 4
    assert {plan.n_cuts for plan in plans} == {3}


def test_labels_and_bytes(context, planned):
    plans = {plan.cell.split: plan for plan in planned(context())}
    assert list(plans) == ["0", "P1", "P2", "3"]
    assert plans["P1"].as_json() | {"cell": None} == {
        "cell": None,
        "model": "mobilenet_v2",
        "split": "P1",
        "split_index": "1",
        "split_name": "features.0",
        "n_cuts": 3,
        "granularity": "block",
        "backend": "socket",
        "engine": "eager",
        "pipeline": "local",
        "profile": "lan",
        "batch_size": 8,
        "depths": [1, 2, 4],
    }
    assert [plan.bytes_per_batch for plan in plans.values()] == [3072 * 8, 320_000, 160_000, 0]


def test_auto_depths_follow_the_pipeline(context, planned):
    assert planned(context(depths="auto", splits="P1"))[0].depths == (1, 2, 4)


def test_entries_may_share_a_cell_and_add_depths(context, planned):
    (plan,) = planned(context(splits="P1", matrix=[{"depths": [1, 4]}, {"depths": 2}]))
    assert plan.depths == (1, 2, 4)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"window": {"batches": 9}}, "window"),
        ({"input_encoding": "jpeg"}, "input_encoding"),
        ({"warmup_batches": 0}, "warmup"),
        ({"streams": 2}, "streams"),
    ],
)
def test_conflicting_entries_are_refused_by_line(place, planned, entry, words):
    text = f"splits: P1\nmatrix:\n- models: mobilenet_v2\n- profiles: slow\n- {json.dumps(entry)}\n"
    (place / "spec.yml").write_text(text)
    with pytest.raises(SpecError) as error:
        planned(new_context(place / "spec.yml", {}, place / "inventory.yml", None))
    message = str(error.value)
    assert message.startswith(f"{place}/spec.yml:3 and {place}/spec.yml:5: both entries name cell mobilenet_v2-P1")
    assert words in message


def test_unknown_split_names_the_place(context, planned, place):
    with pytest.raises(SelectionError, match=r"spec\.json:1: split 'P9': mobilenet_v2 has no cut"):
        planned(context(splits="P9"))


def test_what_the_testbed_is_asked_for(context, planned):
    asked = context(splits="P1", profiles="slow")
    (plan,) = planned(asked)
    run = plan.run(asked.profiles["slow"], 2, (4,))
    assert (run.cell_id, run.round, run.depths, run.profile.name) == (plan.cell.id, 2, (4,), "slow")
    assert run.timeout_s == timeout_s(plan.expected_s((4,))) > 60
    assert run.streams == "auto"
    assert planned(context(splits="P1", streams=4))[0].run(asked.profiles["slow"], 1, (1,)).streams == 4
    (limited,) = planned(context(splits="P1", cell_timeout_s=7))
    assert limited.run(asked.profiles["slow"], 1, (1,)).timeout_s == 7
