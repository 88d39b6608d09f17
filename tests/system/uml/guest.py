"""User-Mode Linux guests on a network of their own: real kernels with netem, which this machine's may lack.

Recipe: https://docs.kernel.org/virt/uml/user_mode_linux_howto_v2.html (vector transports, hostfs root).

A namespace holds two bridges. The control bridge also has a veth end in the root namespace, so that ssh and Ansible
reach the guests. The data bridge has an address of its own: the bystander, a host on the data network that is no peer.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

NAMESPACE = "ppuml-net"
CONTROL_LINK = "ppuml-ctl"
CONTROLLER_ADDRESS = "10.79.0.1"
BYSTANDER_ADDRESS = "10.79.1.254"
CONTROL_INTERFACE = "ctl0"
DATA_INTERFACE = "data0"
BOOT_LIMIT_S = 30.0
MODULES = ("sch_netem", "sch_htb", "cls_u32", "sch_tbf", "sch_fq_codel", "sch_ingress", "cls_matchall", "act_mirred")


def command(*words: str | Path) -> str:
    """Run a command on this machine and return its output; a failure shows what it printed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))} failed ({done.returncode}): {done.stderr}{done.stdout}")
    return done.stdout


def make_network(indices: list[int]) -> None:
    """Make the namespace with its bridges, and one control and one data TAP per guest."""
    ip = ("ip", "-n", NAMESPACE)
    command("ip", "netns", "add", NAMESPACE)
    for bridge, letter in (("br-control", "c"), ("br-data", "d")):
        command(*ip, "link", "add", bridge, "type", "bridge")
        command(*ip, "link", "set", "dev", bridge, "up")
        for index in indices:
            command(*ip, "tuntap", "add", "dev", f"{letter}{index}", "mode", "tap")
            command(*ip, "link", "set", "dev", f"{letter}{index}", "master", bridge, "up")
    command(*ip, "address", "add", f"{BYSTANDER_ADDRESS}/24", "dev", "br-data")
    command("ip", "link", "add", CONTROL_LINK, "type", "veth", "peer", "name", "uplink", "netns", NAMESPACE)
    command(*ip, "link", "set", "dev", "uplink", "master", "br-control", "up")
    command("ip", "address", "add", f"{CONTROLLER_ADDRESS}/24", "dev", CONTROL_LINK)
    command("ip", "link", "set", "dev", CONTROL_LINK, "up")


def remove_network() -> None:
    """Remove the namespace with all that is in it; one that a killed run left behind too."""
    # A deleted namespace lets its devices go only some time later: this one goes now, for the next run's.
    if Path("/sys/class/net", CONTROL_LINK).exists():
        command("ip", "link", "delete", CONTROL_LINK)
    if Path("/run/netns", NAMESPACE).exists():
        command("ip", "netns", "delete", NAMESPACE)


@dataclass
class Done:
    """What a command in a guest gave."""

    status: int
    out: str
    err: str


@dataclass
class Guest:
    """One guest: its addresses, the process that runs its kernel, and an open ssh connection to it.

    `index` numbers the TAP interfaces and ends the addresses; `directory` holds its keys, configuration and
    console log.
    """

    index: int
    directory: Path
    process: subprocess.Popen[bytes] | None = None
    ssh: paramiko.SSHClient = field(default_factory=paramiko.SSHClient)

    @property
    def name(self) -> str:
        return f"uml{self.index}"

    @property
    def control_address(self) -> str:
        return f"10.79.0.{10 + self.index}"

    @property
    def data_address(self) -> str:
        return f"10.79.1.{10 + self.index}"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    def start(self, client_key: Path) -> None:
        """Start the guest's kernel; it ends with this process at the latest."""
        self.directory.mkdir()
        host_key = self.directory / "host_key"
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", host_key)
        kind, key, _ = host_key.with_suffix(".pub").read_text().split()
        self.known_hosts.write_text(f"{self.control_address} {kind} {key}\n")
        config = self.directory / "guest.json"
        config.touch(mode=0o600)
        config.write_text(
            json.dumps(
                {
                    "hostname": self.name,
                    "listen": self.control_address,
                    "host_key": host_key.read_text(),
                    "authorized_key": client_key.with_suffix(".pub").read_text(),
                    "interfaces": {
                        "vec0": {"name": CONTROL_INTERFACE, "address": f"{self.control_address}/24"},
                        "vec1": {"name": DATA_INTERFACE, "address": f"{self.data_address}/24"},
                    },
                    "modules": MODULES,
                }
            )
        )
        # A process namespace of its own ends with its first process, however many helpers the kernel has started.
        words = (
            f"setpriv --pdeathsig KILL ip netns exec {NAMESPACE} unshare --pid --fork --kill-child --mount-proc".split()
        )
        words += ["linux.uml", "mem=512M", "rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=null,fd:1"]
        words += [
            f"vec{number}:transport=tap,ifname={letter}{self.index},depth=128" for number, letter in enumerate("cd")
        ]
        words += [f"init={sys.executable}", "--", str(Path(__file__).with_name("init.py")), str(config)]
        with self.console.open("wb") as console:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)

    def connect(self, client_key: Path) -> None:
        """Wait for the guest's sshd and log in; the guest's console is in the error if it does not come."""
        self.ssh.load_host_keys(str(self.known_hosts))  # paramiko rejects an unknown key unless told otherwise
        end = time.monotonic() + BOOT_LIMIT_S
        while True:
            try:
                with socket.create_connection((self.control_address, 22), timeout=1):
                    break
            except OSError as error:
                if time.monotonic() > end or self.process is None or self.process.poll() is not None:
                    tail = self.console.read_text(errors="replace")[-2000:]
                    raise AssertionError(f"{self.name} did not start ({error}); its console says:\n{tail}") from error
                time.sleep(0.05)
        for letter in "cd":
            # A guest drops frames longer than the MTU unless its GRO is on, which shaping switches off. Only now,
            # because the guest's kernel sets the offloads of its TAP when it opens it.
            command(
                "ip", "netns", "exec", NAMESPACE, "ethtool", "-K", f"{letter}{self.index}", "tso", "off", "gso", "off"
            )
        self.ssh.connect(
            self.control_address, username="root", key_filename=str(client_key), look_for_keys=False, allow_agent=False
        )

    def run(self, script: str, timeout_s: float = 30.0) -> Done:
        """Run a shell command line in the guest over the open connection."""
        _, out, err = self.ssh.exec_command(script, timeout=timeout_s)
        text, errors = out.read().decode(), err.read().decode()
        return Done(out.channel.recv_exit_status(), text, errors)

    def check(self, script: str, timeout_s: float = 30.0) -> str:
        """Run a shell command line that must succeed, and return its output."""
        done = self.run(script, timeout_s)
        assert done.status == 0, f"{self.name}: {script} failed ({done.status}): {done.err}{done.out}"
        return done.out

    def stop(self) -> None:
        """End the guest: kill the first process of its process namespace, and with it all the others."""
        self.ssh.close()
        if self.process is None or self.process.poll() is not None:
            return
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        self.process.wait(timeout=10)
