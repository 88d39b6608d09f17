import csv
import io
import json

import pytest
from click.testing import CliRunner
from paper_runs import LAPTOP, SERVER, point, sweep, write
from synthetic_run import failed, invalid

import analysis.figures.style
from analysis.paper.paper_command import command


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setattr(analysis.figures.style, "PNG_DPI", 30)


def paper(*args):
    return CliRunner().invoke(command, [str(arg) for arg in args])


def listed(result):
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_a_run_of_two_hosts_gives_what_it_holds_and_lists_what_it_lacks(tmp_path):
    run = write(tmp_path / "mine", [*sweep(backends=("socket", "rpc")), failed(k=9)], first=LAPTOP, second=LAPTOP)
    result = paper(run)
    assert result.exit_code == 0, result.output
    folder = run / "paper"
    made = {path.name for path in folder.iterdir()}
    stems = ("figure2-blocks", "frontier-pi-to-pi-lan-b8", "figure7-pi-to-pi-lan")
    assert made == {
        "index.md",
        "frontier-pi-to-pi-lan-b8-attainment.csv",
        *(stem + ending for stem in stems for ending in (".png", ".svg", ".csv")),
        *(stem + end for stem in ("table1", "table2", "ours-against-the-papers") for end in (".md", ".csv", ".tex")),
    }
    assert (
        sorted(result.stderr.splitlines()) == sorted(str(folder / name) for name in made) or "testbed" in result.stderr
    )
    assert all(len(line) <= 100 for line in result.stdout.splitlines() if line.startswith("|"))
    assert "no pipeline CPU to GPU was measured" in result.stdout
    assert "  pp-matrix run --inventory inventory/mine.yml --pipeline pi-to-pi" in result.stdout
    index = (folder / "index.md").read_text()
    assert all(name in index for name in made - {"index.md"})
    assert "AMD EPYC, 1 thread" in index
    (row,) = csv.DictReader((folder / "table2.csv").open())
    assert (row["model"], row["split"], row["depth"], row["rounds"]) == ("MobileNetV2", "P3", "4", "3")
    assert float(row["stage1_exec_s"]) == pytest.approx(0.0303)
    beside = list(csv.DictReader((folder / "ours-against-the-papers.csv").open()))
    (exec_s,) = [r for r in beside if (r["model"], r["split"], r["metric"]) == ("mobilenet_v2", "P3", "stage1_exec_s")]
    assert float(exec_s["ratio"]) == pytest.approx(0.0303 / 0.969)


def test_several_runs_fill_each_others_gaps(tmp_path):
    one = write(tmp_path / "one", [point(3, round_=n) for n in range(2)])
    there = [point(1, round_=n, pipeline="pi-to-gpu") for n in range(2)]
    two = write(tmp_path / "two", there, second=SERVER, pipeline="pi-to-gpu")
    result = paper(one, two, "--out", tmp_path / "out", "--format", "csv")
    assert result.exit_code == 0, result.output
    rows = listed(result)
    files = {row["artefact"]: row["files"] for row in rows if row["files"]}
    assert files["Table II splits, CPU to CPU"] == "table2.md table2.csv table2.tex"
    assert files["Table III splits, CPU to GPU"] == "table3.md table3.csv table3.tex"
    assert "frontier-pi-to-gpu-lan-b8.png" in files["Figs 3-6 CPU to GPU, unshaped"]
    lacking = [row["artefact"] for row in rows if row["lacking"]]
    assert "Fig. 7 backends" in lacking
    assert all(row["command"] or "accuracy" in row["lacking"] for row in rows if row["lacking"])
    assert not (one / "paper").exists()


def test_imported_points_without_a_depth_or_hosts_are_drawn_and_compared_with_nothing(tmp_path):
    unknown = {"depth": None, "imported": True, "granularity": None, "engine": "unknown"}
    records = [point(k, round_=0) | unknown for k in (3, 4)]
    run = write(tmp_path / "imported", records, testbed="imported", hosts={}, models=[], profiles={}, inventory={})
    result = paper(run, "--format", "csv")
    assert result.exit_code == 0, result.output
    (made,) = [row for row in listed(result) if row["files"]]
    assert made["artefact"] == "Other frontiers"
    assert "of the hosts of pi-to-pi nothing is recorded" in result.stdout


def test_timed_blocks_stand_in_for_the_cells(tmp_path):
    rows = [{"name": "features.0", "cut_index": 1, "exec_samples_s": [0.1, 0.2]}]
    model = {"model": "vgg16", "granularity": "block", "batch_size": 8, "engine": "eager", "blocks": {"a": rows}}
    blocks = tmp_path / "blocks.json"
    blocks.write_text(json.dumps({"schema": 1, "testbed": "agents", "hosts": {"a": LAPTOP}, "models": [model]}))
    run = write(tmp_path / "run", [point(k) for k in (2, 3)])
    result = paper(run, "--blocks", blocks, "--format", "csv")
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader((run / "paper/figure2-blocks.csv").open())
    assert (row["model"], row["source"], row["kind"]) == ("vgg16", "profile", "AMD EPYC, 1 thread")


@pytest.mark.parametrize("bad", ["none", "schema", "damaged", "blocks", "folder"])
def test_what_cannot_be_read_or_written_is_a_sentence_and_exit_status_2(tmp_path, bad):
    run = write(tmp_path / "run", [point()], schema=7 if bad == "schema" else 1)
    args = [run]
    if bad == "none":
        args = [tmp_path / "nothing"]
    if bad == "damaged":
        (run / "records.jsonl").write_text('{"cell"\n' + json.dumps(point()) + "\n")
    if bad == "blocks":
        args += ["--blocks", run / "run.json"]
    if bad == "folder":
        (tmp_path / "file").write_text("")
        args += ["--out", tmp_path / "file"]
    result = paper(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("records", [[], [failed(), failed(k=4)], [invalid()]])
def test_without_a_valid_point_there_is_nothing_but_a_sentence(tmp_path, records):
    run = write(tmp_path / "run", records)
    result = paper(run)
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(run) in result.stderr
    assert not (run / "paper").exists()


def test_an_empty_run_beside_a_good_one_is_remarked_on(tmp_path):
    empty = write(tmp_path / "empty", [])
    result = paper(write(tmp_path / "run", [point()]), empty, "--format", "csv")
    assert result.exit_code == 0, result.output
    assert f"{empty}: no round is finished yet" in result.stderr


def test_help_has_an_example():
    assert "pp-analyze paper results/" in paper("--help").stdout
