"""Two booted guests, an inventory of them, and the ways in which the tests look at a link."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.uml.guest import Guest, command, make_network, remove_network
from tests.system.uml.testbed import Testbed

LOCK = Path("/run/lock/ppuml.lock")
PROGRAMS = {
    "linux.uml": "user-mode-linux",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "ping": "iputils-ping",
    "ssh-keygen": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
}


def install_prerequisites() -> None:
    """Install the Debian packages that are missing; on a machine where that fails, the tests fail."""
    if os.geteuid() != 0:
        pytest.fail("the tests of User-Mode Linux guests make network namespaces: run them as root")
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        command("apt-get", "update", "--quiet")
        command("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet", *missing)


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Two guests with sshd on a network of their own; one test run at a time on a machine."""
    install_prerequisites()
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_network()  # what a killed run left
        directory = tmp_path_factory.mktemp("uml")
        key = directory / "id_ed25519"
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key)
        guests = [Guest(index, directory / f"uml{index}") for index in (1, 2)]
        try:
            make_network([guest.index for guest in guests])
            for guest in guests:
                guest.start(key)
            for guest in guests:
                guest.connect(key)
            yield Testbed(directory, key, guests)
        finally:
            for guest in guests:
                guest.stop()
            remove_network()
