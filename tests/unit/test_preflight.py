"""The inventory's check: each mistake a user can make is named, with what may be written instead."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paretopipe_matrix.choices import ENGINES
from paretopipe_matrix.hosts.inventory import _VARIABLES

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location(
    "preflight", ROOT / "roles" / "preflight" / "filter_plugins" / "preflight.py"
)
assert SPEC is not None
assert SPEC.loader is not None
preflight = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(preflight)

CONSTRAINTS = "torch==2.14.1\ntorchvision==0.29.1\n"
HostVars = dict[str, dict[str, Any]]


def two_hosts() -> HostVars:
    """Two hosts as they should be."""
    common = {
        "ansible_user": "pi",
        "paretopipe_data_interface": "eth0",
        "paretopipe_pipelines": {"pi-to-pi": ["pi1", "pi2"]},
    }
    return {
        "pi1": {**common, "paretopipe_data_address": "10.0.1.11"},
        "pi2": {**common, "paretopipe_data_address": "10.0.1.12"},
    }


def problems(hostvars: HostVars, host: str = "pi1", *, pipelines: bool = True) -> list[str]:
    found: list[str] = preflight.preflight_problems(hostvars, host, list(hostvars), CONSTRAINTS, pipelines=pipelines)
    return found


def test_the_controller_and_the_check_know_the_same_names() -> None:
    assert preflight.ENGINES == ENGINES
    assert set(preflight.OURS) == set(_VARIABLES)


def test_a_good_inventory_has_no_problem() -> None:
    hostvars = two_hosts()
    hostvars["pi1"] |= {
        "ansible_connection": "ssh",
        "ansible_host": "pi1.local",
        "ansible_port": "22",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={__file__} -o StrictHostKeyChecking=yes -J gate",
        "ansible_ssh_private_key_file": __file__,
        "paretopipe_cpus": [0, 2],
        "paretopipe_data_port": 0,
        "paretopipe_device": "cuda:1",
        "paretopipe_engine": "onnxruntime",
        "paretopipe_extras": ["onnxruntime"],
        "paretopipe_manage_system": True,
        "paretopipe_root": "/opt/paretopipe",
        "paretopipe_shared_packages": "",
        "paretopipe_state_dir": "/run/paretopipe",
        "paretopipe_threads": "auto",
        "paretopipe_torch_flavour": "cpu",
        "paretopipe_wheel_dir": "",
    }
    assert problems(hostvars) == []
    assert problems(hostvars, "pi2") == []


def test_the_default_of_local_hosts_needs_no_network() -> None:
    local = {
        "ansible_connection": "local",
        "paretopipe_data_address": "127.0.0.1",
        "paretopipe_pipelines": {"local": ["edge", "server"]},
    }
    assert problems({"edge": dict(local), "server": dict(local)}, "edge") == []


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("paretopipe_data_address", "10.0.1.300", "'10.0.1.300': must be an IP address"),
        ("paretopipe_data_address", None, "must be an IP address"),
        ("paretopipe_data_address", "0.0.0.0", "cannot be an address of one host"),
        ("paretopipe_data_address", "127.0.0.1", "is a loopback address; pipeline pi-to-pi"),
        ("paretopipe_data_address", "10.0.1.12", "10.0.1.12 is also that of pi2"),
        ("paretopipe_data_interface", "a-name-that-is-too-long", "must be the name of a network interface"),
        ("paretopipe_data_port", "5000", "must be a port from 1 to 65535, or 0"),
        ("paretopipe_data_port", 70000, "must be a port from 1 to 65535, or 0"),
        ("paretopipe_cpus", 1, "must be auto or a list of cores"),
        ("paretopipe_cpus", ["a"], "must be auto or a list of cores"),
        ("paretopipe_cpus", [], "must be auto or a list of cores"),
        ("paretopipe_threads", 0, "must be auto or a whole number from 1"),
        ("paretopipe_threads", True, "must be auto or a whole number from 1"),
        ("paretopipe_device", "tpu", "valid: cpu, cuda, cuda:1"),
        ("paretopipe_device", "cuda:x", "valid: cpu, cuda, cuda:1"),
        ("paretopipe_engine", "fast", "valid: eager, fused, onnxruntime, compiled, best"),
        ("paretopipe_extras", "onnxruntime", "must be a list of optional groups"),
        ("paretopipe_extras", ["onnx runtime"], "must be a list of optional groups"),
        ("paretopipe_torch_flavour", "gpu", "valid: plain, cpu, cuda"),
        ("paretopipe_manage_system", "false", "must be true or false (on the command line as JSON"),
        ("paretopipe_root", "opt/paretopipe", "must be an absolute path"),
        ("paretopipe_root", "/opt/pareto pipe", "must be an absolute path"),
        ("paretopipe_root", "/opt/../etc/x", "must be an absolute path"),
        ("paretopipe_root", "/home", "must be a directory of its own"),
        ("paretopipe_state_dir", "/run", "must be a directory of its own"),
        ("paretopipe_shared_packages", "/usr/lib/python3", "/lib/python3.X/site-packages"),
        ("paretopipe_python", 3, "must be text"),
        ("paretopipe_thread", 2, "unknown variable (did you mean paretopipe_threads?)"),
        ("ansible_connection", "docker", "valid: ssh, local"),
        ("ansible_host", "", "must be text"),
        ("ansible_port", 0, "must be a port from 1 to 65535"),
        ("ansible_ssh_private_key_file", "/no/such/key", "does not exist on this machine"),
        ("ansible_ssh_common_args", "-o StrictHostKeyChecking=no", "switches the check of host keys off"),
        ("ansible_ssh_extra_args", "-o stricthostkeychecking=accept-new", "switches the check of host keys off"),
        ("ansible_ssh_common_args", "-o UserKnownHostsFile=/dev/null", "throws host keys away"),
        ("ansible_ssh_common_args", "-o UserKnownHostsFile=/no/such", "UserKnownHostsFile /no/such does not exist"),
        ("ansible_ssh_common_args", "-o 'UserKnownHostsFile", "cannot be split into words"),
    ],
)
def test_a_mistake_is_named(variable: str, value: object, words: str) -> None:
    hostvars = two_hosts()
    hostvars["pi1"][variable] = value
    found = problems(hostvars)
    assert len(found) == 1, found
    assert found[0].startswith(variable)
    assert words in found[0]


def test_a_password_is_refused_and_not_shown() -> None:
    hostvars = two_hosts()
    hostvars["pi1"]["ansible_password"] = "hunter2"
    assert problems(hostvars) == [
        "ansible_password: passwords are not used; give the user a key (ssh-copy-id), or use ssh-agent"
    ]


def test_all_problems_of_a_host_come_together() -> None:
    hostvars = two_hosts()
    hostvars["pi1"] |= {"paretopipe_threads": -1, "paretopipe_cpus": "all", "paretopipe_colour": "blue"}
    assert [line.split(":")[0] for line in problems(hostvars)] == [
        "paretopipe_colour",
        "paretopipe_cpus",
        "paretopipe_threads",
    ]
    assert problems(hostvars, "pi2") == [], "another host's problems are its own"


@pytest.mark.parametrize("variable", ["paretopipe_data_address", "paretopipe_data_interface"])
def test_what_a_pipeline_needs_must_be_there(variable: str) -> None:
    hostvars = two_hosts()
    del hostvars["pi1"][variable]
    (found,) = problems(hostvars)
    assert f"{variable} is missing" in found


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"p": ["pi1", "pi3"]}, "p: unknown host 'pi3' (did you mean pi1?); the inventory has: pi1, pi2"),
        ({"p": ["pi1"]}, "p: needs at least two hosts"),
        ({"p": ["pi1", "pi1"]}, "p: names 'pi1' twice"),
        ({"p": "pi1"}, "p: must be a list of hosts"),
        ({}, "must map names to lists of hosts"),
        (["pi1", "pi2"], "must map names to lists of hosts"),
    ],
)
def test_pipelines(value: object, words: str) -> None:
    hostvars = two_hosts()
    for variables in hostvars.values():
        variables["paretopipe_pipelines"] = value
    (found,) = problems(hostvars)
    assert words.replace("pi1?", found.split("mean ")[1].split("?")[0] + "?" if "mean" in found else "") in found
    assert problems(hostvars, "pi2", pipelines=False) == [], "one host is asked for the inventory's problems"


def test_missing_pipelines() -> None:
    hostvars = two_hosts()
    for variables in hostvars.values():
        del variables["paretopipe_pipelines"]
    (found,) = problems(hostvars)
    assert "paretopipe_pipelines is missing" in found


def test_wheel_directory_must_hold_what_is_pinned(tmp_path: Path) -> None:
    hostvars = two_hosts()
    check: Callable[[], list[str]] = lambda: problems(hostvars)  # noqa: E731
    hostvars["pi1"]["paretopipe_wheel_dir"] = str(tmp_path / "none")
    assert "is no directory on this machine" in check()[0]
    hostvars["pi1"]["paretopipe_wheel_dir"] = str(tmp_path)
    (tmp_path / "torch-2.13.0-cp311-cp311-manylinux_2_28_aarch64.whl").touch()
    assert "holds no torch-2.14.1*.whl" in check()[0]
    (tmp_path / "torch-2.14.1+cpu-cp311-cp311-manylinux_2_28_aarch64.whl").touch()
    assert "holds no torchvision-0.29.1*.whl" in check()[0]
    (tmp_path / "torchvision-0.29.1-cp311-cp311-manylinux_2_28_aarch64.whl").touch()
    assert check() == []
