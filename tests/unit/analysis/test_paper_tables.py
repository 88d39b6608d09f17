import math
from pathlib import Path

import pytest
from paper_runs import LAPTOP, PI, PROFILES, SERVER, measured, point, run_json
from synthetic_run import failed, invalid

from analysis.markup import Column
from analysis.paper.artefacts import Artefact, Lack, gaps, lacking_models, listing, listing_rows, run_command
from analysis.paper.beside import (
    beside_columns,
    beside_notes,
    beside_rows,
    device_note,
    models_beside,
    splits_beside,
)
from analysis.paper.measured import AS_IT_IS, DURESS, OTHER, device_of, why_lacking
from analysis.paper.model_table import counted_models, table_one_columns, table_one_rows
from analysis.paper.reference import reference_backends, reference_models, split_tables
from analysis.paper.split_tables import split_columns, split_csv_columns, split_csv_rows, split_rows
from analysis.paper.writing import plain_latex

TWO, THREE = split_tables()


def cells(columns):
    return {column.header: column.cells for column in columns}


def rows_of(source, points, table=TWO):
    return split_rows(table, [source], [points])


# ---- the paper's own figures


def test_the_papers_tables_are_whole_and_agree_with_each_other():
    models = {row.model: row for row in reference_models()}
    assert len(models) == 6
    assert (len(TWO.rows), len(THREE.rows)) == (12, 6)
    assert {row.model for row in (*TWO.rows, *THREE.rows)} == set(models)
    first = TWO.rows[0]
    assert (first.model, first.split, first.values["stage1_exec_s"]) == ("alexnet", "P10", 0.451)
    assert "gpu_util_pct" in THREE.columns
    assert "stage2_cpu_pct" not in THREE.columns


def test_ten_classes_explain_the_papers_parameters():
    models = {row.model: row.parameters for row in reference_models()}
    assert models["mobilenet_v2"] == 3504872 - (1280 * 1000 + 1000) + (1280 * 10 + 10)
    auxiliary = (768 * 1000 + 1000) - (768 * 10 + 10)
    assert models["inception_v3"] == 27161264 - (2048 * 1000 + 1000) + (2048 * 10 + 10) - auxiliary


def test_figure_7_has_two_backends_at_two_splits():
    assert [(row.backend, row.split, row.throughput_img_s) for row in reference_backends()] == [
        ("rpc", "P15", 5.1),
        ("socket", "P3", 7.8),
    ]


def test_the_source_is_told_with_the_data():
    source = (Path(__file__).parents[3] / "analysis/paper/data/SOURCE.md").read_text()
    for words in ("Masud", "2026", "Table III", "auxiliary classifier", "different splits"):
        assert words in source


# ---- which pipeline and which network it is


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [(PI, PI, "CPU to CPU"), (PI, SERVER, "CPU to GPU"), (SERVER, PI, "GPU to CPU"), (PI, {}, None), ({}, {}, None)],
)
def test_the_kind_of_a_pipeline_is_of_its_facts_whatever_its_name(first, second, kind):
    source, _ = measured(point(pipeline="pi-to-gpu"), first=first, second=second, pipeline="pi-to-gpu")
    assert source.kind == kind


def test_a_pipeline_that_run_json_does_not_have_is_of_no_kind():
    source, _ = measured(point(pipeline="elsewhere"))
    assert (source.kind, source.words) == (None, "elsewhere: hosts not recorded")


def test_devices_in_words():
    assert device_of("a", PI).kind == "Cortex-A72, 4 threads"
    assert device_of("a", LAPTOP).kind == "AMD EPYC, 1 thread"
    assert device_of("b", SERVER).kind == "NVIDIA GeForce RTX 4090"
    assert device_of("c", None).kind == "device not recorded"


@pytest.mark.parametrize(
    ("links", "network"),
    [
        ({}, AS_IT_IS),
        ({"first-egress": {"delay_s": 0, "rate_bit_s": None}}, AS_IT_IS),
        ({"first-egress": {"delay_s": 0.2, "rate_bit_s": 5e6}}, DURESS),
        ({"first-egress": {"delay_s": 0.2, "rate_bit_s": 5e6, "loss_pct": 1}}, OTHER),
        ({"first-ingress": {"delay_s": 0.2, "rate_bit_s": 5e6}}, OTHER),
        ({"first-egress": {"delay_s": 0.2, "rate_bit_s": 5e6}, "first-ingress": {"delay_s": 0.2}}, OTHER),
        (None, OTHER),
    ],
)
def test_the_network_is_what_the_profile_declares_whatever_its_name(links, network):
    source, _ = measured(point(profile="x"), profiles={"x": {"links": links}})
    assert source.network("x") == network
    assert source.network("not declared") == OTHER


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (point(), None),
        (point(model="vgg16"), "model mobilenet_v2 not measured"),
        (point(4), "split P3 not measured"),
        (point(backend="rpc"), "measured with backend rpc only"),
        (point(engine="fused"), "measured with engine fused only"),
        (point(profile="slow"), "measured with profile slow only"),
        (point(batch_size=1), "measured with batch size 1 only"),
        (point(granularity="node"), "measured with granularity node only"),
        (failed(), "no valid round: out-of-memory on pi2: worker killed (137)"),
        (invalid(), "no valid round: Little's law: off by 12 %"),
    ],
)
def test_what_is_lacking_is_said_by_the_condition_that_nothing_meets(record, why):
    source, _ = measured(record)
    assert why_lacking(source, "mobilenet_v2", "P3") == why


# ---- Tables II and III


def test_table_two_takes_stages_at_the_greatest_depth_and_the_network_at_depth_1():
    source, points = measured(
        *(point(depth=depth, round_=n, execs=(0.4 + depth, 0.6)) for depth in (1, 4) for n in range(2)),
    )
    (row,), absent = rows_of(source, points)
    assert (row.depth, row.rounds) == (4, 2)
    assert row.values["stage1_exec_s"].mean == pytest.approx(4.4)
    assert row.values["stage1_cpu_pct"].mean == 400.0
    assert row.values["net_s"].mean == pytest.approx(0.01)
    assert len(absent) == 11
    assert {missing.why for missing in absent if missing.reference.model == "vgg16"} == {"model vgg16 not measured"}


def test_without_depth_1_there_is_no_net():
    (row,), _ = rows_of(*measured(point(depth=2)))
    assert row.values["net_s"].n == 0
    assert math.isnan(row.values["net_s"].mean)
    assert cells(split_columns(TWO, [row]))["net s"] == ("-",)
    assert split_csv_rows(TWO, [row])[0]["net_depth"] is None


def test_one_round_has_no_interval():
    rows, _ = rows_of(*measured(point()))
    assert cells(split_columns(TWO, rows))["s1 exec s"] == ("0.4000 ± n/a",)
    assert math.isnan(split_csv_rows(TWO, rows)[0]["stage1_exec_s_ci95_high"])


def test_a_table_is_of_the_papers_conditions_only():
    for other in (point(batch_size=1), point(backend="rpc"), point(profile="slow"), point(engine="fused")):
        rows, absent = rows_of(*measured(other))
        assert rows == []
        assert any("only" in missing.why for missing in absent)


def test_a_pipeline_stands_in_the_table_of_its_kind():
    to_gpu = measured(point(1), second=SERVER)
    assert rows_of(*to_gpu) == ([], [])
    (row,), _ = rows_of(*to_gpu, THREE)
    assert row.reference.split == "P1"
    assert math.isnan(row.values["gpu_util_pct"].mean)


def test_simulated_times_stand_beside_nothing():
    rows, absent = rows_of(*measured(point(), testbed="simulated"))
    assert rows == []
    assert {missing.why for missing in absent} == {"simulated: declared times, nothing was measured"}


def test_csv_rows_have_the_columns():
    rows, _ = rows_of(*measured(point()))
    (row,) = split_csv_rows(TWO, rows)
    assert list(row) == split_csv_columns(TWO)
    assert (row["model"], row["split"], row["devices"]) == (
        *("MobileNetV2", "P3"),
        "pi-to-pi: a (Cortex-A72, 4 threads) to b (Cortex-A72, 4 threads)",
    )


# ---- Table I


def test_table_one_counts_and_keeps_the_papers_order():
    other = {"model": "squeezenet1_1", "granularity": "block", "parameters": 1235496, "n_blocks": 14, "cuts": [0] * 14}
    run = run_json()
    rows = table_one_rows(counted_models([run, run, {"models": [other]}]), reference_models())
    assert [(row["model"], row["cut_points"], row["paper_blocks"]) for row in rows] == [
        ("mobilenet_v2", 20, 21),
        ("squeezenet1_1", 12, None),
    ]
    assert rows[0]["float32_mb"] == pytest.approx(14.019488)
    assert cells(table_one_columns(rows))["paper: parameters"] == ("2,236,682", "-")


# ---- ours against the paper's


def test_a_ratio_is_ours_over_the_papers_with_our_interval():
    source, points = measured(*(point(round_=n, execs=(0.9 + 0.1 * n, 0.6)) for n in range(2)))
    beside = {row.metric: row for row in splits_beside("II", *rows_of(source, points)) if not row.note}
    ratio = beside["stage1_exec_s"].ratio
    assert ratio.mean == pytest.approx(0.95 / 0.969)
    assert ratio.half_width == pytest.approx(12.7062047 * 0.05 / 0.969)
    assert set(beside) == {
        *("stage1_exec_s", "stage2_exec_s"),
        *("stage1_cpu_pct", "stage2_cpu_pct", "stage1_mem_pct", "stage2_mem_pct"),
    }


def test_percentages_of_other_cores_and_memory_are_not_compared():
    source, points = measured(point(), first=LAPTOP, second=LAPTOP)
    notes = {row.metric: row.note for row in splits_beside("II", rows_of(source, points)[0], [])}
    assert notes["stage1_exec_s"] == ""
    assert notes["stage1_cpu_pct"] == "summed over 1 of its cores here, 4 in the paper"
    assert notes["stage1_mem_pct"] == "of another memory: 25.3 GB here, 4 GB in the paper"
    assert notes["net_s"] == "defined otherwise in the paper"
    assert "AMD EPYC, 1 thread" in device_note([source])


def test_another_gpu_is_not_compared_by_percent():
    record = point(1)
    record["stages"][1]["gpu_util_pct"] = 30.0
    source, points = measured(record, second=PI | {"gpu_device": {"name": "NVIDIA T4"}})
    notes = {row.metric: row.note for row in splits_beside("III", rows_of(source, points, THREE)[0], [])}
    assert (notes["gpu_util_pct"], notes["gpu_mem_pct"]) == ("another GPU: NVIDIA T4", "not measured")


def test_absent_splits_stand_in_the_table_with_their_reason():
    rows = splits_beside("II", *rows_of(*measured(point(batch_size=1))))
    (ours,) = [row for row in rows if (row.model, row.split) == ("mobilenet_v2", "P3")]
    assert (ours.note, ours.paper) == ("measured with batch size 1 only", 0.969)
    assert math.isnan(ours.ratio.mean)
    shown = cells(beside_columns(rows))
    assert set(shown["ratio"]) == {"-"}
    numbers = {int(number) for number in shown["note"]}
    assert numbers == set(range(1, len(beside_notes(rows)) + 1))


def test_counts_are_compared_as_counts():
    rows = models_beside(counted_models([run_json()]), reference_models())
    shown = cells(beside_columns(rows))
    assert shown["metric"] == ("parameters", "blocks")
    assert shown["paper"] == ("2,236,682", "21")
    assert shown["ours"] == ("3,504,872", "21")
    assert shown["ratio"] == ("1.567", "1.000")
    assert beside_rows(rows)[0]["rounds"] is None


# ---- what is lacking, and the formats


def test_the_command_has_the_papers_conditions_and_what_is_known_of_the_pipeline():
    source, _ = measured(
        point(profile="wired", pipeline="two pis"), profiles={"wired": {"links": {}}}, pipeline="two pis"
    )
    command = run_command("CPU to CPU", AS_IT_IS, ["vgg16", "alexnet"], [source])
    assert command == (
        "pp-matrix run --inventory inventory/mine.yml --pipeline 'two pis' --model alexnet --model vgg16 "
        "--backend socket --split all --engine eager --profile wired --batch-size 8 "
        "--rounds 5 --out results/paper-cpu-to-cpu-alexnet-vgg16"
    )
    elsewhere = run_command("CPU to GPU", DURESS, ["vgg16"], [source], backends=["socket", "rpc"])
    assert "--inventory inventory/testbed.yml --pipeline pi-to-gpu" in elsewhere
    assert "--backend socket --backend rpc" in elsewhere
    assert "--profile duress-200ms-5mbit" in elsewhere
    assert elsewhere.endswith("--out results/paper-cpu-to-gpu-duress-rpc-vgg16")
    everything = run_command("CPU to GPU", AS_IT_IS, [row.model for row in reference_models()], [])
    assert everything.endswith("--out results/paper-cpu-to-gpu-all")


def test_models_that_lack_for_one_reason_are_one_command():
    source, _ = measured(point(), point(model="resnet18", batch_size=1))
    models = [row.model for row in reference_models()]
    lacks = lacking_models("CPU to CPU", AS_IT_IS, models, [source])
    assert [lack.why for lack in lacks] == [
        "resnet18: measured with batch size 1 only",
        "inception_v3, resnet50, alexnet, vgg16: not measured",
    ]
    (lack,) = lacking_models("CPU to GPU", AS_IT_IS, models, [source])
    assert lack.why == "no pipeline CPU to GPU was measured"
    (unknown,) = lacking_models("CPU to GPU", AS_IT_IS, models, [measured(point(), second={})[0]])
    assert unknown.why == "no pipeline CPU to GPU was measured; of the hosts of pi-to-pi nothing is recorded"


def test_the_listing_numbers_what_is_lacking_by_the_command_that_measures_it():
    gpu, other = Lack("no GPU", "pp-matrix run"), Lack("no GPU splits", "pp-matrix run")
    artefacts = [
        Artefact("Fig. 2", ("a.png", "a.svg", "a.csv"), (gpu,)),
        Artefact("Fig. 3", ("b.png", "b.svg", "c.png", "c.svg")),
        Artefact("Table III", (), (other, Lack("accuracy"))),
    ]
    assert [(gap.number, gap.whys, gap.command) for gap in gaps(artefacts)] == [
        (1, ("no GPU", "no GPU splits"), "pp-matrix run"),
        (2, ("accuracy",), ""),
    ]
    shown = cells(listing(artefacts))
    assert shown["file"] == ("a.png", "b.png and 1 more", "lacking")
    assert shown["lacking"] == ("1", "", "1, 2")
    assert [(row["artefact"], row["lacking"]) for row in listing_rows(artefacts)] == [
        *(("Fig. 2", None), ("Fig. 2", "no GPU"), ("Fig. 3", None)),
        *(("Table III", "no GPU splits"), ("Table III", "accuracy")),
    ]


def test_latex_needs_no_package_and_its_rows_are_as_wide_as_its_columns():
    text = plain_latex([Column("a_b", ("1 ± 2", r"x\toprule")), Column("%", ("3", "4"), right=True)])
    assert text.isascii()
    begin, *body, end, _ = text.split("\n")
    assert (begin, end) == (r"\begin{tabular}{lr}", r"\end{tabular}")
    assert [line for line in body if line.startswith("\\")] == [r"\hline"] * 3
    assert all(line.count("&") == 1 and line.endswith(r"\\") for line in body if line != r"\hline")


def test_profiles_of_these_tests_are_what_they_are_called():
    source, _ = measured(point())
    assert {name: source.network(name) for name in PROFILES} == {"lan": AS_IT_IS, "slow": DURESS}


def test_models_come_in_the_papers_order():
    source, points = measured(*(point(model=model) for model in ("squeezenet1_1", "vgg16", "mobilenet_v2")))
    assert list(points["model"]) == ["mobilenet_v2", "vgg16", "squeezenet1_1"]
    assert list(source.frame["model"]) == list(points["model"])
