import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import failed, invalid, record

from analysis.operating_points import operating_points, placement, table_columns, varying
from analysis.run import frame_of_records
from analysis.statistics import t_interval, t_intervals
from analysis.tables import raw_table

# fmt: off
DESIGNED = [
    "cell", "model", "split", "split_index", "split_name", "backend", "engine", "pipeline", "profile", "shaper",
    "batch_size", "depth", "round", "status", "valid", "invalid_reason",
    "latency_s", "latency_p50_s", "latency_p90_s", "throughput_img_s", "network_s", "bytes_per_batch", "rtt_s",
    "bandwidth_bit_s",
    "stage1_exec_s", "stage1_cpu_pct", "stage1_mem_pct", "stage1_gpu_util_pct", "stage1_gpu_mem_pct",
    "stage2_exec_s", "stage2_cpu_pct", "stage2_mem_pct", "stage2_gpu_util_pct", "stage2_gpu_mem_pct",
]
# fmt: on


def points(*records):
    return operating_points(frame_of_records(records))


def only(*records):
    frame = points(*records)
    assert len(frame) == 1
    return frame.iloc[0]


def test_columns_are_exactly_the_documented_ones():
    assert table_columns(2) == DESIGNED


def test_the_longest_pipeline_gives_the_columns_and_shorter_records_are_padded():
    raw = raw_table(frame_of_records([record(3, n_stages=1), record(4, n_stages=3), failed(k=5)]))
    assert list(raw.columns) == table_columns(3)
    assert raw["stage1_exec_s"].tolist()[:2] == [0.1, 0.1]
    assert raw["stage3_exec_s"].isna().tolist() == [True, False, True]


def test_mean_and_interval_are_over_rounds():
    point = only(*(record(latency_s=value, round_=i) for i, value in enumerate((0.1, 0.2, 0.3))))
    half = 4.302652729911275 * 0.1 / math.sqrt(3)  # t(0.975, 2) from a printed table
    assert point["latency_s"] == pytest.approx(0.2)
    assert (point["latency_s_ci95_low"], point["latency_s_ci95_high"]) == pytest.approx((0.2 - half, 0.2 + half))
    assert point["rounds"] == 3
    assert point["note"] == ""


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.floats(1e-6, 1e3), max_size=6), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_all_intervals_at_once_are_those_of_one_group_after_the_other(groups, chance):
    pairs = [(number, value) for number, values in enumerate(groups) for value in [*values, math.nan]]
    chance.shuffle(pairs)
    numbers, values = (np.array(column) for column in zip(*pairs, strict=True))
    found = t_intervals(values, numbers, len(groups))
    for number, own in enumerate(groups):
        expected = t_interval(own)
        assert found.n[number] == expected.n
        close = {"rel": 1e-9, "abs": 1e-9 * max(own, default=0), "nan_ok": True}
        assert found.mean[number] == pytest.approx(expected.mean, **close)
        assert found.half_width[number] == pytest.approx(expected.half_width, **close)


def test_equal_rounds_have_exactly_their_value_and_no_spread():
    point = only(*(record(latency_s=0.7, round_=i) for i in range(3)))
    assert point["latency_s"] == point["latency_s_ci95_low"] == point["latency_s_ci95_high"] == 0.7


def test_an_unknown_depth_is_a_point_of_its_own():
    frame = points(record(depth=None), record(depth=1, latency_s=0.4), record(depth=None, round_=1, latency_s=0.3))
    assert frame["depth"].tolist() == [None, 1]
    assert frame["latency_s"].tolist() == pytest.approx([0.25, 0.4])
    assert points(record(depth=2))["depth"].dtype == "int64"


def test_points_are_in_the_order_of_their_first_records():
    frame = points(record(9, round_=1), record(2), record(9, depth=2), record(2, round_=1), record(9))
    assert list(zip(frame["split"], frame["depth"], strict=True)) == [("P9", 1), ("P2", 1), ("P9", 2)]


def test_what_a_caller_asks_for_is_averaged_too():
    frame = frame_of_records([record(window_s=10.0), record(round_=1, window_s=14.0), invalid(round_=2, window_s=99.0)])
    (point,) = operating_points(frame, ["window_s"]).to_dict("records")
    assert point["window_s"] == 12.0
    assert point["window_s_ci95_high"] > 14.0
    assert "window_s" not in operating_points(frame).columns


def test_depths_of_a_cell_are_points_of_their_own():
    assert points(record(depth=1), record(depth=2, latency_s=0.4))["latency_s"].tolist() == [0.2, 0.4]


def test_invalid_and_failed_rounds_are_counted_named_and_not_averaged():
    point = only(
        record(round_=0, latency_s=0.2),
        invalid(round_=1, latency_s=99.0),
        failed(round_=2),
        record(round_=3, latency_s=0.4),
    )
    assert point["latency_s"] == pytest.approx(0.3)
    assert (point["rounds"], point["rounds_invalid"], point["rounds_failed"]) == (2, 1, 1)
    assert point["note"] == (
        "1 of 4 rounds invalid: Little's law: off by 12 %; "
        "1 of 4 rounds failed: out-of-memory on pi2: worker killed (137)"
    )


def test_a_point_without_a_valid_round_has_no_mean():
    frame = points(failed(k=1), invalid(k=2))
    assert frame["rounds"].tolist() == [0, 0]
    assert frame[["latency_s", "throughput_img_s", "latency_s_ci95_low"]].isna().all(axis=None)


def test_a_valid_record_without_throughput_is_not_trusted():
    point = only(record(throughput_img_s=None))
    assert (point["rounds"], point["rounds_invalid"]) == (0, 1)
    assert "no latency or no throughput" in point["note"]


def test_columns_that_are_null_everywhere_stay_null():
    frame = points(record(depth=2), record(depth=2, round_=1))
    assert frame["network_s"].isna().all()
    assert frame["stage1_gpu_util_pct"].isna().all()
    assert frame["stage1_cpu_pct"].tolist() == [280.5]


def test_a_run_of_failures_only_makes_a_frame():
    assert points(failed(k=1), failed(k=2))["rounds_failed"].tolist() == [1, 1]


def test_two_shapers_in_one_point_are_both_named():
    assert only(record(), record(round_=1, shaper="wirefilter"))["shaper"] == "tc+wirefilter"


@pytest.mark.parametrize(
    ("split_index", "expected"),
    [("0", "all remote"), ("20", "all local"), ("3", ""), ("0+0", "all remote"), ("20+20", "all local"), ("0+20", "")],
)
def test_placement_of_the_baselines(split_index, expected):
    assert placement(split_index, 20) == expected


def test_varying_names_only_axes_with_several_values():
    assert varying(points(record(3), record(3, backend="rpc")), ["backend", "engine", "profile"]) == ["backend"]
