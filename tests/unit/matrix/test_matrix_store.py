import errno
import json

import pandas as pd
import pytest

from paretopipe_matrix import store as store_module
from paretopipe_matrix.errors import StoreError, WriteError
from paretopipe_matrix.store import Store
from paretopipe_runtime.results import ResultsError

RECORD = {"cell": "c", "round": 1, "depth": 1, "status": "ok", "valid": True}


def rows(depth, value, n=3):
    return [{"depth": depth, "batch_id": i, "latency_s": value} for i in range(n)]


def test_a_second_writer_is_refused(tmp_path):
    with Store(tmp_path / "r") as first:
        first.write_run({})
        with (
            pytest.raises(StoreError, match=r"another pp-matrix \(process \d+\) is writing here"),
            Store(tmp_path / "r"),
        ):
            pass
    with Store(tmp_path / "r"):
        pass


def test_an_unused_directory_leaves_nothing_behind(tmp_path):
    with Store(tmp_path / "r") as store:
        assert store.load() is None
    assert not (tmp_path / "r").exists()


def test_a_directory_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with Store(tmp_path) as store, pytest.raises(StoreError, match=r"holds thesis\.tex but no run\.json"):
        store.load()


def test_torn_tails_are_cut_before_the_next_append(tmp_path):
    with Store(tmp_path / "r") as store:
        store.write_run({})
        store.append_records([RECORD])
        with (tmp_path / "r" / "records.jsonl").open("a") as file:
            file.write('{"cell": "c", "rou')
    with Store(tmp_path / "r") as store:
        assert len(store.load().records) == 1
        store.append_records([RECORD | {"depth": 2}])
        assert [record["depth"] for record in store.load().records] == [1, 2]


def test_run_json_is_replaced_whole(tmp_path, monkeypatch):
    with Store(tmp_path / "r") as store:
        store.write_run({"seed": 1})
        with pytest.raises(ValueError):
            store.write_run({"seed": float("nan")})
        assert json.loads((tmp_path / "r" / "run.json").read_text()) == {"schema": 1, "seed": 1}
        assert {path.name for path in (tmp_path / "r").iterdir()} == {"run.json", ".lock"}


def test_damage_beyond_a_torn_line_is_told(tmp_path):
    with Store(tmp_path / "r") as store:
        store.write_run({})
        (tmp_path / "r" / "records.jsonl").write_text("rubbish\n" + json.dumps(RECORD) + "\n")
        with pytest.raises(ResultsError, match=r"records\.jsonl:1"):
            store.load()


def test_samples_are_replaced_by_depth(tmp_path):
    with Store(tmp_path / "r") as store:
        store.write_samples("c", 1, rows(1, 0.1) + rows(2, 0.2))
        store.write_samples("c", 1, rows(2, 0.5, n=2))
        path = tmp_path / "r" / "samples" / "c" / "1.parquet"
        table = pd.read_parquet(path)
        assert table.groupby("depth")["latency_s"].apply(list).to_dict() == {1: [0.1] * 3, 2: [0.5] * 2}
        assert [p.name for p in path.parent.iterdir()] == ["1.parquet"]
        store.write_samples("c", 2, [])
        assert not path.with_name("2.parquet").exists()


@pytest.mark.parametrize("what", ["append_records", "append_probe", "write_samples", "write_run"])
def test_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path, monkeypatch, what):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(tmp_path / "r") as store:
        store.write_run({"seed": 1})
        store.append_records([RECORD])
        store.write_samples("c", 1, rows(1, 0.1))
        monkeypatch.setattr(store_module, "append_lines", full)
        monkeypatch.setattr(store_module.os, "fsync", full)
        calls = {
            "append_records": lambda: store.append_records([RECORD]),
            "append_probe": lambda: store.append_probe(RECORD),
            "write_samples": lambda: store.write_samples("c", 1, rows(1, 9.9)),
            "write_run": lambda: store.write_run({"seed": 2}),
        }
        with pytest.raises(WriteError, match=r"No space left on device; what was finished before is saved") as error:
            calls[what]()
        assert error.value.exit_code == 1
        assert f"pp-matrix run --out {tmp_path / 'r'}" in str(error.value)
        monkeypatch.undo()
        assert store.load().run["seed"] == 1
        assert len(store.load().records) == 1
        assert pd.read_parquet(tmp_path / "r/samples/c/1.parquet")["latency_s"].tolist() == [0.1] * 3
        assert not list((tmp_path / "r").rglob(".*.*"))


def test_unwritable_place(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot write results here"), Store(tmp_path / "file" / "r"):
        pass
