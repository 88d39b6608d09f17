import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured_points import front_by_definition
from synthetic_run import record

from analysis.fronts.dominance import nondominated
from analysis.fronts.marking import mark_fronts
from analysis.operating_points import operating_points
from analysis.run import frame_of_records

# Few different values, so that ties and duplicates are the rule; NaN and infinities among them.
VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, float("nan"), float("inf"), float("-inf")])


@given(st.data(), st.integers(2, 4))
def test_front_is_the_definition(data, n_objectives):
    maximise = data.draw(st.lists(st.booleans(), min_size=n_objectives, max_size=n_objectives))
    rows = data.draw(st.lists(st.tuples(*[VALUES] * n_objectives), max_size=12))
    front = nondominated(np.array(rows, dtype=float).reshape(len(rows), n_objectives), maximise)
    assert front.tolist() == front_by_definition(rows, maximise)


def test_duplicates_and_ties_stay():
    values = np.array([[1.0, 5.0], [1.0, 5.0], [1.0, 4.0], [2.0, 5.0], [2.0, 6.0]])
    assert nondominated(values, [False, True]).tolist() == [True, True, False, False, True]


def test_nan_evicts_nobody():
    values = np.array([[np.nan, 9.0], [1.0, 5.0]])
    assert nondominated(values, [False, True]).tolist() == [False, True]


def test_directions_must_fit():
    with pytest.raises(ValueError, match="2 directions"):
        nondominated(np.zeros((3, 2)), [True])


def front(records, by="profile"):
    frame = frame_of_records(records)
    points = mark_fronts(operating_points(frame), frame, by).points
    return {(p.profile, p.backend, p.split, p.depth) for p in points.itertuples() if p.on_frontier}


def test_baselines_and_all_depths_compete_in_one_front():
    records = [
        record(0, latency_s=0.1, throughput_img_s=10),
        record(3, latency_s=0.2, throughput_img_s=20),
        record(3, depth=2, latency_s=0.3, throughput_img_s=40),
        record(9, depth=2, latency_s=0.31, throughput_img_s=39),
        record(20, latency_s=0.4, throughput_img_s=41),
    ]
    assert front(records) == {
        ("lan", "socket", split, depth) for split, depth in [("0", 1), ("P3", 1), ("P3", 2), ("20", 1)]
    }


@pytest.mark.parametrize("by", ["profile", "backend", "batch_size"])
def test_profiles_never_compete(by):
    records = [record(3, latency_s=0.1), record(3, latency_s=9.0, throughput_img_s=1.0, profile="duress")]
    assert {profile for profile, *_ in front(records, by)} == {"lan", "duress"}


def test_models_never_compete():
    records = [record(3, model="alexnet"), record(5, model="vgg16", latency_s=9.0, throughput_img_s=1.0)]
    assert {split for _, _, split, _ in front(records)} == {"P3", "P5"}


def test_by_separates_what_it_names():
    records = [record(3, latency_s=0.1), record(3, latency_s=0.2, throughput_img_s=1.0, backend="rpc")]
    assert {backend for _, backend, *_ in front(records)} == {"socket"}
    assert {backend for _, backend, *_ in front(records, "backend")} == {"socket", "rpc"}
