import math

import pytest
from synthetic_run import compared_sweep, failed, invalid, record, stage

from analysis.comparing.breakdown import compare_frame, compare_points
from analysis.comparing.compare_remarks import listed, overall_remarks, point_remarks, round_remarks, term_remarks
from analysis.comparing.compare_tables import breakdown_table, overall_rows, overall_table, ratios_table, with_ratios
from analysis.comparing.comparison import compare, ordered_values
from analysis.comparing.overall import overall
from analysis.markup import fit, markdown
from analysis.numbers import alike, with_factor
from analysis.run import frame_of_records
from analysis.tables import LINE_WIDTH


def compared(*records, by="backend", baseline="socket"):
    frame = compare_frame(frame_of_records(records))
    return compare_points(frame), compare(frame, by, baseline, ordered_values(frame, {}, by))


def cells_of(columns):
    return {column.header: column.cells for column in columns}


@pytest.mark.parametrize(
    ("ratio", "high", "shown"),
    [
        (1.0521, 1.0521 * 1.031, "1.052 ±3.1%"),
        (0.9, 0.9 * 1.5, "0.900 ±50%"),
        (12.345, 12.345, "12.35 ±0.0%"),
        (0.04123, 0.04123 * 1.1, "0.0412 ±10%"),
        (1.0, math.nan, "1.000 ±n/a"),
        (1.0, 1e9, "1.000 ±>999%"),
        (math.nan, math.nan, "-"),
    ],
)
def test_a_ratio_with_the_factor_its_interval_reaches(ratio, high, shown):
    assert with_factor(ratio, high) == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((241.2345, 226.5, 0.18, -0.02), ("241.2", "226.5", "0.2", "-0.0")),
        ((2218.4, 0.04), ("2218.4", "0.0")),
        ((1.5, math.nan), ("1.500", "-")),
        ((math.nan, math.nan), ("-", "-")),
    ],
)
def test_parts_have_the_decimals_of_their_sum(values, shown):
    assert alike(values) == shown


def test_ratios_table_says_what_is_compared_with_what():
    _, comparison = compared(
        *(record(round_=i, stages=[stage(), stage()]) for i in range(3)),
        *(
            record(round_=i, stages=[stage(), stage()], backend="rpc", latency_s=0.3, throughput_img_s=20)
            for i in (0, 2)
        ),
    )
    cells = cells_of(ratios_table(comparison))
    assert cells["vs socket"] == ("rpc",)
    assert (cells["images/s"], cells["latency"]) == (("0.500 ±0.0%",), ("1.500 ±0.0%",))
    assert (cells["verdict"], cells["n"]) == (("slower",), ("2 of 3",))


def test_where_throughput_and_latency_disagree_both_verdicts_show():
    records = [record(round_=i) for i in range(3)]
    records += [record(round_=i, backend="rpc", latency_s=0.2, throughput_img_s=20) for i in range(3)]
    _, comparison = compared(*records)
    assert cells_of(ratios_table(comparison))["verdict"] == ("slower/equal",)


def test_a_pair_without_a_common_round_is_no_row():
    _, comparison = compared(record(3), failed(k=3, backend="rpc"), record(4), record(4, backend="rpc"))
    assert cells_of(ratios_table(comparison))["split"] == ("P4",)


def test_breakdown_table_has_all_parts_in_ms_and_percents_stage_by_stage():
    stages = [stage(0.05, 0.002, 0.003, 0.001, cpu_pct=28.4), stage(0.1, 0, 0, 0, cpu_pct=85.9, gpu_util_pct=40.2)]
    points, _ = compared(record(latency_s=0.2, stages=stages), record(backend="rpc", stages=stages))
    cells = cells_of(breakdown_table(points, "backend"))
    parts = [cells[name][0] for name in ("latency ms", "compute", "serialize", "queue", "network")]
    assert parts == ["200.0", "150.0", "2.0", "4.0", "44.0"]
    assert (cells["cpu %"][0], cells["gpu %"][0], cells["wire/act"][0]) == ("28/86", "-/40", "1.05")
    assert cells["backend"] == ("socket", "rpc")


def test_all_local_has_one_stage_and_no_interface_bytes():
    points, _ = compared(
        *(record(3, backend=b, stages=[stage(), stage()]) for b in ("socket", "rpc")),
        *(record(20, backend=b, stages=[stage()], bytes_per_batch=0) for b in ("socket", "rpc")),
    )
    cells = cells_of(breakdown_table(points, "backend"))
    assert cells["split"] == ("P3", "P3", "local", "local")
    assert cells["cpu %"][-1] == "90"
    assert cells["wire/act"][-1] == "-"


@pytest.mark.parametrize("others", [{"rpc": 1.6}, {"rpc": 1.6, "a-backend-with-a-long-name": 3.0}])
def test_all_tables_fit(others):
    points, comparison = compared(
        *compared_sweep({"socket": 1, **others}, rounds=3, n_cuts=4),
        *compared_sweep(
            {"socket": 1, **others}, rounds=3, n_cuts=4, model="inception_v3", profile="duress-200ms-5mbit"
        ),
    )
    lines = overall(comparison)
    for table in (ratios_table(comparison), breakdown_table(points, "backend"), overall_table(lines, "socket")):
        shown, _ = fit(table, LINE_WIDTH)
        assert max(map(len, markdown(shown).splitlines())) <= LINE_WIDTH
        assert {"split", "metric"} & {column.header for column in shown}


def test_overall_table_has_a_line_per_metric_and_csv_one_per_depth_too():
    _, comparison = compared(*compared_sweep({"socket": 1, "rpc": 1.6}, rounds=3, n_cuts=4))
    lines = overall(comparison)
    cells = cells_of(overall_table(lines, "socket"))
    assert cells["metric"] == ("images/s", "latency", "CPU s/img", "network")
    assert cells["of"] == ("12", "12", "12", "4")
    assert cells["by chance"] == ("0.6", "0.6", "0.6", "0.2")
    rows = overall_rows(lines, "socket")
    assert [row["depth"] for row in rows if row["metric"] == "latency"] == ["all", 1, 2, 4]
    network = next(row for row in rows if row["metric"] == "network")
    assert 1.3 < network["lowest_ratio"] <= network["ratio"] <= network["highest_ratio"] < 1.7
    assert network["worse"] == 4


def test_every_point_has_its_ratio_in_the_csv_at_full_precision():
    records = [record(round_=i, latency_s=0.1 + i / 1e9) for i in range(2)]
    records += [record(round_=i, backend="rpc", latency_s=0.2) for i in range(3)]
    points, comparison = compared(*records, record(4), record(4, backend="rpc"), record(5))
    rows = with_ratios(points, comparison).to_dict("records")
    assert len(rows) == 5
    base, rpc = rows[0], rows[1]
    assert (base["baseline"], base["latency_ratio"], base["paired_rounds"]) == ("socket", None, None)
    (pair, _) = comparison.pairs
    assert rpc["latency_ratio"] == math.exp(sum(pair.logs["latency"].values()) / 2)
    assert rpc["latency_ratio_ci95_low"] < rpc["latency_ratio"] < rpc["latency_ratio_ci95_high"]
    assert (rpc["paired_rounds"], rpc["unpaired"]) == (2, "round 2: socket not measured")
    assert rows[-1]["latency_ratio"] is None  # without a counterpart


def test_remarks_name_what_is_left_out_once():
    records = [record(k, backend=b, round_=r) for k in range(3, 9) for b in ("socket", "rpc") for r in (0, 1)]
    records = [r for r in records if not (r["backend"] == "rpc" and r["round"] == 1)]
    records += [invalid(k=k, backend="rpc", round_=1) for k in range(3, 9)]
    _, comparison = compared(*records, *(record(k) for k in range(10, 15)))
    assert round_remarks(comparison) == [
        "no counterpart for socket at P10 depth 1, P11 depth 1, P12 depth 1, P13 depth 1 and 1 more; not compared",
        "rpc / socket at mobilenet_v2 lan P3 depth 1, mobilenet_v2 lan P4 depth 1, mobilenet_v2 lan P5 depth 1, "
        "mobilenet_v2 lan P6 depth 1 and 2 more: left out: round 1: rpc invalid (Little's law: off by 12 %)",
        "6 of 6 pairs have one round valid in both: no interval (n/a)",
    ]


def test_remarks_say_what_is_held_equal():
    points, comparison = compared(record(20, stages=[stage()]), record(20, backend="rpc", stages=[stage()]))
    terms = term_remarks(comparison, points)
    assert terms[0] == (
        "equal within a pair: model, cut, engine, profile, pipeline, batch size, depth, round; only the backend differs"
    )
    assert terms[1].startswith("the same for all points: model mobilenet_v2, profile lan, shaper tc, engine eager")
    assert terms[-1].startswith("not in the last table: pairs of one stage (1)")


def test_remarks_say_how_activations_travelled_and_what_engines_were_picked():
    transport = {"name": "rpc", "kind": "rpc", "route": "hub", "transports": ["uv"], "channels": ["basic"]}
    stages = [stage(engine="fused"), stage(engine="onnxruntime")]
    points, _ = compared(
        record(latency_s=0.5, stages=stages), record(backend="rpc", transport=transport, latency_s=0.5, stages=stages)
    )
    assert point_remarks(points, "backend") == ["rpc: rpc, hub, transports uv, channels basic"]
    points, _ = compared(
        record(stages=[stage()]), record(engine="best", latency_s=0.5, stages=stages), by="engine", baseline="eager"
    )
    assert point_remarks(points, "engine") == ["best: stages computed with fused+onnxruntime"]


def test_remarks_name_a_negative_rest_and_a_missing_breakdown():
    points, _ = compared(record(latency_s=0.1, stages=[stage(0.3)]), record(backend="rpc"))
    negative, unknown = point_remarks(points, "backend")
    assert negative.startswith("negative network time at P3 depth 1 socket: the stages report more than the latency")
    assert unknown == "1 of 2 points have no breakdown: their records lack a duration of a stage"


def test_overall_in_words_for_where_stdout_is_csv():
    records = [record(round_=i, backend=b, latency_s=t) for b, t in (("socket", 0.1), ("rpc", 0.2)) for i in range(3)]
    _, comparison = compared(*records)
    texts = overall_remarks(overall(comparison), comparison)
    assert texts[1] == (
        "lan, mobilenet_v2: rpc / socket: latency x 2.000 over 1 pair (2.000 .. 2.000); faster in 0, slower in 1; "
        "0.1 expected by chance"
    )


def test_a_list_of_few_is_whole():
    assert listed(["a", "b"]) == "a, b"
