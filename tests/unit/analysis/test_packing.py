import fcntl

import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic_run import failed, probe, record, write_run

from analysis import packing
from analysis.cli import main
from analysis.run import read_run
from analysis.samples import read_samples
from paretopipe_matrix.errors import StoreError
from paretopipe_matrix.store import Store
from paretopipe_runtime.results import ResultsError


def analyze(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def samples_of(directory, cell, round_, **columns):
    path = directory / "samples" / cell / f"{round_}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_parquet(path, index=False)


@pytest.fixture
def run(tmp_path):
    """A rerun record, a torn tail, a log, samples of two lengths of pipeline, one column null in one of them."""
    records = [failed(k=1), record(1), record(2), record(2, round_=1)]
    directory = write_run(tmp_path / "run", records, [probe("before"), probe()], spec={"rounds": 2})
    with (directory / "records.jsonl").open("a") as file:
        file.write('{"torn')
    (directory / "logs").mkdir()
    (directory / "logs" / "worker.log").write_text("x" * 1000)
    samples_of(directory, "b", 10, depth=[1, 1], batch_id=[0, 1], counted=[False, True], stage1_exec_s=[0.1, 0.2])
    samples_of(directory, "b", 2, depth=[1], batch_id=[0], counted=[True], stage1_exec_s=[None], stage2_exec_s=[0.5])
    samples_of(directory, "a", 1, depth=[4], batch_id=[7], counted=[True], stage1_exec_s=[0.3])
    return directory


def test_samples_of_all_files_are_one_table_in_order(run, tmp_path):
    samples = read_samples(run)
    assert list(samples.columns)[:5] == ["cell", "round", "depth", "batch_id", "counted"]
    assert list(zip(samples["cell"], samples["round"], samples["batch_id"], strict=True)) == [
        *[("a", 1, 7), ("b", 2, 0), ("b", 10, 0), ("b", 10, 1)]
    ]
    assert samples["stage1_exec_s"].isna().tolist() == [False, True, False, False]
    assert samples["stage2_exec_s"].isna().tolist() == [True, False, True, True]
    assert samples["cell"].dtype == object
    assert read_samples(write_run(tmp_path / "bare", [record()])) is None


def test_a_samples_file_that_is_cut_off_is_named(run):
    path = run / "samples" / "b" / "2.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ResultsError, match=r"b/2\.parquet: cannot be read as samples"):
        read_samples(run)


@pytest.mark.parametrize("rows_at_once", [1, 3, 1 << 18])
def test_a_packed_run_holds_everything_that_was_measured(run, tmp_path, monkeypatch, rows_at_once):
    monkeypatch.setattr(packing, "_ROWS_AT_ONCE", rows_at_once)
    result = analyze("pack", run, tmp_path / "out")
    assert (result.exit_code, result.exception) == (0, None)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        *["probes.jsonl", "records.jsonl.gz", "run.json", "samples.parquet"]
    ]
    assert (out / "run.json").read_bytes() == (run / "run.json").read_bytes()
    assert (out / "probes.jsonl").read_bytes() == (run / "probes.jsonl").read_bytes()
    packed, own = read_run(out), read_run(run)
    assert packed.frame.equals(own.frame)
    assert (packed.run, packed.probes) == (own.run, own.probes)
    pd.testing.assert_frame_equal(read_samples(out), read_samples(run))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_pack_prints(run, tmp_path):
    result = analyze("pack", run, tmp_path / "new" / "out")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines()]
    assert [row[:2] for row in cells[2:]] == [
        ["run.json", "1 object"],
        ["records.jsonl.gz", "4 lines"],
        ["probes.jsonl", "2 lines"],
        ["samples.parquet", "4 rows"],
    ]
    assert "logs and figures are left out" in result.stderr
    assert result.stderr.splitlines()[-1] == str(tmp_path / "new" / "out")
    raw = analyze("pack", run, tmp_path / "csv", "--format", "csv").stdout.splitlines()
    assert raw[0] == "name,entries,unit,source_bytes,packed_bytes"
    size = (run / "records.jsonl").stat().st_size
    assert raw[2] == f"records.jsonl.gz,4,line,{size},{(tmp_path / 'csv' / 'records.jsonl.gz').stat().st_size}"


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    for name in ("one", "two"):
        assert analyze("pack", run, tmp_path / name).exit_code == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert b"records" not in (tmp_path / "one" / "records.jsonl.gz").read_bytes()[:30]


def test_an_empty_place_is_taken_and_no_other(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert analyze("pack", run, tmp_path / "empty").exit_code == 0
    again = analyze("pack", run, tmp_path / "empty")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "exists and is not empty" in again.stderr
    once_more = analyze("pack", tmp_path / "empty", tmp_path / "twice")
    assert (once_more.exit_code, "packed already" in once_more.stderr) == (2, True)
    assert not (tmp_path / "twice").exists()


def test_nothing_is_left_where_packing_fails(run, tmp_path):
    (run / "samples" / "b" / "2.parquet").write_text("no parquet")
    result = analyze("pack", run, tmp_path / "out")
    assert result.exit_code == 2
    assert "b/2.parquet: cannot be read as samples" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_copy_that_reads_otherwise_is_not_kept(run, tmp_path, monkeypatch):
    def lose(source, write):
        lines = source.read_bytes().splitlines(keepends=True)
        write(lines[0])
        return 1

    monkeypatch.setattr(packing, "copy_lines", lose)
    result = analyze("pack", run, tmp_path / "out")
    assert (result.exit_code, "the copy reads otherwise" in result.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_being_measured_is_not_packed(run, tmp_path):
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = analyze("pack", run, tmp_path / "out")
    assert (result.exit_code, "pp-matrix is writing here" in result.stderr) == (2, True)
    assert analyze("pack", run, tmp_path / "out").exit_code == 0


def test_a_run_without_samples_is_packed_and_told(tmp_path):
    result = analyze("pack", write_run(tmp_path / "run", [record()]), tmp_path / "out")
    assert result.exit_code == 0
    assert "no samples" in result.stderr
    assert not (tmp_path / "out" / "samples.parquet").exists()


def test_pp_matrix_measures_into_no_packed_run(run, tmp_path):
    analyze("pack", run, tmp_path / "out")
    with Store(tmp_path / "out") as store, pytest.raises(StoreError, match="a packed copy"):
        store.load()
    assert not (tmp_path / "out" / "records.jsonl").exists()
