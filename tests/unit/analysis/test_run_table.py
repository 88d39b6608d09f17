import gzip
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_run import failed, invalid, probe, record, stage, write_run

from analysis import run as run_module
from analysis.columns import Columns, NumberError
from analysis.run import frame_of_records, read_run
from paretopipe_runtime.results import ResultsError, jsonl, load_run, open_files


@pytest.fixture
def in_parts(monkeypatch):
    """Files read by three processes, however small they are."""
    monkeypatch.setattr(run_module, "PART_BYTES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})


@pytest.fixture(params=["orjson", "json", "in parts"])
def parser(request, monkeypatch):
    """Hosts have no orjson, and large files are read by several processes: the same files must read the same."""
    if request.param == "in parts":
        request.getfixturevalue("in_parts")
    elif request.param == "json":
        monkeypatch.setattr(jsonl, "_parse_fast", json.loads)
    else:
        assert "orjson" in sys.modules
    return request.param


def row_of(*records):
    frame = frame_of_records(records)
    assert len(frame) == 1
    return frame.iloc[0].to_dict()


def test_every_scalar_of_a_record_its_stages_its_transport_and_its_error_is_a_column():
    transport = {"kind": "rpc", "transports": ["uv"], "channels": [], "streams": 1, "tensorpipe": {"deep": 1}}
    row = row_of(record(stages=[stage(tx_bytes=7), stage(host="pi2")], transport=transport, energy_j=2))
    assert (row["window_s"], row["granularity"], row["segment"], row["energy_j"]) == (10.0, "block", "seg-0", 2.0)
    assert (row["stage1_host"], row["stage2_host"], row["stage1_tx_bytes"], row["n_stages"]) == ("pi", "pi2", 7.0, 2)
    assert (row["transport_kind"], row["transport_transports"], row["transport_channels"]) == ("rpc", "uv", None)
    assert row["transport_streams"] == 1.0
    assert not {"stages", "transport", "error", "transport_tensorpipe"} & row.keys()
    gone = row_of(failed())
    assert (gone["error_kind"], gone["error_host"], gone["n_stages"], gone["state"]) == (
        "out-of-memory",
        "pi2",
        0,
        "failed",
    )
    assert gone["failure"] == "out-of-memory on pi2: worker killed (137)"


def test_numbers_are_floats_texts_are_objects_and_nulls_are_nan_or_none():
    frame = frame_of_records([record(depth=2), failed(k=4)])
    assert {str(frame[name].dtype) for name in ("latency_s", "network_s", "window_batches", "stage1_gpu_mem_pct")} == {
        "float64"
    }
    assert frame["network_s"].isna().all()
    assert frame["invalid_reason"].tolist() == [None, None]
    assert frame["depth"].tolist() == [2, 1]
    assert {type(value) for value in frame["depth"]} == {int}


def test_records_of_different_versions_share_a_frame():
    old = record(1) | {"stages": [{"host": "pi", "exec_s": 0.1}]}
    new = record(2, n_stages=3, new_key="x")
    frame = frame_of_records([old, new, record(3, n_stages=1)])
    assert frame["n_stages"].tolist() == [1, 3, 1]
    assert frame["new_key"].tolist() == [None, "x", None]
    assert frame["stage3_host"].tolist() == [None, "pi3", None]
    assert frame["stage1_cpu_pct"].tolist() == pytest.approx([math.nan, 280.5, 280.5], nan_ok=True)


def test_the_last_line_of_a_cell_round_and_depth_counts_at_the_place_of_the_first(tmp_path, parser):
    records = [
        record(1),
        failed(k=2),
        record(3),
        record(2, latency_s=0.5),
        record(1, latency_s=0.9),
        record(2, depth=2),
    ]
    run = read_run(write_run(tmp_path / "r", records))
    assert list(zip(run.frame["split"], run.frame["depth"], run.frame["latency_s"], strict=True)) == [
        *[("P1", 1, 0.9), ("P2", 1, 0.5), ("P3", 1, 0.2), ("P2", 2, 0.2)]
    ]
    assert [r["latency_s"] for r in load_run(tmp_path / "r").records] == [0.9, 0.5, 0.2, 0.2]


def test_a_changed_network_invalidates_what_was_valid_in_its_segment(tmp_path):
    records = [record(1), invalid("its own reason", k=2), failed(k=3), record(4, segment="other")]
    run = read_run(write_run(tmp_path / "r", records, [probe(ok=False, reason="slow"), probe("before", ok=False)]))
    assert run.frame["state"].tolist() == ["invalid", "invalid", "failed", "valid"]
    reasons = ["network changed during the round: slow", "its own reason", None, None]
    assert run.frame["invalid_reason"].tolist() == reasons
    assert run.frame["valid"].tolist() == [False, False, False, True]
    loaded = load_run(tmp_path / "r").records
    assert [r["valid"] for r in loaded] == run.frame["valid"].tolist()
    assert [r["invalid_reason"] for r in loaded] == reasons


@pytest.mark.parametrize("latency", [None, math.nan, math.inf])
def test_a_record_without_a_finite_latency_is_not_valid(tmp_path, parser, latency):
    run = read_run(write_run(tmp_path / "r", [record(latency_s=latency), record(2)]))
    assert run.frame["state"].tolist() == ["invalid", "valid"]
    assert run.frame["invalid_reason"][0] == "the record has no latency or no throughput"


def test_a_run_is_the_same_in_blocks_of_any_size(tmp_path, monkeypatch):
    records = [
        record(k, round_=r, n_stages=1 + (k > 5), depth=None if k == 3 else 1) for r in range(3) for k in range(9)
    ]
    records += [failed(k=9), record(2, round_=1, latency_s=0.7)]
    directory = write_run(tmp_path / "r", records)
    whole = read_run(directory).frame
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", 700)
    assert read_run(directory).frame.equals(whole)
    assert frame_of_records(records).equals(whole)


@pytest.mark.parametrize("block_bytes", [300, 1 << 20])
def test_a_run_is_the_same_read_by_several_processes(tmp_path, monkeypatch, in_parts, block_bytes):
    records = [
        record(k, round_=r, n_stages=1 + (k > 5), depth=None if k == 3 else 1) for r in range(3) for k in range(9)
    ]
    # Keys that come late, of a kind that changes; and one more stage.
    records += [failed(k=9), record(2, round_=1, latency_s=0.7), record(9, n_stages=3, energy_j=2, graph_hash=7)]
    directory = write_run(tmp_path / "r", records)
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", block_bytes)
    parts = open_files(directory).record_parts(3, 1)
    assert len(parts) == 3
    found = read_run(directory).frame
    monkeypatch.setattr(run_module, "PART_BYTES", 1 << 30)
    whole = read_run(directory).frame
    pd.testing.assert_frame_equal(found, whole)
    assert [list(map(type, found[column])) for column in found] == [list(map(type, whole[column])) for column in whole]


@given(st.lists(st.binary(max_size=9), max_size=12), st.integers(1, 20))
def test_parts_of_a_file_begin_at_lines_and_are_all_of_it(lines, most):
    text = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "x.jsonl")
        path.write_bytes(text)
        parts = jsonl.line_parts(path, most)
    assert len(parts) <= max(most, 1)
    assert b"".join(text[part.start : part.stop] for part in parts) == text
    assert all(part.start == 0 or text[part.start - 1 : part.start] == b"\n" for part in parts)


@pytest.mark.parametrize("tail", ['{"cell": "c", "rou', '{"cell": "c"\n', "\n", "[1]\n"])
def test_a_torn_last_line_is_dropped(tmp_path, parser, tail):
    directory = write_run(tmp_path / "r", [record(1), record(2)])
    with (directory / "records.jsonl").open("a") as file:
        file.write(tail)
    assert read_run(directory).frame["split"].tolist() == ["P1", "P2"]
    assert len(load_run(directory).records) == 2


DAMAGED = {
    "half a line": ('{"cell": "c"', "records.jsonl:2: not a JSON object"),
    "no object": ("[1, 2]", "records.jsonl:2: not a JSON object"),
    "an empty line": ("", "records.jsonl:2: not a JSON object"),
    "another schema": (json.dumps(record(2) | {"schema": 2}), "records.jsonl:2: schema 2, this version reads 1"),
    "a key too few": (
        json.dumps({k: v for k, v in record(2).items() if k != "model"}),
        "records.jsonl:2: the record has no 'model'",
    ),
    "no round": (
        json.dumps({k: v for k, v in record(2).items() if k != "round"}),
        "records.jsonl:2: the record has no 'round'",
    ),
    "a text for a time": (
        json.dumps(record(2, latency_s="fast")),
        "records.jsonl:2: 'latency_s' is 'fast', not a number",
    ),
    "a text in a stage": (json.dumps(record(2, stages=[stage("x")])), "records.jsonl:2: 'exec_s' is 'x', not a number"),
    "a stage of nothing": (json.dumps(record(2, stages=[None])), "records.jsonl:2: a stage is no object"),
    "stages of nothing": (json.dumps(record(2, stages="x")), "records.jsonl:2: 'stages' is 'x'"),
    "half a depth": (json.dumps(record(2, depth=1.5)), "records.jsonl:2: 'depth' is 1.5"),
    "a nameless cell": (json.dumps(record(2, cell=None)), "records.jsonl:2: 'cell' is None"),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damage_before_the_last_line_names_file_and_line(tmp_path, parser, fault):
    line, message = DAMAGED[fault]
    directory = write_run(tmp_path / "r", [])
    (directory / "records.jsonl").write_text("\n".join([json.dumps(record(1)), line, json.dumps(record(3)), ""]))
    with pytest.raises(ResultsError, match=re.escape(message)) as error:
        read_run(directory)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", '{"schema": 1, "spe', "run.json: not whole JSON"),
        ("run.json", "[]", "schema None, this version reads 1"),
        ("run.json", '{"schema": 7}', "schema 7, this version reads 1"),
        ("probes.jsonl", '{"ok": true}\n', "probes.jsonl:1: the probe has no 'segment'"),
        ("probes.jsonl", "x\n{}\n", "probes.jsonl:1: not a JSON object"),
    ],
)
def test_other_files_that_cannot_be_used_are_named(tmp_path, name, text, message):
    directory = write_run(tmp_path / "r", [record()])
    (directory / name).write_text(text)
    for read in (read_run, load_run):
        with pytest.raises(ResultsError, match=re.escape(message)):
            read(directory)


def test_a_run_without_records_is_an_empty_frame_with_all_columns(tmp_path):
    (tmp_path / "run.json").write_text('{"schema": 1}')
    frame = read_run(tmp_path).frame
    assert frame.empty
    assert {"cell", "latency_s", "state", "n_stages"} <= set(frame.columns)


def test_compressed_records_read_the_same_and_never_beside_others(tmp_path):
    directory = write_run(tmp_path / "r", [record(1), failed(k=2)])
    plain = directory / "records.jsonl"
    expected = read_run(directory).frame
    (directory / "records.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(ResultsError, match=r"holds records\.jsonl and records\.jsonl\.gz"):
        read_run(directory)
    plain.unlink()
    assert read_run(directory).frame.equals(expected)
    assert len(load_run(directory).records) == 2
    packed = (directory / "records.jsonl.gz").read_bytes()
    for damaged in (packed[:-9], b"no gzip"):
        (directory / "records.jsonl.gz").write_bytes(damaged)
        with pytest.raises(ResultsError, match=r"records\.jsonl\.gz: not a whole gzip file"):
            read_run(directory)


def test_columns_whose_kind_changes_on_the_way_are_objects():
    columns = Columns()
    columns.add([{"a": 1, "b": 1}, {"a": 2, "b": None}])
    columns.add([{"a": "x", "c": True}])
    found = columns.arrays()
    assert {key: values.tolist() for key, values in found.items()} == {
        "a": [1.0, 2.0, "x"],
        "b": pytest.approx([1.0, math.nan, math.nan], nan_ok=True),
        "c": [None, None, True],
    }
    with pytest.raises(NumberError, match="'t_s' is True, not a number") as error:
        columns.add([{"t_s": 1.0}, {"t_s": True}])
    assert error.value.row == 1


def test_the_same_text_is_the_same_object():
    frame = frame_of_records(json.loads(json.dumps([record(1), record(2)])))
    assert frame["graph_hash"][0] is frame["graph_hash"][1]
