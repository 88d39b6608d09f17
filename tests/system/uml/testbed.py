"""The guests as a testbed: their inventory, the playbook run on them, and measurements of the link between them."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.uml.guest import BYSTANDER_ADDRESS, DATA_INTERFACE, NAMESPACE, Guest

ROOT = Path(__file__).parents[3]
PROBE = Path(__file__).with_name("probe.py")
STATE_DIR = "/run/paretopipe"
PIPELINE = "uml-to-uml"

PROFILES = """\
lan: {}
duress-200ms-5mbit:
  links:
    first-egress: {delay: 200ms, rate: 5mbit}
both-30ms-20mbit:
  links:
    first-egress: {delay: 30ms, rate: 20mbit}
    first-ingress: {delay: 30ms, rate: 20mbit}
"""


@dataclass
class Play:
    """How a run of the playbook ended, with the counts of its recap per host."""

    status: int
    output: str
    changed: dict[str, int]
    failed: dict[str, int]


class Testbed:
    """Two guests: `first` and `second` stage of the pipeline."""

    __test__ = False  # not a test class, whatever its name says to pytest

    def __init__(self, directory: Path, key: Path, guests: list[Guest]) -> None:
        self.directory, self.key = directory, key
        self.first, self.second = guests
        self.inventory = directory / "inventory.yml"
        for guest in guests:  # where the roles expect the network program, as on a provisioned host
            program = self._root(guest) / "venv" / "bin" / "pp-net"
            program.parent.mkdir(parents=True)
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m paretopipe_runtime.network.cli "$@"\n')
            program.chmod(0o755)
        self.inventory.write_text(json.dumps(self._inventory(guests), indent=2))
        (directory / "profiles.yml").write_text(PROFILES)

    def _root(self, guest: Guest) -> Path:
        return guest.directory / "paretopipe"

    def _inventory(self, guests: list[Guest]) -> dict[str, object]:
        return {
            "all": {
                "hosts": {
                    guest.name: {
                        "ansible_host": guest.control_address,
                        "ansible_user": "root",
                        "ansible_ssh_private_key_file": str(self.key),
                        "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={guest.known_hosts}",
                        "ansible_python_interpreter": sys.executable,
                        "paretopipe_data_address": guest.data_address,
                        "paretopipe_data_interface": DATA_INTERFACE,
                        "paretopipe_root": str(self._root(guest)),
                        "paretopipe_state_dir": STATE_DIR,
                    }
                    for guest in guests
                },
                "vars": {"paretopipe_pipelines": {PIPELINE: [guest.name for guest in guests]}},
            }
        }

    @property
    def environment(self) -> dict[str, str]:
        """Ansible's settings: own directories, so that no ssh connection to the guests of an earlier run is used."""
        own = {"ANSIBLE_LOCAL_TEMP": "ansible", "ANSIBLE_SSH_CONTROL_PATH_DIR": "cp"}
        return {"ANSIBLE_NOCOLOR": "1"} | {name: str(self.directory / where) for name, where in own.items()}

    def play(self, profile: str, *options: str) -> Play:
        """Set a profile with the repository's own playbook, as pp-matrix does."""
        variables = {"network_profile_name": profile, "network_profile_pipeline": PIPELINE}
        program = Path(sys.executable).with_name("ansible-playbook")
        words = [
            program,
            "-i",
            self.inventory,
            "playbooks/network.yml",
            "--extra-vars",
            json.dumps(variables),
            *options,
        ]
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=\d+\s+failed=(\d+)", output, re.MULTILINE)
        return Play(
            done.returncode,
            output,
            {host: int(changed) for host, changed, _ in recap},
            {host: int(failed) for host, _, failed in recap},
        )

    def net(self, guest: Guest, verb: str, options: str = "") -> dict[str, Any]:
        """Run pp-net in a guest; it must succeed. Returns its JSON object."""
        return json.loads(guest.check(self.net_command(guest, verb, options)))

    def net_command(self, guest: Guest, verb: str, options: str = "") -> str:
        state = "" if verb == "shapers" else f"--state-dir {STATE_DIR}"
        return f"{self._root(guest)}/venv/bin/pp-net {verb} {state} {options}"

    def apply_command(self, options: str) -> str:
        """The command that shapes the first guest towards the second."""
        target = f"--interface {DATA_INTERFACE} --profile test --peer {self.second.data_address}"
        return self.net_command(self.first, "apply", f"{target} {options}")

    def apply(self, options: str) -> dict[str, Any]:
        """Shape the first guest towards the second."""
        return json.loads(self.first.check(self.apply_command(options)))

    def restore(self, guest: Guest) -> None:
        """Take off what a test may have left, without the cost of a Python start where there is nothing."""
        guest.check(f"test ! -e {STATE_DIR}/network/state.json || {self.net_command(guest, 'restore')}")

    def ssh_words(self, guest: Guest) -> list[str]:
        """The ssh client's command line for a guest."""
        trust = ["-o", f"UserKnownHostsFile={guest.known_hosts}", "-o", "StrictHostKeyChecking=yes"]
        return ["ssh", "-F", "none", "-i", str(self.key), *trust, f"root@{guest.control_address}"]


def ping_ms(guest: Guest, address: str, count: int = 5, interval_s: float = 0.2) -> list[float]:
    """Round trips from a guest to an address, in milliseconds; lost packets are left out."""
    done = guest.run(f"ping -n -c {count} -i {interval_s} -W 2 {address}", timeout_s=60)
    return [float(value) for value in re.findall(r"time=([\d.]+) ms", done.out)]


def bandwidth_bit_s(sender: Guest, receiver: Guest, nbytes: int, port: int = 5201) -> float:
    """Bits per second that arrive at the receiving guest."""
    words = f"{sys.executable} {PROBE} receive {receiver.data_address} {port} {nbytes}"
    _, out, err = receiver.ssh.exec_command(words, timeout=60)
    assert out.readline().strip() == "listening", err.read().decode()
    sender.check(f"{sys.executable} {PROBE} send {receiver.data_address} {port} {nbytes}", timeout_s=60)
    return float(out.readline())


def bystander_bandwidth_bit_s(sender: Guest, nbytes: int, port: int = 5202) -> float:
    """Bits per second that arrive at the data network's bystander."""
    words = ["ip", "netns", "exec", NAMESPACE, sys.executable, PROBE, "receive", BYSTANDER_ADDRESS, port, nbytes]
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline().strip() == "listening"
        sender.check(f"{sys.executable} {PROBE} send {BYSTANDER_ADDRESS} {port} {nbytes}", timeout_s=60)
        return float(receiver.stdout.readline())


def ssh_echo_ms(guest: Guest, count: int = 20) -> float:
    """Median round trip of a line through the open ssh connection, in milliseconds (`cat` on the far side)."""
    stdin, out, _ = guest.ssh.exec_command("cat", timeout=10)
    times = []
    for _ in range(count):
        start = time.monotonic()
        stdin.write("line\n")
        stdin.flush()
        out.readline()
        times.append((time.monotonic() - start) * 1e3)
    stdin.channel.shutdown_write()
    return statistics.median(times)


def link_state(guest: Guest) -> str:
    """The data interface's queueing disciplines, filters and offloads, as text to compare.

    Left out: what ethtool says was requested, because this driver starts with an offload on that nobody requested.
    """
    text = guest.check(
        f"tc qdisc show dev {DATA_INTERFACE}; tc class show dev {DATA_INTERFACE}; tc filter show dev {DATA_INTERFACE};"
        f" ethtool -k {DATA_INTERFACE}"
    )
    return re.sub(r" \[requested \w+\]", "", text)
