"""Virtual hosts for the tests: sets of their own, beside whatever a person has on this machine."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
LOCK = Path("/run/lock/paretopipe-virtual-tests.lock")
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


class VirtualTestbed:
    """One set of virtual hosts: inventory/virtual.yml with other names, networks and paths.

    `directory` holds `inventory.yml` and profiles.yml; `prefix` begins all names, `third` is the third number of the
    control network's addresses (10.77.THIRD) and, plus one, of the data network's.
    """

    def __init__(self, directory: Path, prefix: str, third: int) -> None:
        self.directory = directory
        self.prefix = prefix
        self.state = Path(f"/var/lib/{prefix}-virtual")
        self.control, self.data = f"10.77.{third}", f"10.77.{third + 1}"
        self.inventory = directory / "inventory.yml"
        self._provisioned: subprocess.CompletedProcess[str] | None = None
        self._write_inventory()

    def _write_inventory(self) -> None:
        text = (REPOSITORY / "inventory/virtual.yml").read_text()
        for theirs, ours in (
            ("10.77.0.", f"{self.control}."),
            ("10.77.1.", f"{self.data}."),
            ("paretopipe-virtual", f"{self.prefix}-virtual"),
        ):
            assert theirs in text
            text = text.replace(theirs, ours)
        inventory = yaml.safe_load(text)
        self.variables: dict[str, dict[str, Any]] = inventory["all"]["children"]["virtual"]["hosts"]
        self.hosts = list(self.variables)
        inventory["all"]["vars"] |= {
            "virtual_host_prefix": self.prefix,
            "virtual_host_directory": str(self.state),
            "virtual_host_control_subnet": f"{self.control}.0/24",
            "virtual_host_data_subnet": f"{self.data}.0/24",
        }
        self.inventory.write_text(yaml.safe_dump(inventory, sort_keys=False))
        shutil.copy(REPOSITORY / "inventory/profiles.yml", self.directory)

    def ansible(self, playbook: str, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `playbooks/PLAYBOOK` on the set; the exit status is the caller's to check."""
        program = Path(sys.executable).with_name("ansible-playbook")
        return subprocess.run(
            [program, "-i", self.inventory, REPOSITORY / "playbooks" / playbook, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def create(self) -> dict[str, int]:
        """Make the hosts; returns how much changed, by host."""
        return changes(self.ansible("virtual.yml"))

    def destroy(self) -> dict[str, int]:
        """Remove the hosts; returns how much changed, by host."""
        return changes(self.ansible("virtual.yml", "-e", "virtual_host_state=absent"))

    def provision(self) -> subprocess.CompletedProcess[str]:
        """Run provision.yml, once per session; returns that run, which succeeded."""
        if self._provisioned is None:
            self._provisioned = self.ansible("provision.yml", timeout_s=900)
            changes(self._provisioned)
        return self._provisioned

    def ssh_command(self, host: str, key: Path | None = None, known_hosts: Path | None = None) -> list[str]:
        """The ssh command that logs in to a host, with the set's own key and known hosts or with others."""
        known = known_hosts or self.state / "known_hosts"
        return [
            *("ssh", "-F", "none", "-i", str(key or self.state / "id_ed25519"), "-o", f"UserKnownHostsFile={known}"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            *("-o", "ConnectTimeout=5", f"root@{self.variables[host]['ansible_host']}"),
        ]

    def ssh(self, host: str, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command, given as its words, on a host; the exit status is the caller's to check."""
        return subprocess.run(
            [*self.ssh_command(host), shlex.join(command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )


def changes(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How much a playbook changed, by host; the test fails where the playbook did."""
    assert run.returncode == 0, run.stdout + run.stderr
    recap = RECAP.findall(run.stdout)
    assert recap, run.stdout + run.stderr
    return {host: int(changed) for host, changed, _unreachable, _failed in recap}


@contextmanager
def own_set(directory: Path, prefix: str, third: int) -> Iterator[VirtualTestbed]:
    """A set that is not made yet, and is not there afterwards, whatever happened; one test run at a time."""
    if os.geteuid() != 0:
        pytest.fail("virtual hosts are network namespaces: run the system tests as root")
    with LOCK.with_suffix(f".{prefix}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        testbed = VirtualTestbed(directory, prefix, third)
        if testbed.state.exists():  # a killed run left it
            testbed.destroy()
        try:
            yield testbed
        finally:
            if testbed.state.exists():
                testbed.destroy()


@pytest.fixture(scope="session")
def virtual_testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualTestbed]:
    """Two running hosts, not provisioned (`provision()` does that) and for all tests: leave them as they were."""
    with own_set(tmp_path_factory.mktemp("virtual"), "ppt", 80) as testbed:
        testbed.create()
        yield testbed
