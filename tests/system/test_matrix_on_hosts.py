"""pp-matrix on hosts of their own: over ssh, through the shaped data link, and whatever happens it is put back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml

from paretopipe_runtime.results import load_run, read_lines
from tests.system.conftest import REPOSITORY, VirtualTestbed

SMALL = ("--model", "squeezenet1_1", "--input", "synthetic:64", "--batch-size", "1", "--depth", "1", "--batches", "5")
SHORT_LEASE = {"PARETOPIPE_LEASE_S": "15"}
"""How long hosts stay shaped without word from their controller; by default it is a minute."""
CLEAN_WITHIN_S = 60.0


class Matrix:
    """pp-matrix on the provisioned hosts, and what it left in `out`."""

    def __init__(self, testbed: VirtualTestbed, out: Path) -> None:
        self.testbed, self.out, self.inventory = testbed, out, testbed.inventory

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        program = Path(sys.executable).with_name("pp-matrix")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([program, *arguments], cwd=REPOSITORY, env=os.environ | environment, **pipes)

    def run(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        own = ("run", "--inventory", str(self.inventory), *SMALL, *arguments, "--out", str(self.out))
        return self.start(*own, **environment)

    def finish(self, process: subprocess.Popen[str], status: int = 0, within_s: float = 180) -> str:
        try:
            output = process.communicate(timeout=within_s)[0]
        finally:
            process.kill()
        assert process.returncode == status, output
        return output

    def records(self) -> list[dict[str, Any]]:
        return load_run(self.out).records

    def lines(self) -> list[dict[str, Any]]:
        return read_lines(self.out / "records.jsonl")

    def run_json(self) -> dict[str, Any]:
        return json.loads((self.out / "run.json").read_text())

    def wait(self, process: subprocess.Popen[str], ready: Callable[[], bool], within_s: float = 90) -> None:
        end = time.monotonic() + within_s
        while not ready():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.05)

    def shaped(self, host: str) -> dict[str, Any] | None:
        variables = self.testbed.variables[host]
        root, state = (f"/{place}/ppt-virtual/{host}" for place in ("opt", "run"))
        assert variables["paretopipe_data_address"]
        answer = self.testbed.ssh(host, f"{root}/venv/bin/pp-net", "status", "--state-dir", state)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)["active"]

    def clean(self) -> bool:
        return all(self.shaped(host) is None for host in self.testbed.hosts)

    def data_bytes(self, host: str) -> dict[str, int]:
        answer = self.testbed.ssh(host, "ip", "-s", "-j", "link", "show", "data0")
        counters = json.loads(answer.stdout)[0]["stats64"]
        return {"sent": counters["tx"]["bytes"], "received": counters["rx"]["bytes"]}


@pytest.fixture
def matrix(virtual_testbed: VirtualTestbed, tmp_path: Path) -> Iterator[Matrix]:
    virtual_testbed.provision()
    made = Matrix(virtual_testbed, tmp_path / "results")
    yield made
    virtual_testbed.ansible("network.yml", "-e", "network_profile_state=restored")
    assert made.clean()


def test_both_profiles_and_backends_measured_over_the_data_link(matrix: Matrix) -> None:
    before = {host: matrix.data_bytes(host) for host in ("pi1", "pi2")}
    profiles = ("--profile", "lan", "--profile", "duress-200ms-5mbit")
    backends = ("--backend", "socket", "--backend", "rpc")
    # With a lease that is shorter than the profile lasts: without being renewed, it would be gone in between.
    output = matrix.finish(matrix.run("--split", "6", *backends, *profiles, "--rounds", "2", **SHORT_LEASE))
    after = {host: matrix.data_bytes(host) for host in ("pi1", "pi2")}
    assert "4 cells: 4 ok" in output
    records = matrix.records()
    assert {(r["status"], r["valid"]) for r in records} == {("ok", True)}, records
    shapers = {(r["profile"], r["shaper"]) for r in records}
    assert shapers in ({("lan", "none"), ("duress-200ms-5mbit", who)} for who in ("tc", "wirefilter"))
    shaped = [r for r in records if r["profile"] != "lan"]
    assert all(abs(r["rtt_s"] - 0.2) <= 0.01 and abs(r["bandwidth_bit_s"] - 5e6) <= 5e5 for r in shaped)
    assert min(r["latency_s"] for r in shaped) > 0.2 > max(r["latency_s"] for r in records if r["profile"] == "lan")
    # What the kernel counted on pi1's data interface within each window says the same of either backend.
    assert {r["transport"]["name"] for r in records} == {"socket", "rpc"}
    sent = [(r["stages"][0]["tx_bytes"], r["bytes_per_batch"] * (r["window_batches"] - 1)) for r in records]
    assert all(0.9 * least <= tx <= 3 * least for tx, least in sent), sent
    # The activations of all batches, warm-ups included, went from pi1 to pi2 over the data link.
    carried = sum(r["bytes_per_batch"] * (r["window_batches"] + r["warmup_batches"]) for r in records)
    assert after["pi1"]["sent"] - before["pi1"]["sent"] >= carried
    assert after["pi2"]["received"] - before["pi2"]["received"] >= carried
    run = matrix.run_json()
    assert {"hostname", "torch", "cpu_model", "boot_id"} <= run["hosts"]["pi2"].keys()
    assert run["hosts"]["pi1"]["cpus"] == [0]
    # Set once, put back once, logs fetched once: per profile group, not per cell or round.
    assert [call["playbook"] for call in run["ansible"]] == ["network.yml", "network.yml", "collect.yml"]
    probes = read_lines(matrix.out / "probes.jsonl")
    assert len(probes) == 8
    assert all(p["network"]["pi1"]["statistics"] for p in probes if p["profile"] != "lan")
    assert (matrix.out / "logs" / "pi2" / "host.json").is_file()
    assert matrix.clean()


def test_the_cost_of_a_cell_over_ssh_is_milliseconds(matrix: Matrix) -> None:
    matrix.finish(matrix.run("--split", "1:9", "--rounds", "2"))
    records = sorted(matrix.records(), key=lambda r: r["started_at"])
    starts = [datetime.fromisoformat(r["started_at"]) for r in records]
    costs_s = [
        (later - earlier).total_seconds() - record["warmup_s"] - record["window_s"]
        for record, earlier, later in zip(records, starts, starts[1:], strict=False)
        if record["round"] == records[records.index(record) + 1]["round"]
    ]
    assert len(costs_s) >= 10
    assert median(costs_s) < 0.3, costs_s


def test_a_killed_worker_fails_its_cell_which_is_rerun_alone(matrix: Matrix) -> None:
    process = matrix.run("--split", "3,6", "--rounds", "1", "--batches", "300")
    matrix.wait(process, lambda: (matrix.out / "run.json").exists())
    time.sleep(1.0)
    worker = matrix.run_json()["hosts"]["pi2"]["worker_pid"]
    assert matrix.testbed.ssh("pi2", "kill", "-9", str(worker)).returncode == 0
    output = matrix.finish(process, status=1)
    failed = [r for r in matrix.records() if r["status"] == "failed"]
    assert len(failed) == 1, output
    assert (failed[0]["error"]["kind"], failed[0]["error"]["host"]) == ("worker-killed", "pi2")
    count = len(matrix.lines())
    again = matrix.start("rerun", str(matrix.out), "--cell", failed[0]["cell"])
    matrix.finish(again)
    assert [r["cell"] for r in matrix.lines()[count:]] == [failed[0]["cell"]]
    assert {r["status"] for r in matrix.records()} == {"ok"}


def test_ctrl_c_saves_and_leaves_nothing_shaped(matrix: Matrix) -> None:
    process = matrix.run("--split", "3", "--profile", "duress-200ms-5mbit", "--rounds", "50")
    matrix.wait(process, lambda: bool((matrix.out / "run.json").exists() and matrix.lines()))
    assert matrix.shaped("pi1") is not None
    process.send_signal(signal.SIGINT)
    output = matrix.finish(process, status=130, within_s=60)
    assert "finished cells are saved" in output
    assert matrix.clean()
    assert {r["status"] for r in matrix.records()} == {"ok"}


def test_after_sigkill_of_the_controller_the_hosts_restore_themselves(matrix: Matrix) -> None:
    shaped = ("--profile", "duress-200ms-5mbit", "--rounds", "50")
    process = matrix.run("--split", "3", *shaped, **SHORT_LEASE)
    matrix.wait(process, lambda: bool((matrix.out / "run.json").exists() and matrix.lines()))
    assert matrix.shaped("pi1") is not None
    process.kill()
    killed = time.monotonic()
    process.communicate()
    while not matrix.clean():
        assert time.monotonic() - killed < CLEAN_WITHIN_S
        time.sleep(1.0)
    ping = matrix.testbed.ssh(
        "pi1", "ping", "-c", "3", "-q", matrix.testbed.variables["pi2"]["paretopipe_data_address"]
    )
    assert float(ping.stdout.rsplit("=", 1)[1].split("/")[1]) < 20, ping.stdout


@pytest.fixture
def with_a_dead_host(matrix: Matrix, tmp_path: Path) -> Matrix:
    """A third host that nobody answers for, in a pipeline of its own."""
    inventory = yaml.safe_load(matrix.inventory.read_text())
    control, data = matrix.testbed.control, matrix.testbed.data
    dead = {"ansible_host": f"{control}.99", "paretopipe_data_address": f"{data}.99", "paretopipe_cpus": [1]}
    inventory["all"]["children"]["virtual"]["hosts"]["pi3"] = dead
    inventory["all"]["vars"]["paretopipe_pipelines"] |= {"pi-to-dead": ["pi1", "pi3"]}
    matrix.inventory = tmp_path / "inventory.yml"
    matrix.inventory.write_text(yaml.safe_dump(inventory, sort_keys=False))
    (tmp_path / "profiles.yml").write_text((REPOSITORY / "inventory/profiles.yml").read_text())
    return matrix


def test_an_unreachable_host_fails_its_cells_and_no_others(with_a_dead_host: Matrix) -> None:
    matrix = with_a_dead_host
    pipelines = ("--pipeline", "pi-to-pi", "--pipeline", "pi-to-dead")
    output = matrix.finish(matrix.run(*pipelines, "--split", "3", "--rounds", "1"), status=1)
    assert {(r["pipeline"], r["status"]) for r in matrix.records()} == {("pi-to-pi", "ok"), ("pi-to-dead", "failed")}
    error = next(r["error"] for r in matrix.records() if r["status"] == "failed")
    assert (error["kind"], error["host"]) == ("unreachable", "pi3")
    assert error["remedy"]
    assert "pi3: " in output
    assert "Traceback" not in output


def test_only_a_dead_host_is_one_line_and_records_nothing(with_a_dead_host: Matrix) -> None:
    output = with_a_dead_host.finish(with_a_dead_host.run("--pipeline", "pi-to-dead", "--split", "3"), status=2)
    assert "pi3" in output
    assert "Traceback" not in output
    assert not (with_a_dead_host.out / "records.jsonl").exists()


@contextmanager
def _control_link_down(testbed: VirtualTestbed, host: str) -> Iterator[None]:
    namespace = f"{testbed.prefix}-{host}"
    subprocess.run(["ip", "-n", namespace, "link", "set", "ctl0", "down"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "-n", namespace, "link", "set", "ctl0", "up"], check=True)


def test_a_host_that_vanishes_mid_run_fails_its_cells_until_it_is_back(matrix: Matrix) -> None:
    process = matrix.run("--split", "3,6", "--rounds", "2", "--batches", "100000")
    matrix.wait(process, lambda: (matrix.out / "run.json").exists())
    time.sleep(1.0)
    with _control_link_down(matrix.testbed, "pi2"):
        output = matrix.finish(process, status=1, within_s=90)
    assert "Traceback" not in output
    errors = {(r["error"]["kind"], r["error"]["host"]) for r in matrix.records() if r["status"] == "failed"}
    assert ("agent-gone", "pi2") in errors, errors
    deadline = time.monotonic() + 60
    while matrix.testbed.ssh("pi2", "true").returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(1.0)
