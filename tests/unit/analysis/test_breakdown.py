import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import failed, invalid, record, stage

from analysis.comparing.breakdown import (
    CPU_S_PER_IMG,
    INTERFACE_RATIO,
    PART_COLUMNS,
    breakdown,
    compare_frame,
    compare_points,
    cpu_s_per_img,
    interface_ratio,
    loopback_hosts,
)
from analysis.run import frame_of_records

SECONDS = st.floats(0, 100)
STAGES = st.lists(
    st.builds(stage, exec_s=SECONDS, serialize_s=SECONDS, queue_s=SECONDS, out_queue_s=SECONDS), min_size=1, max_size=4
)


def parts_of(*records):
    return {part: values[0] for part, values in breakdown(frame_of_records(records)).items()}


def cpu_of(*records):
    return cpu_s_per_img(frame_of_records(records))[0]


def ratio_of(one, loopback=()):
    return interface_ratio(frame_of_records([one]), loopback)[0]


@settings(deadline=None, max_examples=30)
@given(SECONDS, STAGES)
def test_the_parts_add_up_to_the_latency_whatever_the_stages_report(latency_s, stages):
    parts = parts_of(record(latency_s=latency_s, stages=stages))
    assert math.fsum(parts.values()) == pytest.approx(latency_s, abs=1e-9)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(SECONDS, STAGES), min_size=1, max_size=5))
def test_means_over_rounds_add_up_too(rounds):
    n = len(rounds[0][1])
    same_length = [(latency, (stages * n)[:n]) for latency, stages in rounds]
    records = [record(latency_s=latency, stages=s, round_=i) for i, (latency, s) in enumerate(same_length)]
    (point,) = compare_points(compare_frame(frame_of_records(records))).to_dict("records")
    assert math.fsum(point[part] for part in PART_COLUMNS) == pytest.approx(point["latency_s"], abs=1e-9)


def test_each_duration_is_in_its_part_once():
    stages = [stage(0.1, 0.01, 0.001, 0.0001), stage(0.2, 0.02, 0.002, 0.0002, recv_s=0.05)]
    parts = parts_of(record(latency_s=0.4, stages=stages))
    assert [parts[column] for column in PART_COLUMNS] == pytest.approx([0.3, 0.03, 0.0033, 0.4 - 0.3333])


def test_recv_time_is_within_the_network_time_and_not_added():
    slow, unknown = (parts_of(record(stages=[stage(recv_s=recv)])) for recv in (9.0, None))
    assert slow == unknown


def test_a_negative_rest_is_kept():
    assert parts_of(record(latency_s=0.1, stages=[stage(0.3, 0, 0, 0)]))[PART_COLUMNS[3]] == pytest.approx(-0.2)


def test_a_duration_that_a_record_lacks_makes_its_part_and_the_rest_unknown():
    parts = parts_of(record())  # stages as they were before queues were recorded
    assert parts[PART_COLUMNS[0]] == pytest.approx(0.2)
    assert all(math.isnan(parts[column]) for column in PART_COLUMNS[1:])
    assert all(math.isnan(value) for value in parts_of(failed()).values())


def test_cpu_time_per_image_is_summed_over_stages():
    stages = [stage(cpu_pct=50.0), stage(cpu_pct=150.0)]
    assert cpu_of(record(throughput_img_s=40.0, stages=stages)) == pytest.approx(0.05)
    assert math.isnan(cpu_of(record(stages=[stage(cpu_pct=None), stage()])))
    assert math.isnan(cpu_of(failed()))


def test_interface_bytes_are_those_of_the_sending_stages_per_activation_byte():
    stages = [stage(tx_bytes=1100.0), stage(tx_bytes=2200.0), stage(tx_bytes=1e9)]
    sent = record(stages=stages, bytes_per_batch=300, window_batches=10)
    assert ratio_of(sent) == pytest.approx(1.1)
    assert math.isnan(ratio_of(record()))  # an older run
    assert math.isnan(ratio_of(record(20, stages=[stage()], bytes_per_batch=0)))


def test_a_loopback_proves_nothing_about_a_link():
    run = {"hosts": {"pi1": {"data_interface": {"name": "lo"}}, "pi2": {"data_interface": None}, "pi3": {}}}
    assert loopback_hosts(run) == {"pi1"}
    assert loopback_hosts({}) == frozenset()
    stages = [stage(host="pi1"), stage(host="pi2")]
    assert math.isnan(ratio_of(record(stages=stages), loopback_hosts(run)))
    assert ratio_of(record(stages=stages[::-1]), loopback_hosts(run)) == pytest.approx(1.05)


@pytest.mark.parametrize(
    ("transport", "words"),
    [
        (None, None),
        ({"name": "socket", "kind": "socket", "route": "direct", "streams": 4}, "socket, direct, 4 TCP connections"),
        (
            {
                "name": "rpc",
                "kind": "rpc",
                "route": "hub",
                "transports": ["uv"],
                "channels": ["basic"],
                "streams": None,
            },
            "rpc, hub, transports uv, channels basic",
        ),
        ({"name": "rpc", "simulated": True}, None),
    ],
)
def test_how_activations_travelled_in_words(transport, words):
    found = compare_frame(frame_of_records([record(transport=transport)]))["transport"][0]
    assert found == words or found == f"{words} per hop"


def test_points_average_valid_rounds_and_name_what_computed():
    records = [
        record(stages=[stage(cpu_pct=50, engine="fused"), stage(cpu_pct=150)], throughput_img_s=40.0),
        record(round_=1, stages=[stage(cpu_pct=100, engine="fused"), stage(cpu_pct=300)], throughput_img_s=40.0),
        invalid(round_=2, stages=[stage(0.9), stage(0.9)]),
        failed(round_=3),
    ]
    (point,) = compare_points(compare_frame(frame_of_records(records))).to_dict("records")
    assert point[CPU_S_PER_IMG] == pytest.approx(0.075)
    assert point[PART_COLUMNS[0]] == pytest.approx(0.2)
    assert (point["engines"], point["n_stages"], point["granularity"]) == ("fused+eager", 2, "block")
    assert point[INTERFACE_RATIO] == pytest.approx(1.05)
    assert point["rounds"] == 2
