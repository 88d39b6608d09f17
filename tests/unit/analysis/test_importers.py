import csv
import io
import json
import math

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import failed, invalid, record, write_run

from analysis.cli import main
from analysis.importers import defects
from analysis.importers.any_csv import parse_field
from analysis.importers.defects import Numbers, general_defects, reference_defects, same_bytes_defect
from analysis.importers.reference_json import import_reference
from analysis.importers.sources import find_sources
from analysis.importers.writing import Point, SourceError, records_of
from paretopipe_runtime.results import load_run


def result(k=3, model="MobileNetV2", throughput=7.9, latency=1.31, delay_ms=0.0, part1=0.42, part2=0.61, **metrics):
    """One result as both variants have it."""
    return {
        "model_name": model,
        "split_index": k,
        "static_network_delay_ms": delay_ms,
        "system_inference_throughput_imgs_per_s": throughput,
        "average_metrics_per_batch": {
            "part1_inference_time_s": part1,
            "part2_inference_time_s": part2,
            "network_time_s": 0.031,
            "end_to_end_latency_s": latency,
            "intermediate_data_size_bytes": 2408800,
            "network_throughput_mbps": 80.0,
        }
        | metrics,
    }


def rpc_result(k=3, throughput=5.77, part1=0.31, part2=0.5, cpu=61.5, **changes):
    """One of the RPC variant: its latency is 8 / throughput."""
    workers = {f"rank{n}": {"avg_cpu_usage_percent": cpu + n, "avg_memory_usage_mb": 300.0 + n} for n in range(3)}
    changes = {"model": "mobilenetv2", "delay_ms": 0.094, "latency": 8 / throughput} | changes
    return result(k, throughput=throughput, part1=part1, part2=part2, **changes) | {"worker_metrics": workers}


def session(results):
    """What the RPC variant wraps around a sweep."""
    configuration = {"model": "mobilenetv2", "dataset": "cifar10", "batch_size": 8, "world_size": 3}
    devices = {"rank0": "orchestrator (local)", "rank1": "pi-a", "rank2": "pi-b"}
    whole = {"session_id": "20260101_120000", "timestamp": "2026-01-01T12:00:00", "configuration": configuration}
    return whole | {"device_mapping": devices, "results": results}


@pytest.fixture
def write(tmp_path):
    def write(content, name="MobileNetV2_split_3_metrics.json"):
        path = tmp_path / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run(tmp_path):
    """Import: exit status, what stderr says, and the records (none if it failed)."""

    def run(*arguments, out="out", status=0):
        done = CliRunner().invoke(main, ["import", *map(str, arguments), "--out", str(tmp_path / out)])
        assert done.exit_code == status, done.output
        assert done.stdout == ""
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.stderr, load_run(tmp_path / out).records if status == 0 else []

    return run


def read(*paths, batch_size=None, keep=False):
    named = [(path.name, path) for path in paths]
    return import_reference(named, batch_size, keep_defective=keep, skip_others=frozenset())


def kinds(found):
    return [defect.kind for defect in found]


# What shows in numbers


def test_a_measured_point_has_no_general_defect():
    assert general_defects(Numbers(1.02, 8.0, 8, depth=1, parts_s=(0.4, 0.6), network_s=0.02)) == []


@pytest.mark.parametrize(
    ("depth", "found"), [(None, [defects.LATENCY_FORMULA]), (4, [defects.LATENCY_FORMULA]), (1, [])]
)
def test_a_latency_of_batch_over_throughput_is_a_formula_unless_the_depth_is_one(depth, found):
    assert kinds(general_defects(Numbers(8 / 5.77, 5.77, 8, depth=depth))) == found


@pytest.mark.parametrize(
    ("factor", "formula"), [(1 + 9e-7, True), (1 - 9e-7, True), (1 + 2e-6, False), (1 - 2e-6, False)]
)
def test_the_formula_is_found_to_a_millionth(factor, formula):
    found = general_defects(Numbers(8 / 5.77 * factor, 5.77, 8))
    assert (defects.LATENCY_FORMULA in kinds(found)) == formula


def test_a_latency_below_its_parts_is_no_measurement():
    (found,) = general_defects(Numbers(1.0, 8.5, 8, depth=1, parts_s=(0.5, 0.49), network_s=0.02))
    assert found.invalidates
    assert found.words == f"{defects.LATENCY_BELOW_PARTS} (1 s of 1.01 s)"
    assert general_defects(Numbers(1.0, 8.5, 8, depth=1, parts_s=(0.5, 0.49), network_s=0.02), slack=0.02) == []
    assert general_defects(Numbers(1.0, 8.5, 8, depth=1, parts_s=(0.5, None))) == []


@pytest.mark.parametrize("latency", [-0.2, 0.0])
def test_a_latency_that_is_not_above_zero_is_no_measurement(latency):
    assert kinds(general_defects(Numbers(latency, 8.0, 8, parts_s=(0.1, 0.1)))) == [defects.LATENCY_NEGATIVE]


@pytest.mark.parametrize(("in_flight", "whole"), [(1.05, True), (1.5, False), (0.8, False), (2.1, True), (2.45, False)])
def test_batches_in_flight_are_compared_with_the_next_whole_number(in_flight, whole):
    found = general_defects(Numbers(in_flight, 8.0, 8))
    assert kinds(found) == ([] if whole else [defects.NO_WHOLE_DEPTH])
    if not whole:
        assert found[0].detail == f"{in_flight:.2f}"
        assert not found[0].invalidates
    assert general_defects(Numbers(in_flight, 8.0, 8, depth=2)) == []


def test_the_socket_variant_has_two_clocks_and_a_queue_always():
    found = reference_defects(Numbers(1.02, 8.0, 8, parts_s=(0.42, 0.55), network_s=0.02), "socket", "vgg16", 0.0)
    assert kinds(found) == [defects.LATENCY_CLOCKS, defects.LATENCY_QUEUE, defects.NETWORK_AFTER_HEADER]
    assert not any(defect.invalidates or defect.drops for defect in found)


def test_part_times_of_a_third_and_two_thirds_are_estimates_and_prove_nothing():
    total = 1.234
    numbers = Numbers(0.9, 9.1, 8, parts_s=(total * 0.3, total * 0.6), network_s=total * 0.1)
    found = reference_defects(numbers, "rpc", "vgg16", None)
    assert {defect.kind: defect.drops for defect in found if defect.drops} == {
        defects.PARTS_ESTIMATED: ("exec_s",),
        defects.NETWORK_ESTIMATED: ("network_s",),
    }
    assert defects.LATENCY_BELOW_PARTS not in kinds(found)
    almost = Numbers(0.9, 9.1, 8, parts_s=(0.3, 0.60001))
    assert defects.PARTS_ESTIMATED not in kinds(reference_defects(almost, "rpc", "vgg16", None))


def test_other_constants_of_the_rpc_variant():
    numbers = Numbers(0.8, 10.0, 8, parts_s=(0.2, 0.3), bytes_per_batch=8 * 32 * 56 * 56 * 4)
    found = reference_defects(numbers, "rpc", "resnet50", 0.094)
    assert kinds(found) == [
        defects.LATENCY_FORMULA,
        defects.THROUGHPUT_CAPPED,
        defects.BYTES_FALLBACK,
        defects.DELAY_CONSTANT,
        defects.NAMES_SHIFTED,
    ]
    assert [defect.consequence for defect in found] == ["invalid", "invalid", "bytes_per_batch left out", "", ""]


def test_a_sum_of_parts_is_no_latency():
    found = reference_defects(Numbers(0.9, 7.0, 8, parts_s=(0.31, 0.5), network_s=0.09), "rpc", "vgg16", None)
    assert defects.LATENCY_SUM in kinds(found)
    found = reference_defects(Numbers(0.91, 7.0, 8, parts_s=(0.31, 0.5), network_s=0.09), "rpc", "vgg16", None)
    assert defects.LATENCY_SUM not in kinds(found)


def test_the_formula_is_found_with_that_codes_batch_size_too():
    found = reference_defects(Numbers(8 / 5.77, 5.77, 16, parts_s=(0.3, 0.5)), "rpc", "vgg16", None)
    assert f"{defects.LATENCY_FORMULA} (with that code's batch size of 8)" in [defect.words for defect in found]


@given(st.lists(st.floats(2.0, 9.0), min_size=2, max_size=5).filter(lambda x: max(x) < 1.15 * min(x)))
@settings(max_examples=40, deadline=None)
def test_the_formula_is_found_in_rounded_means_over_runs(throughputs):
    throughputs = [round(value, 2) for value in throughputs]
    mean = round(sum(throughputs) / len(throughputs), 2)
    latency = round(sum(8 / value for value in throughputs) / len(throughputs), 6)
    assert defects.LATENCY_FORMULA in kinds(general_defects(Numbers(latency, mean, 8, averaged=True)))


def test_no_defect_has_a_semicolon_in_its_words():
    names = [name for name in vars(defects) if name.isupper() and not name.startswith("_")]
    texts = [getattr(defects, name) for name in names if isinstance(getattr(defects, name), str)]
    assert len(texts) > 10
    assert not any(";" in text for text in texts)


def test_eight_splits_of_one_size_may_be_one_split():
    assert same_bytes_defect([(f"P{k}", 1e6) for k in range(7)]) is None
    assert same_bytes_defect([(f"P{k}", 1e6) for k in range(8)]).detail == "8 splits, 1000000 bytes"
    assert same_bytes_defect([("P1", 1e6)] * 9) is None
    assert same_bytes_defect([*((f"P{k}", 1e6) for k in range(8)), ("P9", 2e6)]) is None
    assert same_bytes_defect([(f"P{k}", None) for k in range(8)]) is None


# The reference implementation's files


def test_a_socket_result_becomes_a_record(write):
    (got,) = read(write(result())).records
    expected = {
        **{"model": "mobilenet_v2", "split": "P3", "split_index": "3", "split_name": "P3", "n_cuts": None},
        **{"backend": "socket", "engine": "eager", "pipeline": "imported", "profile": "imported-0ms", "shaper": None},
        **{"batch_size": 8, "depth": None, "round": 0, "status": "ok", "valid": True, "invalid_reason": None},
        **{"latency_s": 1.31, "throughput_img_s": 7.9, "network_s": 0.031, "bytes_per_batch": 2408800},
        **{"bandwidth_bit_s": None, "imported_network_bit_s": 80 * 8 * 2**20, "error": None, "imported": True},
        "imported_from": "MobileNetV2_split_3_metrics.json",
    }
    assert {key: got[key] for key in expected} == expected
    assert [stage["exec_s"] for stage in got["stages"]] == [0.42, 0.61]
    assert got["imported_defects"].split(";") == [
        "throughput x latency is no whole number of batches in flight (1.29)",
        "latency is a difference of two hosts' clocks",
        "latency includes queueing from the second batch on: batches are fed without bound",
        "network_s is the time to receive a batch after its header, and bytes are those of the pickle",
    ]


def test_an_rpc_result_is_invalid_unless_kept(write):
    path = write(rpc_result())
    imported = read(path)
    (got,) = imported.records
    assert (got["backend"], got["valid"], got["invalid_reason"]) == ("rpc", False, defects.LATENCY_FORMULA)
    assert (got["network_s"], [stage["exec_s"] for stage in got["stages"]]) == (None, [0.31, 0.5])
    assert got["imported_network_bit_s"] == 80 * 2**20
    assert (got["imported_rank1_cpu_pct"], got["imported_rank2_memory_mb"]) == (62.5, 302)
    assert got["profile"] == "imported-0.094ms"
    (kept,) = read(path, keep=True).records
    assert (kept["valid"], kept["invalid_reason"], kept["network_s"]) == (True, None, 0.031)
    assert kept["imported_defects"] == got["imported_defects"]
    assert defects.LATENCY_FORMULA in got["imported_defects"]


def test_estimated_part_times_are_left_out_unless_kept(write):
    path = write(rpc_result(part1=0.3 * 1.4, part2=0.6 * 1.4))
    assert [stage["exec_s"] for stage in read(path).records[0]["stages"]] == [None, None]
    assert [stage["exec_s"] for stage in read(path, keep=True).records[0]["stages"]] == [0.3 * 1.4, 0.6 * 1.4]


@pytest.mark.parametrize(
    "wrapped",
    [
        session({"3": {"run1": rpc_result(), "run2": rpc_result(throughput=5.5)}}),
        {"session_1": {"split_3": [rpc_result(), rpc_result(throughput=5.5)]}},
        [{"session": 1, "metrics": rpc_result()}, {"session": 2, "metrics": rpc_result(throughput=5.5)}],
    ],
)
def test_results_are_found_in_any_wrapper_and_repeated_ones_are_rounds(write, wrapped):
    records = read(write(wrapped, "consolidated_metrics.json")).records
    assert [(r["split"], r["backend"], r["round"], r["throughput_img_s"]) for r in records] == [
        ("P3", "rpc", 0, 5.77),
        ("P3", "rpc", 1, 5.5),
    ]
    assert len({r["cell"] for r in records}) == 1


def test_what_a_result_lacks_is_taken_from_around_it_and_from_the_file_name(write):
    bare = rpc_result(model=None, k=None)
    (got,) = read(write(session({"7": {"run1": bare}}), "consolidated_metrics.json")).records
    assert (got["model"], got["split"], got["batch_size"]) == ("mobilenet_v2", "P7", 8)
    (got,) = read(write(result(model=None, k=None), "VGG16_split_12_metrics.json")).records
    assert (got["model"], got["split"], got["backend"]) == ("vgg16", "P12", "socket")
    with pytest.raises(SourceError, match="no model_name"):
        read(write(result(model="Unknown"), "some.json"))
    with pytest.raises(SourceError, match="no split_index"):
        read(write(result(k=None), "some.json"))


def test_averages_are_one_round_and_left_out_beside_their_runs(write):
    def averaged(k, throughput):
        return rpc_result(k, throughput, latency=round(8 / throughput * 1.002, 6))

    means = write(session({"3": averaged(3, 5.64), "4": averaged(4, 5.1)}), "consolidated_metrics_averaged.json")
    records = read(means).records
    assert [record["valid"] for record in records] == [False, False]
    assert all(defects.AVERAGED in record["imported_defects"] for record in records)
    runs = write(session({"3": {"run1": rpc_result()}}), "consolidated_metrics.json")
    both = read(runs, means)
    assert len(both.records) == 1
    assert any("consolidated_metrics_averaged.json left out" in remark for remark in both.remarks)


def test_the_same_parts_for_every_split_are_noticed(write):
    runs = {str(k): {"run1": rpc_result(k)} for k in range(1, 10)}
    records = read(write(session(runs), "consolidated_metrics.json")).records
    assert all("all splits sent the same number of bytes" in record["imported_defects"] for record in records)


def test_split_zero_is_not_taken_for_all_remote(write):
    (got,) = read(write(rpc_result(k=0))).records
    assert (got["split"], got["split_index"]) == ("P0", "P0")


@pytest.mark.parametrize("name", ["InceptionV3", "inceptionv3", "INCEPTIONV3", "inception_v3"])
def test_model_names_become_torchvisions(write, name):
    imported = read(write(result(model=name)))
    assert imported.records[0]["model"] == "inception_v3"
    assert not any("none of the paper's" in remark for remark in imported.remarks)


def test_other_models_keep_their_name_and_resnet50_its_warning(write):
    imported = read(write(result(model="MyNet")))
    assert imported.records[0]["model"] == "MyNet"
    assert any("'MyNet' is none of the paper's" in remark for remark in imported.remarks)
    assert defects.NAMES_SHIFTED in read(write(result(model="resnet50"))).records[0]["imported_defects"]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({"throughput": 0}, "throughput"), ({"throughput": None}, "throughput"), ({"latency": math.nan}, "latency")],
)
def test_a_result_without_numbers_is_left_out_and_said(write, changes, missing):
    imported = read(write(result()), write(result(4, **changes), "MobileNetV2_split_4_metrics.json"))
    assert [record["split"] for record in imported.records] == ["P3"]
    assert f"MobileNetV2_split_4_metrics.json: mobilenet_v2 P4 left out: no {missing}" in imported.remarks


def test_networks_are_profiles_and_sorted_by_delay(write):
    paths = [write(result(k, delay_ms=ms), f"{ms}/M_split_{k}_metrics.json") for ms in (200.0, 0.5) for k in (12, 2)]
    records = read(*paths).records
    assert [(record["profile"], record["split"]) for record in records] == [
        *(("imported-0.5ms", "P2"), ("imported-0.5ms", "P12"), ("imported-200ms", "P2"), ("imported-200ms", "P12")),
    ]


# The command


def test_import_of_a_directory_says_everything_on_stderr(write, run, tmp_path):
    for k in (2, 3, 10):
        write(result(k, throughput=7.0 + k / 10), f"MobileNetV2_split_{k}_metrics.json")
    write(rpc_result(5), "rpc/MobileNetV2_split_5_metrics.json")
    write({"layers": 3}, "model_architecture_analysis.json")
    err, records = run(tmp_path / "theirs")
    assert [(record["backend"], record["split"]) for record in records] == [
        *(("socket", "P2"), ("socket", "P3"), ("socket", "P10"), ("rpc", "P5")),
    ]
    for line in (
        "4 records of the reference implementation: imported, not measured by ParetoPipe",
        "theirs/model_architecture_analysis.json left out: no system_inference_throughput_imgs_per_s in it",
        "batch size 8, as in that code; --batch-size N if it was changed",
        "network_throughput_mbps is MiB/s (socket) and Mibit/s (rpc): converted to imported_network_bit_s",
        "3 of 4 records: latency is a difference of two hosts' clocks",
        f"1 of 4 records: {defects.LATENCY_FORMULA}: invalid",
        "3 of 4 records are valid; --keep-defective lets the others count, still marked",
    ):
        assert line in err.splitlines()
    run_json = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run_json["schema"], run_json["testbed"]) == (1, "imported")
    assert run_json["imported"]["defects"][defects.LATENCY_CLOCKS] == 3
    assert [cell["split"] for cell in run_json["cells"]] == [record["split"] for record in records]
    assert (tmp_path / "out" / "probes.jsonl").read_text() == ""


def test_an_imported_directory_is_read_like_any_other(write, run, tmp_path):
    for k, throughput, latency in ((2, 7.0, 1.2), (3, 7.9, 1.31), (4, 6.0, 1.5)):
        for round_ in range(3):
            name = f"round{round_}/MobileNetV2_split_{k}_metrics.json"
            write(result(k, throughput=throughput + round_ / 100, latency=latency), name)
    run(tmp_path / "theirs")
    out = str(tmp_path / "out")
    table = CliRunner().invoke(main, ["table", out])
    assert table.exit_code == 0, table.output
    assert [line.split("|")[2].strip() for line in table.stdout.splitlines()[2:]] == ["P2", "P3", "P4"]
    assert "Imported: not measured by ParetoPipe" in table.stderr
    rows = list(csv.DictReader(io.StringIO(CliRunner().invoke(main, ["table", out, "--format", "csv"]).stdout)))
    assert {(row["split"], row["depth"]) for row in rows} == {("P2", ""), ("P3", ""), ("P4", "")}
    front = CliRunner().invoke(main, ["frontier", out, "--format", "csv", "--out", str(tmp_path / "figures")])
    assert front.exit_code == 0, front.output
    assert [row["split"] for row in csv.DictReader(io.StringIO(front.stdout))] == ["P2", "P3"]


def test_nothing_valid_is_said_and_ends_the_frontier_with_status_one(write, run, tmp_path):
    err, _ = run(write(rpc_result()))
    assert "0 of 1 records are valid; --keep-defective lets the others count, still marked" in err
    front = CliRunner().invoke(main, ["frontier", str(tmp_path / "out")])
    assert front.exit_code == 1
    assert front.exception is None or isinstance(front.exception, SystemExit)
    err, records = run(write(rpc_result()), "--keep-defective", out="kept")
    assert records[0]["valid"]
    assert f"1 of 1 records: {defects.LATENCY_FORMULA}: kept" in err


def test_the_batch_size_can_be_given(write, run):
    path = write(result())
    assert run(path, "--batch-size", "16")[1][0]["batch_size"] == 16
    assert "whole number from 1" in run(path, "--batch-size", "0", out="two", status=2)[0]
    assert "--latency is for CSV files" in run(path, "--latency", "x", out="two", status=2)[0]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("{}", "a.json", "no result of the reference implementation in it"),
        ('{"model', "a.json", "a.json: no JSON"),
        ("[" * 100_000, "a.json", "a.json: n"),
        ("", "a.json", "a.json: no JSON"),
        ("", "a.csv", "empty; the first line must name the columns"),
        ("x\n1\n", "a.csv", "say which column is what"),
        ("text", "a.txt", "neither .json nor .csv"),
    ],
)
def test_bad_sources_get_one_line_and_status_two(write, run, tmp_path, content, name, message):
    err, _ = run(write(content, name), status=2)
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_sources_that_do_not_go_together(write, run, tmp_path):
    one, table = write(result()), write("a,b\n1,2\n", "a.csv")
    assert "one kind at a time" in run(one, table, status=2)[0]
    assert "named twice" in run(one, tmp_path / "theirs", status=2)[0]
    (tmp_path / "empty").mkdir()
    assert "no .json or .csv file in it" in run(tmp_path / "empty", status=2)[0]
    write_run(tmp_path / "mine", [record()])
    assert "a results directory already" in run(tmp_path / "mine", status=2)[0]
    assert "does not exist" in run(tmp_path / "nowhere", status=2)[0]
    run(one)
    assert "exists and is not empty" in run(one, status=2)[0]


def test_files_of_the_same_name_keep_their_order_and_are_told_apart(write):
    paths = [write(result(), f"run{n}/MobileNetV2_split_3_metrics.json") for n in (10, 2)]
    names = [name for name, _ in find_sources(paths).files]
    assert names == [str(path) for path in paths]
    inside = find_sources([paths[0].parent.parent]).files
    assert [name for name, _ in inside] == [f"theirs/run{n}/MobileNetV2_split_3_metrics.json" for n in (2, 10)]


# Any CSV

POINTS = """\
net,cut,lat_ms,fps,t1_us,kb,flight,again
alexnet,P3,201.5,38.2,90000,602,1,0
alexnet,P3,203.5,38.0,91000,602,1,1
alexnet,fc,250,31.5,,,1,0
alexnet,9,,30,100000,9,1,0
"""
GIVEN = {"--latency": "lat_ms:ms", "--throughput": "fps", "--model": "net", "--split": "cut"}


def options(**changes):
    given = GIVEN | {f"--{key.replace('_', '-')}": value for key, value in changes.items()}
    return [part for pair in given.items() for part in pair if pair[1] is not None]


def test_a_csv_becomes_records_with_rounds_in_order(write, run):
    more = options(stage1_exec="t1_us:us", bytes="kb:kB", batch_size="8", depth="flight", backend="=grpc")
    err, records = run(write(POINTS, "points.csv"), *more)
    shown = ("model", "split", "split_index", "backend", "engine", "profile", "batch_size", "depth", "round")
    assert [tuple(record[key] for key in shown) for record in records] == [
        ("alexnet", "P3", "3", "grpc", "unknown", "imported", 8, 1, 0),
        ("alexnet", "P3", "3", "grpc", "unknown", "imported", 8, 1, 1),
        ("alexnet", "fc", "fc", "grpc", "unknown", "imported", 8, 1, 0),
    ]
    assert [record["latency_s"] for record in records] == pytest.approx([0.2015, 0.2035, 0.25])
    assert [record["bytes_per_batch"] for record in records] == [602_000, 602_000, None]
    assert [record["stages"][0]["exec_s"] for record in records] == pytest.approx([0.09, 0.091, None])
    assert "1 of 4 rows left out: 1 without latency" in err
    assert "assumed" not in err


def test_what_a_csv_does_not_say_is_assumed_aloud(write, run):
    err, records = run(write(POINTS, "points.csv"), *options())
    assert {(record["batch_size"], record["depth"]) for record in records} == {(1, None)}
    assert "batch size 1 assumed" in err
    assert "depth unknown" in err


def test_a_csv_shows_a_defined_latency_too(write, run):
    text = "m,s,lat,thr\nnet,1,0.5,16\nnet,2,0.6,11\n"
    given = ["--latency", "lat", "--throughput", "thr", "--model", "m", "--split", "s"]
    _, records = run(write(text, "points.csv"), *given, "--batch-size", "8")
    assert [record["valid"] for record in records] == [False, True]
    _, records = run(write(text, "points.csv"), *given, "--batch-size", "8", "--depth", "1", out="at-depth-1")
    assert [record["valid"] for record in records] == [True, True]


@pytest.mark.parametrize("as_table", [True, False])
def test_imported_points_of_known_depth_are_compared(tmp_path, run, as_table):
    records = [
        record(k, round_=r, backend=b, latency_s=0.2 + r / 1000, throughput_img_s=40 - r / 100, n_stages=0)
        for k in (2, 3)
        for r in (0, 1)
        for b in ("socket", "rpc")
    ]
    mine = write_run(tmp_path / "mine", records)
    printed = CliRunner().invoke(main, ["table", str(mine), "--format", "csv"]).stdout
    (tmp_path / "all.csv").write_text(printed)
    names = ("model", "split", "backend", "profile", "batch_size", "depth", "round")
    same = {name: name for name in names} | {"latency": "latency_s", "throughput": "throughput_img_s"}
    err, _ = run(tmp_path / "all.csv", *([] if as_table else [f"--{n.replace('_', '-')}={c}" for n, c in same.items()]))
    out = str(tmp_path / "out")
    assert ("without options failed and invalid records stay so" in err) != as_table
    shown = CliRunner().invoke(main, ["compare", out, "--format", "csv", "--out", str(tmp_path / "figures")])
    assert shown.exit_code == 0, shown.output
    assert len(list(csv.DictReader(io.StringIO(shown.stdout)))) == 4


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (POINTS, {"latency": "lat_ns:ms"}, "no column 'lat_ns'; did you mean 'lat_ms'"),
        (POINTS, {"latency": "lat_ms"}, "the name ends in ms; write lat_ms:ms, or lat_ms:s for seconds"),
        (POINTS, {"bytes": "kb"}, "write kb:B|kB|MB|KiB|MiB, or kb:B for bytes"),
        (POINTS, {"latency": None, "split": None}, "--latency, --split missing; the columns are net, cut, lat_ms"),
        (POINTS, {"throughput": "net"}, "row 1, column 'net': 'alexnet' is not a number"),
        (POINTS, {"batch_size": "=many"}, "row 1, --batch-size: 'many' is not a number"),
        (POINTS, {"depth": "fps"}, "row 1: depth '38.2' is no whole number from 1"),
        (POINTS, {"round": "flight"}, "is there twice: in points.csv"),
        (POINTS.replace("201.5", "-1"), {}, "row 1: latency '-1' is not above 0"),
        (POINTS.replace(",1,0\n", ",1\n", 1), {}, "line 2 has 7 fields, the header 8"),
        ("net,cut,lat_ms,fps\na,b,,\n", {}, "no row has all of latency, throughput, model, split"),
    ],
)
def test_a_bad_csv_is_named_with_the_place(write, run, text, changes, message):
    err, _ = run(write(text, "points.csv"), *options(**changes), status=2)
    assert message in err


@pytest.mark.parametrize(
    ("name", "text", "field"),
    [
        ("latency", "lat", ("lat", None, 1.0)),
        ("latency", "lat:us", ("lat", None, 1e-6)),
        ("latency", "p50_s", ("p50_s", None, 1.0)),
        ("latency", "items", ("items", None, 1.0)),
        ("stage2_exec", "t:ms", ("t", None, 1e-3)),
        ("network", "=2:ms", (None, "2", 1e-3)),
        ("model", "=a:s", (None, "a:s", 1.0)),
        ("model", "a:s", ("a:s", None, 1.0)),
        ("depth", "4", (None, "4", 1.0)),
        ("depth", "d", ("d", None, 1.0)),
        ("bytes", "size:KiB", ("size", None, 1024.0)),
    ],
)
def test_columns_units_and_constants(name, text, field):
    assert tuple(parse_field(name, text))[1:] == field


@pytest.mark.parametrize("column", ["lat_ms", "latency (ms)", "latencyMs", "t us", "wait-min", "lat[ms]"])
def test_a_unit_in_a_name_is_not_guessed(column):
    with pytest.raises(SourceError, match="the name ends in"):
        parse_field("latency", column)
    assert parse_field("latency", f"{column}:s").factor == 1


# Tables of pp-analyze


def test_a_table_comes_back_as_it_was(tmp_path, run):
    records = [
        *(
            record(k, round_=r, depth=d, latency_s=0.2 + k / 100 + r / 1000)
            for k in (0, 3)
            for r in (0, 1)
            for d in (1, 2)
        ),
        record(20, n_stages=1, split_name="output"),
        invalid(k=4),
        failed(k=5),
    ]
    mine = write_run(tmp_path / "mine", records)
    printed = CliRunner().invoke(main, ["table", str(mine), "--format", "csv"]).stdout
    (tmp_path / "all.csv").write_text(printed)
    err, got = run(tmp_path / "all.csv")
    assert CliRunner().invoke(main, ["table", str(tmp_path / "out"), "--format", "csv"]).stdout == printed
    assert "11 records of a pp-analyze table" in err
    assert {record["n_cuts"] for record in got} == {20}
    assert [len(record["stages"] or []) for record in got] == [2] * 8 + [1, 2, 0]
    assert got[-1]["error"]["message"] == "the table does not say why"
    assert got[-2]["invalid_reason"] == "Little's law: off by 12 %"


def test_a_damaged_table_and_one_named_as_two(tmp_path, run):
    mine = write_run(tmp_path / "mine", [record()])
    printed = CliRunner().invoke(main, ["table", str(mine), "--format", "csv"]).stdout
    (tmp_path / "all.csv").write_text(printed)
    (tmp_path / "copy.csv").write_text(printed)
    assert "is there twice: in all.csv and in copy.csv" in run(tmp_path / "all.csv", tmp_path / "copy.csv", status=2)[0]
    (tmp_path / "all.csv").write_text(printed.replace(",ok,", ",fine,"))
    assert "row 1: status or valid is not what pp-analyze table writes" in run(tmp_path / "all.csv", status=2)[0]
    (tmp_path / "all.csv").write_text(printed.splitlines()[0] + "\n")
    assert "no row below the header" in run(tmp_path / "all.csv", status=2)[0]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([None, 1, 2])), max_size=12))
@settings(max_examples=40, deadline=None)
def test_rounds_are_numbered_per_point_in_file_order(places):
    points = [
        Point("f", "net", f"P{k}", str(k), "block", "socket", "eager", "lan", 8, 1.0 + i, 8.0, depth)
        for i, (k, depth) in enumerate(places)
    ]
    records = records_of(points, keep_defective=False)
    assert [record["latency_s"] for record in records] == [point.latency_s for point in points]
    for place in set(places):
        rounds = [r["round"] for r in records if (int(r["split_index"]), r["depth"]) == place]
        assert rounds == list(range(places.count(place)))
