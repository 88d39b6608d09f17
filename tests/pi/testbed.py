"""The two hosts as a testbed: inventory and profiles, the playbook, pp-matrix."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pi.hosts import Host
from tests.pi.image import constraints
from tests.pi.network import control_address, data_address

ROOT = Path(__file__).parents[2]
PIPELINES = {"pi-to-x86": ["pi", "x86"], "x86-to-pi": ["x86", "pi"]}
PROFILE = "slow-40ms-20mbit"
PROFILES = f"""\
{PROFILE}:
  description: 40 ms and 20 Mbit/s on the first host's egress
  links:
    first-egress: {{delay: 40ms, rate: 20mbit}}
"""


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    status: int
    output: str


class Testbed:
    """The Pi and its neighbour, with what a user would write to use them."""

    __test__ = False  # not a test class, whatever its name says to pytest

    def __init__(self, directory: Path, key: Path, pi: Host, x86: Host, packages: Path) -> None:
        self.directory, self.key, self.pi, self.x86 = directory, key, pi, x86
        self.inventory = directory / "inventory.yml"
        pinned = directory / "constraints.txt"
        pinned.write_text(constraints((ROOT / "constraints.txt").read_text()))
        common = {"paretopipe_data_interface": "data0", "ansible_ssh_private_key_file": str(key)}
        common |= {"torch_constraints_file": str(pinned), "paretopipe_torch_flavour": "plain"}
        hosts = {host.name: common | self._login(host) for host in (pi, x86)}
        hosts["pi"] |= {"ansible_python_interpreter": "/usr/bin/python3"}
        hosts["x86"] |= {
            "ansible_python_interpreter": sys.executable,
            "paretopipe_manage_system": False,
            "paretopipe_root": str(directory / "x86" / "root"),
            "paretopipe_state_dir": "/run/pppi-x86/state",
            "paretopipe_shared_packages": str(packages),
        }
        self.inventory.write_text(
            json.dumps({"all": {"hosts": hosts, "vars": {"paretopipe_pipelines": PIPELINES}}}, indent=2)
        )
        (directory / "profiles.yml").write_text(PROFILES)

    def _login(self, host: Host) -> dict[str, Any]:
        return {
            "ansible_host": control_address(host.name),
            "ansible_user": host.user,
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={host.known_hosts}",
            "paretopipe_data_address": data_address(host.name),
        }

    @property
    def environment(self) -> dict[str, str]:
        """Ansible's settings: own directories, so that no ssh connection to the hosts of an earlier run is used."""
        own = {"ANSIBLE_LOCAL_TEMP": "ansible", "ANSIBLE_SSH_CONTROL_PATH_DIR": "cp"}
        return {"ANSIBLE_NOCOLOR": "1"} | {name: str(self.directory / where) for name, where in own.items()}

    def run(self, program: str, *arguments: str | Path, timeout_s: float) -> Done:
        """Run one of the checkout's programs from its root."""
        done = subprocess.run(
            [Path(sys.executable).with_name(program), *arguments],
            cwd=ROOT,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        return Done(done.returncode, done.stdout)

    def on_pi(self, script: str) -> str:
        """What a shell command line on the Pi prints; it must succeed."""
        return self.pi.ssh(self.key, script)

    def provision(self) -> tuple[Done, dict[str, int]]:
        """Run the repository's own provision.yml; returns how it ended and the changes per host."""
        done = self.run("ansible-playbook", "-i", self.inventory, "playbooks/provision.yml", timeout_s=1800)
        changes = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", done.output, re.MULTILINE)
        return done, {host: int(count) for host, count in changes}

    def matrix(self, pipeline: str, out: Path, *arguments: str) -> Done:
        """Run pp-matrix on a pipeline."""
        words = ["run", "--inventory", self.inventory, "--pipeline", pipeline, "--profile", PROFILE, "--out", out]
        return self.run("pp-matrix", *words, *arguments, timeout_s=1200)

    @property
    def profile(self) -> str:
        """The profile that the pipelines run under."""
        return PROFILE

    def network_status(self, host: str) -> str:
        """What pp-net on a host says."""
        if host == "pi":
            return self.on_pi("/opt/paretopipe/venv/bin/pp-net status")
        root = self.directory / "x86" / "root"
        return self.x86.ssh(self.key, f"{root}/venv/bin/pp-net status --state-dir /run/pppi-x86/state")
