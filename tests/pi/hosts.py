"""The two hosts: a Raspberry Pi 4 that qemu-user emulates, and an x86-64 one, each with an sshd of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.pi.commands import run
from tests.pi.emulation import CPU, CPUINFO
from tests.pi.image import CACHE, USER
from tests.pi.native import install_native_tools
from tests.pi.network import control_address, namespace

START_LIMIT_S = 60.0
_ENTER = Path(__file__).with_name("enter_pi.sh")
_SSHD_SETTINGS = """\
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
MaxSessions 30
"""


@dataclass(frozen=True)
class Host:
    """How a host is logged in to."""

    name: str
    user: str
    directory: Path
    """Its keys and log on this machine."""

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def log(self) -> Path:
        return self.directory / "sshd.log"

    def ssh(self, key: Path, script: str) -> str:
        """Run a shell command line on the host."""
        trust = ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=yes"]
        return run("ssh", "-F", "none", "-i", key, *trust, f"{self.user}@{control_address(self.name)}", script)


@contextmanager
def raspberry_pi(directory: Path, card: Path, client_key: Path) -> Iterator[Host]:
    """The emulated Pi, blank but for what its card holds; what is written to it lives as long as this context."""
    host = _new_host("pi", USER, directory)
    # An overlay's upper directory cannot lie on every file system (/tmp may be one such); beside the card it can.
    disk = CACHE / "pi-run"
    if disk.exists():  # left by a killed run
        shutil.rmtree(disk)
    (disk / "work").mkdir(parents=True)
    (disk / "root").mkdir()
    (disk / "cpuinfo").write_text(CPUINFO)
    ssh = disk / "upper/etc/ssh"
    (ssh / "sshd_config.d").mkdir(parents=True)
    shutil.copy(directory / "host_key", ssh / "ssh_host_ed25519_key")
    # sshd gives its sessions a new environment; the emulated CPU must be in it.
    (ssh / "sshd_config.d/pi.conf").write_text(
        f"ListenAddress {control_address('pi')}\nSetEnv QEMU_CPU={CPU}\n{_SSHD_SETTINGS}"
    )
    shutil.copy("/etc/resolv.conf", disk / "upper/etc/resolv.conf")
    (disk / "upper/etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\tpi\n")
    install_native_tools(disk / "upper")
    home = disk / "upper/home/pi"
    (home / ".ssh").mkdir(mode=0o700, parents=True)
    shutil.copy(client_key.with_suffix(".pub"), home / ".ssh/authorized_keys")
    for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
        os.chown(path, 1000, 1000)
    isolated = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
    try:
        with _sshd(host, [*isolated, "sh", str(_ENTER), str(card), str(disk), CPU]):
            yield host
    finally:
        shutil.rmtree(disk)


@contextmanager
def x86_host(directory: Path, client_key: Path) -> Iterator[Host]:
    """A namespace of this machine as a host; it shares this machine's files."""
    host = _new_host("x86", "root", directory)
    # sshd trusts no key below a directory that all may write, such as /tmp.
    private = Path("/run/pppi-x86")
    private.mkdir(mode=0o755, exist_ok=True)
    shutil.copy(client_key.with_suffix(".pub"), private / "authorized_keys")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    config = directory / "sshd_config"
    config.write_text(
        f"ListenAddress {control_address('x86')}\nHostKey {directory}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {private}/authorized_keys\n{_SSHD_SETTINGS}Subsystem sftp internal-sftp\n"
    )
    isolated = ["unshare", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
    serve = f"hostname x86 && exec /usr/sbin/sshd -D -e -f {config}"
    try:
        with _sshd(host, [*isolated, "sh", "-c", serve]):
            yield host
    finally:
        shutil.rmtree(private)


def _new_host(name: str, user: str, directory: Path) -> Host:
    directory.mkdir()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / "host_key")
    kind, key, _ = (directory / "host_key.pub").read_text().split()
    host = Host(name, user, directory)
    host.known_hosts.write_text(f"{control_address(name)} {kind} {key}\n")
    return host


@contextmanager
def _sshd(host: Host, command: list[str]) -> Iterator[None]:
    """A host's first process, from its sshd's answer on; it ends with this process at the latest."""
    words = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", namespace(host.name), *command]
    with host.log.open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_LIMIT_S
        while True:
            try:
                with socket.create_connection((control_address(host.name), 22), timeout=1):
                    break
            except OSError as error:
                if time.monotonic() > end or process.poll() is not None:
                    said = host.log.read_text(errors="replace")[-2000:]
                    raise AssertionError(f"{host.name} did not start ({error}):\n{said}") from error
                time.sleep(0.1)
        yield
    finally:
        if process.poll() is None:
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        process.wait(timeout=30)
