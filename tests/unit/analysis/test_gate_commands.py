import csv
import io

import pytest
from click.testing import CliRunner
from sampled_run import sampled
from synthetic_run import failed, record, write_run
from test_run_diff import HOST, sweep

from analysis.cli import main

CLEAN = sampled(cuts=(3, 20), profiles=("lan",), rounds=2)


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def a_run(directory, records, **run):
    return write_run(directory, records, **({"hosts": {"pi1": HOST}, "testbed": "agents"} | run))


def test_check_of_a_clean_run(tmp_path):
    result = call("check", CLEAN.write(tmp_path))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert any(line.startswith("| samples") and "8 records" in line for line in lines)
    assert any(line.startswith("| link") and "nothing" in line for line in lines)
    assert "link: no record crossed a link with a declared rate" in result.stderr
    assert "every rule that could be checked is kept" in result.stderr


def test_check_finds_an_edited_record(tmp_path):
    run = CLEAN.copy()
    run.find()["throughput_img_s"] *= 1.01
    result = call("check", run.write(tmp_path))
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("- ")]
    assert line.startswith("- breaks samples: mobilenet_v2-P3-socket-lan round 1 depth 1: throughput_img_s ")
    assert call("check", tmp_path, "--no-samples").exit_code == 0


def test_check_as_csv(tmp_path):
    run = CLEAN.copy()
    run.find()["output_max_rel_err"] = 0.5
    run.run["git"]["dirty"] = True
    result = call("check", run.write(tmp_path), "--format", "csv")
    assert result.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["rule"], row["verdict"]) for row in rows] == [
        *(("output", "breaks"), ("validity", "breaks"), ("resumed", "note"))
    ]
    assert rows[0]["depth"] == "1"
    assert rows[2]["cell"] == ""
    assert "samples: 8 records checked, 0 break it" in result.stderr


def test_notes_do_not_fail(tmp_path):
    run = CLEAN.copy()
    run.run["git"]["dirty"] = True
    result = call("check", run.write(tmp_path))
    assert result.exit_code == 0
    assert "- note resumed: measured with uncommitted changes" in result.stdout


def test_check_of_a_run_in_which_everything_failed(tmp_path):
    result = call("check", write_run(tmp_path, [failed(), failed(k=4)]))
    assert result.exit_code == 1
    assert result.stdout.count("- breaks failed") == 2


@pytest.mark.parametrize("command", [("check",), ("diff", "x")])
def test_bad_directories(command, tmp_path):
    for directory in (tmp_path / "none", tmp_path):
        result = call(*command[:1], *[directory] * len(command))
        assert result.exit_code == 2
        assert "no results here" in result.stderr
    result = call(*command[:1], *[write_run(tmp_path / "s", [record()], schema=9)] * len(command))
    assert result.exit_code == 2
    assert "schema 9" in result.stderr
    result = call(*command[:1], *[write_run(tmp_path / "e", [])] * len(command))
    assert result.exit_code == 1
    assert "no round is finished" in result.stderr
    assert not isinstance(result.exception, KeyError)


@pytest.mark.parametrize("command", ["check", "diff"])
def test_help_has_an_example(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"pp-analyze {command} results/" in result.stdout


def test_diff_prints_the_worst_first(tmp_path):
    first, second = a_run(tmp_path / "a", sweep(1)), a_run(tmp_path / "b", sweep(2, {5: 1.3}))
    result = call("diff", first, second)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("| verdict")
    assert lines[2].startswith("| slower")
    assert "P5" in lines[2]
    assert all(len(line) <= 100 for line in lines)
    assert "adjusted for 10 points" in result.stderr
    rows = list(csv.DictReader(io.StringIO(call("diff", first, second, "--format", "csv").stdout)))
    assert len(rows) == 10
    assert (rows[0]["verdict"], rows[0]["split"], rows[0]["rounds_second"]) == ("slower", "P5", "5")


@pytest.mark.parametrize(("limit", "status"), [("10", 1), ("40", 0)])
def test_diff_as_a_gate(limit, status, tmp_path):
    runs = a_run(tmp_path / "a", sweep(1)), a_run(tmp_path / "b", sweep(2, {5: 1.3}))
    result = call("diff", *runs, "--metric", "latency", "--fail-above", limit)
    assert result.exit_code == status
    assert ("worse by more than 10 %" in result.stderr) == (status == 1)


def test_diff_refuses_other_hosts_and_names_what_differs(tmp_path):
    first = a_run(tmp_path / "a", sweep(1))
    second = a_run(tmp_path / "b", sweep(2), hosts={"pi1": HOST | {"cpu_model": "Cortex-A76"}})
    result = call("diff", first, second)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "pi1: cpu_model: Cortex-A72 -> Cortex-A76" in result.stderr
    result = call("diff", first, second, "--allow-different-hosts")
    assert result.exit_code == 0
    assert result.stdout.startswith("- different hosts or networks: pi1: cpu_model: Cortex-A72 -> Cortex-A76")
    result = call("diff", first, second, "--allow-different-hosts", "--format", "csv")
    assert result.stdout.startswith("verdict,")
    assert "different hosts or networks" in result.stderr


@pytest.mark.parametrize(
    ("second", "status", "words"),
    [
        (sweep(2, cuts=[15]), 2, "no operating point in common"),
        (sweep(2, graph_hash="x"), 2, "another graph hash"),
        ([failed(k=k) for k in range(10)], 1, "no valid round"),
    ],
)
def test_diff_with_nothing_to_compare(second, status, words, tmp_path):
    result = call("diff", a_run(tmp_path / "a", sweep(1)), a_run(tmp_path / "b", second))
    assert result.exit_code == status
    assert words in result.stderr


def test_diff_of_single_rounds_says_that_there_is_no_interval(tmp_path):
    runs = a_run(tmp_path / "a", sweep(1, rounds=1)), a_run(tmp_path / "b", sweep(2, rounds=1))
    result = call("diff", *runs, "--fail-above", "1")
    assert result.exit_code == 0
    assert "±n/a" in result.stdout
    assert "10 of 10 points have one valid round in a run: no interval" in result.stderr
