"""What cannot be used is a sentence and an exit status, whichever command is asked."""

import json

import pytest
from click.testing import CliRunner
from synthetic_run import failed, record, write_run

from analysis.cli import main

ARGUMENTS = {
    "check": ["{run}"],
    "compare": ["{run}"],
    "diff": ["{run}", "{good}"],
    "frontier": ["{run}", "--out", "{out}"],
    "pack": ["{run}", "{out}"],
    "paper": ["{run}", "--out", "{out}"],
    "recommend": ["{run}"],
    "report": ["{run}", "--out", "{out}/report.html"],
    "table": ["{run}"],
}


def invoke(command, run, tmp_path):
    good = write_run(tmp_path / "good", [record()])
    given = [argument.format(run=run, good=good, out=tmp_path / "out") for argument in ARGUMENTS[command]]
    result = CliRunner().invoke(main, [command, *given])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def test_every_command_that_reads_a_run_is_here():
    assert {*ARGUMENTS, "import"} == set(main.list_commands(None))


def write_bad(kind, directory):
    """A directory that no command can use; what its error has to say."""
    without = {key: value for key, value in record(4).items() if key != "split_index"}
    if kind == "nothing":
        return directory, "no results here (no run.json)"
    if kind == "empty":
        directory.mkdir()
        return directory, "no results here (no run.json)"
    if kind == "no run.json":
        (write_run(directory, [record()]) / "run.json").unlink()
        return directory, "no results here (no run.json)"
    if kind == "half a run.json":
        (write_run(directory, [record()]) / "run.json").write_text('{"schema": 1, "spec": {"ro')
        return directory, "run.json: not whole JSON"
    if kind == "other schema":
        return write_run(directory, [record()], schema=2), "schema 2, this version reads 1"
    if kind == "mixed schemas":
        lines = [record(), record(4, schema=2), record(5)]
        return write_run(directory, lines), "records.jsonl:2: schema 2, this version reads 1"
    if kind == "a key too few":
        return write_run(directory, [record(), without]), "records.jsonl:2: the record has no 'split_index'"
    if kind == "damaged":
        (write_run(directory, []) / "records.jsonl").write_text("{\n" + json.dumps(record()) + "\n")
        return directory, "records.jsonl:1: not a JSON object"
    assert kind == "a word for a time"
    return write_run(directory, [record(latency_s="0.2 s")]), "records.jsonl:1: 'latency_s' is '0.2 s', not a number"


KINDS = (
    *("nothing", "empty", "no run.json", "half a run.json", "other schema", "mixed schemas", "a key too few"),
    *("damaged", "a word for a time"),
)


@pytest.mark.parametrize("command", ARGUMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_that_cannot_be_used(command, kind, tmp_path):
    run, message = write_bad(kind, tmp_path / "run")
    result = invoke(command, run, tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", sorted({*ARGUMENTS} - {"pack"}))
def test_a_run_that_only_failed(command, tmp_path):
    lines = [failed(k=k, backend=backend) for k in (3, 4) for backend in ("socket", "rpc")]
    result = invoke(command, write_run(tmp_path / "run", lines), tmp_path)
    assert result.exit_code == 1
    assert "failed" in result.stderr + result.stdout


@pytest.mark.parametrize("command", sorted({*ARGUMENTS} - {"pack"}))
def test_a_run_without_a_finished_round(command, tmp_path):
    result = invoke(command, write_run(tmp_path / "run", []), tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no round is finished yet" in result.stderr


@pytest.mark.parametrize("command", ["check", "diff", "recommend", "table"])
def test_one_round_has_no_interval_and_says_so(command, tmp_path):
    result = invoke(command, write_run(tmp_path / "run", [record(3), record(4, latency_s=0.3)]), tmp_path)
    assert result.exit_code in (0, 1)
    assert "n/a" in result.stdout or "round" in result.stdout + result.stderr
