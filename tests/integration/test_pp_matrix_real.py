"""The real command on real agents: resume after SIGKILL, Ctrl-C, a worker killed under a cell, rerun."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from paretopipe_runtime.results import read_lines

SPEC = """\
models: [squeezenet1_1]
splits: "3, 5, 7, N"
batch_sizes: [1]
depths: [1, 2]
rounds: 2
input: synthetic:64
window: {batches: 40, min_batches: 1}
"""
INVENTORY = Path(__file__).resolve().parents[2] / "inventory" / "local.yml"
EXPECTED = 4 * 2 * 2


def command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("pp-matrix")), *map(str, arguments)]


def start(out: Path, spec: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", "--spec", spec, "--inventory", INVENTORY, "--out", out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def keys(out: Path) -> list[tuple[str, int, int]]:
    return [(record["cell"], record["round"], record["depth"]) for record in read_lines(out / "records.jsonl")]


def wait_for_records(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 90
    while len(keys(out)) < count:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline_s, "the run did not get that far"
        time.sleep(0.02)


def hosts_of(out: Path) -> list[int]:
    """Pids of the agents and workers that run.json names."""
    hosts = json.loads((out / "run.json").read_text())["hosts"].values()
    return [facts[key] for facts in hosts for key in ("agent_pid", "worker_pid")]


def gone(pids: list[int]) -> bool:
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=15)
    return not alive


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yml"
    path.write_text(SPEC)
    return path


def test_sigkill_at_a_random_moment_then_resume(tmp_path: Path, spec: Path) -> None:
    out = tmp_path / "run"
    process = start(out, spec)
    wait_for_records(out, 2, process)
    time.sleep(random.uniform(0, 2))
    process.kill()
    process.communicate()
    before = keys(out)
    assert gone(hosts_of(out)), "agents or workers outlived their controller"
    finished = subprocess.run(command("run", "--out", out), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    after = keys(out)
    assert after[: len(before)] == before, "a finished round was lost"
    assert set(Counter(after).values()) == {1}, "a finished round was repeated"
    assert len(after) == EXPECTED


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, spec: Path) -> None:
    out = tmp_path / "run"
    process = start(out, spec)
    wait_for_records(out, 2, process)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"pp-matrix run --out {out}" in printed + said
    assert "Traceback" not in said
    assert gone(hosts_of(out))
    assert all(record["status"] == "ok" for record in read_lines(out / "records.jsonl"))


def test_a_worker_killed_under_a_cell_fails_that_cell_and_rerun_runs_it_only(tmp_path: Path, spec: Path) -> None:
    out = tmp_path / "run"
    process = start(out, spec)
    wait_for_records(out, 2, process)
    os.kill(json.loads((out / "run.json").read_text())["hosts"]["edge"]["worker_pid"], signal.SIGKILL)
    printed, said = process.communicate(timeout=180)
    assert process.returncode == 1, said
    assert f"pp-matrix rerun {out} --failed" in printed
    records = read_lines(out / "records.jsonl")
    failed = [record for record in records if record["status"] == "failed"]
    assert failed
    assert len({(record["cell"], record["round"]) for record in failed}) == 1
    assert failed[0]["error"]["kind"] == "worker-killed"
    assert len(records) == EXPECTED, "the other cells went on"

    resumed = subprocess.run(command("run", "--out", out), capture_output=True, text=True, check=False)
    assert resumed.returncode == 1, "a failed cell stays failed until rerun"
    assert len(keys(out)) == EXPECTED

    again = subprocess.run(command("rerun", out, "--failed"), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    added = keys(out)[EXPECTED:]
    # On a busy machine another record may have been invalid; that one is measured again, too.
    wanted = sorted((r["cell"], r["round"], r["depth"]) for r in records if not r["valid"])
    assert sorted(added) == wanted


def test_profile_prints_blocks_of_every_host(tmp_path: Path) -> None:
    done = subprocess.run(
        command("profile", "--model", "squeezenet1_1", "--batch-size", 1, "--inventory", INVENTORY),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "features.3" in done.stdout
    assert "server" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
