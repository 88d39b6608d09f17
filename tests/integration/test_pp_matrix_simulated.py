"""The real pp-matrix command on the simulated testbed: run, resume, kill, interrupt, rerun, refusals."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from paretopipe_matrix.cli import main
from paretopipe_runtime.results import load_run, read_lines

REPOSITORY = Path(__file__).parents[2]
NAMES = [f"features.{i}" for i in range(6)]
SIMULATION = {
    "models": {
        "mobilenet_v2": {
            "input_bytes": 3072,
            "blocks": [
                {"name": name, "exec_s": 0.001 * (i + 1), "out_bytes": 40_000 // (i + 1), "paper_name": f"P{i + 1}"}
                for i, name in enumerate(NAMES)
            ]
            + [{"name": "classifier", "exec_s": 0.001, "out_bytes": 4_000}],
        }
    },
    "speed": {"server": 4.0},
}
CELLS, DEPTHS = 8, (1, 2, 4)


class Place:
    """A working directory with an inventory and a simulation."""

    def __init__(self, path):
        self.path = path
        self.out = path / "out"
        self.simulate()
        (path / "inventory").mkdir()
        for name in ("local.yml", "profiles.yml"):
            (path / "inventory" / name).write_text((REPOSITORY / "inventory" / name).read_text())
        self.environment = os.environ | {"PARETOPIPE_SIMULATE": str(path / "sim.json"), "PYTHONUNBUFFERED": "1"}

    def simulate(self, **changes):
        (self.path / "sim.json").write_text(json.dumps(SIMULATION | changes))

    def __call__(self, *arguments, status=0):
        """Run the command in this process; its output after checking the exit status."""
        result = CliRunner(env={"PARETOPIPE_SIMULATE": str(self.path / "sim.json")}).invoke(
            main, [str(argument) for argument in arguments]
        )
        assert result.exit_code == status, result.output
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    def start(self, *arguments, **options):
        code = "import sys; from paretopipe_matrix.cli import main; sys.argv[0] = 'pp-matrix'; main()"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.path, env=self.environment, **pipes, **options)

    def lines(self):
        return read_lines(self.out / "records.jsonl")

    def wait_for_records(self, process, count):
        deadline = time.monotonic() + 30
        while len(self.lines()) < count:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def key(record):
    return record["cell"], record["round"], record["depth"]


def assert_complete(place, rounds, cells=CELLS):
    """Every (cell, round, depth) exactly once, with its samples."""
    counts = Counter(key(record) for record in place.lines())
    assert set(counts.values()) == {1}
    assert len(counts) == cells * rounds * len(DEPTHS)
    for record in place.lines():
        table = pd.read_parquet(place.out / "samples" / record["cell"] / f"{record['round']}.parquet")
        here = table[table["depth"] == record["depth"]]
        assert here["counted"].sum() == len(here) - 1 == record["window_batches"]


def test_run_list_show(place):
    output = place("run", "--out", place.out, "--rounds", 2, "--profile", "lan", "--profile", "duress-200ms-5mbit")
    assert f"{place.out}: 16 cells: 16 ok" in output
    assert_complete(place, 2, cells=16)
    run = json.loads((place.out / "run.json").read_text())
    assert (run["schema"], run["testbed"], run["seed"], len(run["cells"])) == (1, "simulated", 0, 16)
    assert run["spec"]["pipelines"] == ["local"]
    assert run["hosts"]["edge"]["simulated"] is True
    assert set(run["versions"]) == {"paretopipe", "python", "torch"}
    assert run["models"][0]["graph_hash"] == "simulated-graph"
    listed = place("list", place.out)
    assert "simulated: declared times, nothing was measured" in listed
    assert listed.count("2/2") == 16
    cell = next(c["cell"] for c in run["cells"] if c["split"] == "P3" and c["profile"] == "lan")
    shown = place("show", place.out, "mobilenet_v2-P3-socket-eager-lan")
    for word in (cell, "latency ms", "features.2", "made ", "commit", "edge: simulated True"):
        assert word in shown


def test_results_default_to_a_new_directory_and_the_newest_is_the_default(place):
    place("run", "--rounds", 1, "--split", "P1")
    place("run", "--rounds", 1, "--split", "P1")
    made = sorted((place.path / "results").iterdir())
    assert len(made) == 2
    assert all(path.name.endswith("-mobilenet_v2") or path.name.endswith("-mobilenet_v2-2") for path in made)
    assert "mobilenet_v2-P1" in place("list")
    assert "mobilenet_v2-P1" in place("show", "mobilenet_v2-P1")


def test_resume_of_a_finished_run_measures_nothing(place):
    place("run", "--out", place.out, "--rounds", 1)
    before = place.lines()
    assert "8 ok" in place("run", "--out", place.out)
    assert "8 ok" in place("run", "--out", place.out, "--rounds", 1)
    assert place.lines() == before


def test_resume_measures_exactly_what_is_missing(place):
    place("run", "--out", place.out, "--rounds", 2)
    lines = (place.out / "records.jsonl").read_text().splitlines(keepends=True)
    kept = lines[:-8]
    (place.out / "records.jsonl").write_text("".join(kept) + lines[-8][:40])
    (place.out / "probes.jsonl").write_bytes((place.out / "probes.jsonl").read_bytes()[:-5])
    place("run", "--out", place.out)
    assert (place.out / "records.jsonl").read_text().startswith("".join(kept))
    assert_complete(place, 2)
    assert len(json.loads((place.out / "run.json").read_text())["resumed"]) == 1


@pytest.mark.parametrize("seed", range(3))
def test_kill_at_any_moment_then_resume_loses_and_repeats_nothing(place, seed):
    place.simulate(sleep_s=0.02)
    chance = random.Random(seed)
    saved = {}
    for _ in range(3):
        process = place.start("run", "--out", place.out, "--rounds", 4)
        place.wait_for_records(process, min(len(saved) + 1, CELLS * 4 * 3))
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        process.communicate()
        now = {key(record): record for record in place.lines()}
        assert saved.items() <= now.items()
        saved = now
    assert 0 < len(saved) < CELLS * 4 * 3
    place.simulate()
    place("run", "--out", place.out)
    assert_complete(place, 4)
    assert saved.items() <= {key(record): record for record in place.lines()}.items()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_says_how_to_go_on(place, number):
    place.simulate(sleep_s=0.2)
    process = place.start("run", "--out", place.out, "--rounds", 2)
    place.wait_for_records(process, 3)
    process.send_signal(number)
    output = process.communicate(timeout=20)[0]
    assert process.returncode == 130, output
    assert f"Go on with: pp-matrix run --out {place.out}" in output
    assert "Traceback" not in output
    done = len(place.lines())
    assert 3 <= done < CELLS * 2 * 3
    assert done % 3 == 0
    place.simulate()
    place("run", "--out", place.out)
    assert_complete(place, 2)


def test_failures_are_listed_and_rerun_alone(place):
    place.simulate(
        failures=[{"cell": "P3", "rounds": [2], "kind": "oom", "message": "killed", "log_tail": ["out of m"]}]
    )
    output = place("run", "--out", place.out, "--rounds", 2, status=1)
    assert "8 cells: 7 ok, 1 failed" in output
    assert f"pp-matrix rerun {place.out} --failed" in output
    assert "oom: killed" in place("list", place.out)
    shown = place("show", place.out, "mobilenet_v2-P3")
    assert "| out of m" in shown
    assert place("run", "--out", place.out, status=1)  # failed stays failed
    place.simulate()
    before = place.lines()
    assert "8 ok" in place("rerun", place.out, "--failed")
    again = place.lines()[len(before) :]
    assert [(r["split"], r["round"], r["depth"], r["status"]) for r in again] == [("P3", 2, d, "ok") for d in DEPTHS]
    assert all(record["status"] == "ok" for record in load_run(place.out).records)
    assert "nothing failed and nothing is invalid" in place("rerun", place.out, "--failed")


def test_invalid_points_are_told_and_rerun(place):
    place.simulate(invalid=[{"cell": "P2", "rounds": [1], "depths": [4], "message": "Little's law is off by 9 %"}])
    output = place("run", "--out", place.out, "--rounds", 1)
    assert "7 ok, 1 invalid" in output
    assert "Little's law" in place("list", place.out)
    place.simulate()
    before = len(place.lines())
    place("rerun", place.out, "--failed")
    assert [(r["split"], r["depth"]) for r in place.lines()[before:]] == [("P2", 4)]
    table = pd.read_parquet(next((place.out / "samples").glob("*-P2-*/1.parquet")))
    assert set(table["depth"]) == {1, 2, 4}


def test_rerun_of_named_cells(place):
    place("run", "--out", place.out, "--rounds", 2)
    before = place.lines()
    place("rerun", place.out, "--cell", "mobilenet_v2-P2", "mobilenet_v2-cut0")
    again = place.lines()[len(before) :]
    assert Counter(r["split"] for r in again) == {"P2": 6, "0": 6}
    assert {r["segment"] for r in again}.isdisjoint(r["segment"] for r in before)
    assert "no cell 'alexnet'" in place("rerun", place.out, "--cell", "alexnet", status=2)
    assert "is the beginning of 8 cells" in place("rerun", place.out, "--cell", "mobilenet", status=2)
    place("rerun", place.out, status=2)
    place("rerun", place.out, "--failed", "--cell", "mobilenet_v2-P2", status=2)


def test_a_changed_spec_is_refused_with_what_changed(place):
    place("run", "--out", place.out, "--rounds", 1)
    before = place.lines()
    output = place("run", "--out", place.out, "--rounds", 2, "--batch-size", 1, status=2)
    assert "rounds: 1 -> 2" in output
    assert "batch_sizes: 8 -> 1" in output
    profiles = place.path / "inventory" / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("nothing imposed\n", "x\n  links: {first-egress: {delay: 1ms}}\n"))
    assert "profiles.lan.links" in place("run", "--out", place.out, status=2)
    profiles.write_text((REPOSITORY / "inventory" / "profiles.yml").read_text())
    inventory = place.path / "inventory" / "local.yml"
    inventory.write_text(inventory.read_text().replace("paretopipe_threads: auto", "paretopipe_threads: 7"))
    assert "inventory.hosts.edge.threads: auto -> 7" in place("run", "--out", place.out, status=2)
    assert place.lines() == before


def test_a_run_of_an_older_version_goes_on(place):
    """What it did not know yet counts as its default; a value that was chosen is still told apart."""
    place("run", "--out", place.out, "--rounds", 1)
    path = place.out / "run.json"
    run = json.loads(path.read_text())
    del run["spec"]["streams"], run["models"][0]["engines"]
    for host in run["inventory"]["hosts"].values():
        del host["engine"]
    path.write_text(json.dumps(run))
    records = place.out / "records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:-3]))
    place("run", "--out", place.out)
    assert_complete(place, 1)
    inventory = place.path / "inventory" / "local.yml"
    inventory.write_text(inventory.read_text() + "    paretopipe_engine: fused\n")
    assert "inventory.hosts.edge.engine: best -> fused" in place("run", "--out", place.out, status=2)


def test_declared_backends_and_engines_show_in_every_cell(place):
    place.simulate(backend_s={"rpc": 0.01}, engine_speed={"fused": 2.0}, noise_pct=0)
    axes = ("--backend", "socket,rpc", "--engine", "eager,fused", "--depth", 1, "--split", "P3,N")
    place("run", "--out", place.out, "--rounds", 1, *axes)
    latency = {(r["split"], r["backend"], r["engine"]): r["latency_s"] for r in place.lines()}
    for engine in ("eager", "fused"):
        assert latency["P3", "rpc", engine] - latency["P3", "socket", engine] == pytest.approx(0.01)
        assert latency["7", "rpc", engine] == latency["7", "socket", engine], "nothing crosses a link"
    assert latency["7", "socket", "eager"] == pytest.approx(2 * latency["7", "socket", "fused"])
    assert {r["transport"]["kind"] for r in place.lines() if r["transport"]} == {"socket", "rpc"}


def test_another_model_or_version_is_refused(place):
    place("run", "--out", place.out, "--rounds", 1)
    records = place.out / "records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:-3]))
    place.simulate(versions={"torch": "9.9"})
    assert "edge: torch: simulated -> 9.9" in place("run", "--out", place.out, status=2)
    other = json.loads(json.dumps(SIMULATION["models"]))
    other["mobilenet_v2"]["graph_hash"] = "other"
    place.simulate(models=other)
    assert "graph_hash differ" in place("run", "--out", place.out, status=2)
    place.simulate()
    place("run", "--out", place.out)
    assert_complete(place, 1)


def test_another_allocator_is_refused_and_a_worse_one_is_told(place):
    """A host whose memory figures vary is named before it measures; rounds of both would not be repetitions."""
    place.simulate(versions={"torch": "simulated", "allocator": "pages"})
    assert "memory figures" not in place("run", "--out", place.out, "--rounds", 1)
    records = place.out / "records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:-3]))
    place.simulate(versions={"torch": "simulated", "allocator": "glibc (there is no C compiler)"})
    output = place("run", "--out", place.out, status=2)
    assert "edge: allocator: pages -> glibc (there is no C compiler)" in output
    run = json.loads((place.out / "run.json").read_text())
    for facts in run["hosts"].values():
        del facts["allocator"]  # as an older version left it
    (place.out / "run.json").write_text(json.dumps(run))
    output = place("run", "--out", place.out)
    why = "glibc keeps freed memory (there is no C compiler); install gcc and libc6-dev there"
    notice = f"memory figures vary by chance: {why}"
    assert output.count(notice) == 2
    assert f"edge: {notice}" in output
    assert_complete(place, 1)
    resumed = json.loads((place.out / "run.json").read_text())["resumed"]
    assert resumed[-1]["hosts"]["edge"]["allocator"] == "glibc (there is no C compiler)"


def test_a_simulated_run_is_never_continued_on_hosts(place, monkeypatch):
    place("run", "--out", place.out, "--rounds", 1)
    result = CliRunner().invoke(main, ["run", "--out", str(place.out)])
    assert result.exit_code == 2
    assert "was made on the simulated testbed" in result.output


def test_two_writers_on_one_directory(place):
    place.simulate(sleep_s=0.2)
    process = place.start("run", "--out", place.out, "--rounds", 2)
    try:
        place.wait_for_records(process, 3)
        output = place("run", "--out", place.out, "--rounds", 2, status=2)
        assert f"another pp-matrix (process {process.pid}) is writing here" in output
    finally:
        process.kill()
        process.communicate()


def test_fail_fast(place):
    place.simulate(failures=[{"cell": "mobilenet"}])
    place("run", "--out", place.out, "--fail-fast", status=1)
    assert len({record["cell"] for record in place.lines()}) == 1


def test_dry_run_measures_nothing_and_fits_100_columns(place):
    output = place("run", "--dry-run", "--profile", "lan", "--profile", "duress-200ms-5mbit", "--out", place.out)
    assert not place.out.exists()
    assert "16 cells x 3 rounds, about" in output
    row = next(line for line in output.splitlines() if line.startswith("P1 ") and "duress" in line)
    assert row.split()[:5] == ["P1", "features.0", "duress-200ms-5mbit", "1,2,4", "320.0"]
    assert max(map(len, output.splitlines())) <= 100


def test_disk_full_is_one_line_and_resumable(place):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    process = place.start("run", "--out", place.out, "--rounds", 2, preexec_fn=small_files)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 1, output
    assert "cannot write records.jsonl" in output
    assert "Traceback" not in output
    saved = place.lines()
    assert 0 < len(saved) < CELLS * 2 * 3
    place("run", "--out", place.out)
    assert place.lines()[: len(saved)] == saved
    assert_complete(place, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "P77"], "--split: split 'P77': mobilenet_v2 has no cut 'P77'"),
        (["--profile", "lann"], "--profile: unknown profile 'lann' (did you mean lan?)"),
        (["--model", "mobilenet"], "model mobilenet: unknown model 'mobilenet'"),
        (["--pipeline", "x"], "--pipeline: unknown pipeline 'x'"),
        (["--backend", "rcp"], "--backend: backends: unknown backend 'rcp' (did you mean rpc?); valid: socket, rpc"),
        (["--engine", "onnx"], "--engine: engines: unknown engine 'onnx'"),
        (["--streams", "0"], "--streams: streams: '0': valid: auto"),
        (["--rpc-route", "hub"], "go with --backend rpc"),
        (["--backend", "rpc", "--rpc-route", "ring"], "'ring' is not one of 'direct', 'hub'"),
        (
            ["--backend", "rpc", "--profile", "lan", "--profile", "duress-200ms-5mbit"],
            "--backend: backends: rpc cannot be measured under duress-200ms-5mbit on pipeline local",
        ),
        (["--backend", "rpc", "--rpc-route", "hub"], "--backend: backends: rpc-hub on pipeline local of two hosts"),
        (["--depth", "0"], "--depth: depths: '0'"),
        (["--inventory", "none.yml"], "none.yml: cannot read the inventory"),
        (["--spec", "none.yml"], "none.yml: cannot read the spec"),
        (["--weights", "none.pth"], "--weights: weights: no file none.pth"),
        (["--batches", "5", "--seconds", "1"], "either --batches or --seconds"),
        (["--simulate", "none.json"], "none.json: cannot read the simulation"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(place, arguments, words):
    output = place("run", "--out", place.out, *arguments, status=2)
    assert words in output
    assert not place.out.exists()


def test_spec_file_in_yaml_and_toml(place):
    (place.path / "a.yml").write_text("splits: 1:2\nrounds: 1\nbath_size: 8\n")
    assert "a.yml:3: bath_size: unknown key" in place("run", "--spec", "a.yml", status=2)
    (place.path / "a.toml").write_text('splits = "1:2"\nrounds = 1\n\n[window]\nbatches = 0\n')
    assert "a.toml:5: window.batches" in place("run", "--spec", "a.toml", status=2)
    (place.path / "a.toml").write_text('splits = "1:2"\nrounds = 5\n\n[window]\nbatches = 6\n')
    place("run", "--spec", "a.toml", "--rounds", 1, "--out", place.out)
    assert len(place.lines()) == 6
    assert {record["window_batches"] for record in place.lines()} == {6}


def test_profile(place):
    output = place("profile", "--batch-size", 1, "--out", place.path / "p.json")
    assert "edge ms" in output
    assert "classifier" in output
    written = json.loads((place.path / "p.json").read_text())
    assert written["testbed"] == "simulated"
    assert [row["name"] for row in written["models"][0]["blocks"]["edge"]] == [*NAMES, "classifier"]
    assert len(written["models"][0]["cuts"]) == CELLS


def test_no_results_is_told(place):
    for command in (["list"], ["show", "x"], ["rerun", "--failed"], ["list", "nowhere"]):
        assert "no results" in place(*command, status=2)
