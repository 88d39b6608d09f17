"""Provisioning against real hosts: it converges, `--check` changes nothing, and teardown removes what is ours alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.conftest import VirtualTestbed

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SECOND_CONVERGE_S = 50.0
"""Twice what it takes on an idle machine of two cores, which is 25 s at the most."""

Result = subprocess.CompletedProcess[str]


def playbook(path: str, *arguments: str) -> Result:
    """Run a playbook as a person does, from the repository's root with the repository's configuration."""
    return subprocess.run(
        [str(BIN / "ansible-playbook"), path, *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def said(result: Result) -> str:
    """All of the output, its folded lines unfolded."""
    return " ".join((result.stdout + result.stderr).split())


def recap(result: Result) -> dict[str, dict[str, int]]:
    """Host -> column -> count."""
    lines = re.findall(r"^(\S+)\s+: (ok=.*)$", result.stdout, re.MULTILINE)
    counts = {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", columns)} for host, columns in lines}
    assert counts, result.stdout + result.stderr
    return counts


def changes(result: Result) -> int:
    """Changes over all hosts of a playbook that succeeded."""
    assert result.returncode == 0, result.stdout + result.stderr
    return sum(columns["changed"] for columns in recap(result).values())


def own_root(folder: Path) -> tuple[str, ...]:
    """Arguments that give every host a directory of its own under `folder`, as if it had never been provisioned."""
    values = {
        "paretopipe_root": f"{folder}/{{{{ inventory_hostname }}}}/paretopipe",
        "paretopipe_state_dir": f"{folder}/{{{{ inventory_hostname }}}}/state",
    }
    return ("-e", json.dumps(values))


# Local hosts -------------------------------------------------------------------------------------------------


def test_local_hosts_need_no_root_and_get_nothing_installed() -> None:
    result = playbook("provision.yml")
    assert changes(result) == 0
    assert set(recap(result)) == {"edge", "server"}
    assert said(result).count('"conv_s"') == 2


# Before any host is touched ----------------------------------------------------------------------------------


def test_mistakes_are_named_before_any_host_is_touched(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(
        """\
all:
  hosts:
    pi1:
      ansible_host: 192.0.2.1
      paretopipe_data_address: 10.0.1.300
      paretopipe_thread: 2
    pi2:
      ansible_host: 192.0.2.2
      paretopipe_data_address: 10.0.1.12
      paretopipe_root: "{{ nowhere }}/paretopipe"
  vars:
    ansible_user: pi
    paretopipe_data_interface: eth0
    paretopipe_pipelines: {pi-to-pi: [pi1, pi3]}
"""
    )
    result = playbook("playbooks/provision.yml", "-i", str(inventory))
    assert result.returncode == 2
    words = said(result)
    for problem in (
        f"paretopipe_data_address: '10.0.1.300': must be an IP address of the data network, such as 10.0.1.11 "
        f"(set in {inventory}:5)",
        f"paretopipe_thread: unknown variable (did you mean paretopipe_threads?) (set in {inventory}:6)",
        f"paretopipe_root: 'nowhere' is undefined (set in {inventory}:10)",
        "paretopipe_pipelines: pi-to-pi: unknown host 'pi3' (did you mean pi",
    ):
        assert problem in words
    assert words.count("unknown host 'pi3'") == words.count("paretopipe_thread: unknown variable"), "told once"
    assert "UNREACHABLE" not in words
    assert "Provision the hosts" not in words


@pytest.mark.parametrize("name", ["local", "virtual", "testbed.example"])
def test_shipped_inventories_pass(name: str, tmp_path: Path) -> None:
    """Beside what is not there yet: the virtual hosts' keys."""
    shutil.copytree(ROOT / "inventory", tmp_path / "inventory")
    path = tmp_path / "inventory" / f"{name}.yml"
    path.write_text(path.read_text().replace("/var/lib/paretopipe-virtual", str(tmp_path)))
    for key in ("id_ed25519", "known_hosts"):
        (tmp_path / key).touch()
    result = playbook("playbooks/provision.yml", "-i", str(path), "--tags", "preflight")
    assert changes(result) == 0


# Hosts over ssh ----------------------------------------------------------------------------------------------


def test_check_on_hosts_that_were_never_provisioned(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    result = virtual_testbed.ansible("provision.yml", "--check", *own_root(tmp_path))
    assert changes(result) > 0, "it says that there is something to do"
    assert list(tmp_path.iterdir()) == [], "and does nothing"
    for other in ("network.yml", "teardown.yml"):
        assert changes(virtual_testbed.ansible(other, "--check", *own_root(tmp_path))) == 0


def test_converge_twice(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    """A second run changes nothing; a changed file of the checkout reaches the hosts, and nothing else does."""
    assert '"extras": {"onnxruntime": ["onnx", "onnxruntime"]}' in said(virtual_testbed.provision())
    checkout = tmp_path / "checkout"
    for name in ("paretopipe_runtime", "paretopipe_matrix", "analysis"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    build = {"runtime_checkout": str(checkout), "runtime_build_directory": str(tmp_path / "wheels")}
    arguments = ("provision.yml", "-e", json.dumps(build))
    virtual_testbed.ansible(*arguments, "--tags", "runtime")
    try:
        started_s = time.monotonic()
        assert changes(virtual_testbed.ansible(*arguments)) == 0
        assert time.monotonic() - started_s <= SECOND_CONVERGE_S
        assert changes(virtual_testbed.ansible(*arguments, "--check")) == 0

        (checkout / "paretopipe_runtime" / "new_module.py").write_text("ANSWER = 42\n")
        result = virtual_testbed.ansible(*arguments, "--tags", "runtime")
        assert changes(result) == 2 * len(virtual_testbed.hosts), "the wheel was copied and installed"
        program = "import paretopipe_runtime.new_module as new; print(new.ANSWER)"
        for host in virtual_testbed.hosts:
            answer = virtual_testbed.ssh(host, python_of(virtual_testbed, host), "-c", program)
            assert answer.stdout.strip() == "42", answer.stderr
    finally:
        virtual_testbed.ansible("provision.yml", "--tags", "runtime")


def python_of(testbed: VirtualTestbed, host: str) -> str:
    """The Python of a host's virtual environment."""
    listed = subprocess.run(
        [str(BIN / "ansible-inventory"), "-i", str(testbed.inventory), "--host", host],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(listed.stdout)["paretopipe_root"].replace("{{ inventory_hostname }}", host) + "/venv/bin/python"


def test_a_dead_host_does_not_stop_the_others(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    more = tmp_path / "more.yml"
    more.write_text("all: {hosts: {gone: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n")
    result = virtual_testbed.ansible("provision.yml", "-i", str(more), "--tags", "base", *own_root(tmp_path))
    counts = recap(result)
    assert counts.pop("gone")["unreachable"] == 1
    assert all(columns["failed"] == columns["unreachable"] == 0 for columns in counts.values())
    assert (tmp_path / virtual_testbed.hosts[0] / "paretopipe" / ".paretopipe-root").is_file()
    assert result.returncode == 4


def test_too_little_room_is_told_before_anything_is_fetched(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    values = {"torch_free_bytes": 10**18, "paretopipe_shared_packages": ""}
    result = virtual_testbed.ansible("provision.yml", *own_root(tmp_path), "-e", json.dumps(values))
    assert result.returncode == 2
    assert re.search(r"has [\d.]+ GB free, torch \(\w+\) needs 1000000000.0 GB; make room", said(result))


def test_an_extra_that_there_is_not(virtual_testbed: VirtualTestbed) -> None:
    values = json.dumps({"paretopipe_extras": ["onnxruntime", "tensorrt"]})
    only = ("--tags", "runtime", "--limit", virtual_testbed.hosts[0])
    result = virtual_testbed.ansible("provision.yml", *only, "-e", values)
    assert result.returncode == 2
    assert "paretopipe_extras: no extra tensorrt; pyproject.toml has: controller, onnxruntime, dev" in said(result)


def test_teardown_removes_what_is_ours(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    own = own_root(tmp_path)
    assert changes(virtual_testbed.ansible("provision.yml", "--tags", "base", *own)) > 0
    first, *others = virtual_testbed.hosts
    neighbour = tmp_path / first / "thesis.tex"
    neighbour.write_text("years of work")
    assert changes(virtual_testbed.ansible("teardown.yml", "--check", *own)) > 0
    assert (tmp_path / first / "paretopipe").is_dir()
    assert changes(virtual_testbed.ansible("teardown.yml", *own)) == len(virtual_testbed.hosts)
    assert [path.name for path in (tmp_path / first).iterdir()] == ["thesis.tex"]
    assert all(list((tmp_path / other).iterdir()) == [] for other in others)
    assert changes(virtual_testbed.ansible("teardown.yml", *own)) == 0


def test_a_directory_of_somebody_else_is_left_alone(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    own = own_root(tmp_path)
    first = virtual_testbed.hosts[0]
    theirs = tmp_path / first / "paretopipe" / "thesis.tex"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years of work")
    refused = virtual_testbed.ansible("provision.yml", "--tags", "base", "--limit", first, *own)
    assert refused.returncode == 2
    assert "holds other files and was not made by ParetoPipe" in said(refused)
    left = virtual_testbed.ansible("teardown.yml", "--limit", first, *own)
    assert left.returncode == 2
    assert "was not made by ParetoPipe (no .paretopipe-root in it)" in said(left)
    assert theirs.read_text() == "years of work"


def test_a_profile_that_is_not_declared(virtual_testbed: VirtualTestbed) -> None:
    result = virtual_testbed.ansible("network.yml", "-e", "network_profile_name=duress")
    assert result.returncode == 2
    assert "unknown profile duress" in said(result)
    assert "duress-200ms-5mbit" in said(result), "those that are declared are named"


def test_collect_fetches_logs_and_what_the_host_knows(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    own = own_root(tmp_path / "hosts")
    virtual_testbed.ansible("provision.yml", "--tags", "base", *own)
    first = virtual_testbed.hosts[0]
    (tmp_path / "hosts" / first / "paretopipe" / "logs" / "worker.log").write_text("a line\n")
    values = {"collect_directory": str(tmp_path / "fetched")}
    result = virtual_testbed.ansible("collect.yml", *own, "-e", json.dumps(values))
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "fetched" / first / "logs" / "worker.log").read_text() == "a line\n"
    for host in virtual_testbed.hosts:
        folder = tmp_path / "fetched" / host
        assert {path.name for path in folder.iterdir()} == {"host.json", "logs"}, "no archive is left"
        known = json.loads((folder / "host.json").read_text())
        assert known["system"]["stdout"].startswith("Linux ")
        assert {"data0"} <= {link["ifname"] for link in json.loads(known["addresses"]["stdout"])}
        assert known["throttled"]["status"] is None, "no Raspberry Pi here, and it says so"
