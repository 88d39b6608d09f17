"""The emulated Pi beside an x86-64 host, both with sshd, and the result file that the tests fill."""

import os
import platform
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.pi.commands import run
from tests.pi.emulation import CPU, emulated_aarch64
from tests.pi.hosts import raspberry_pi, x86_host
from tests.pi.image import cache_lock, debian_root, neighbour_packages
from tests.pi.network import testbed_network
from tests.pi.result import write_result
from tests.pi.testbed import ROOT, Testbed

PROGRAMS = {
    "debootstrap": "debootstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "nft": "nftables",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "wirefilter": "vde2",
    "ssh": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
}


@pytest.fixture(scope="session")
def prerequisites() -> None:
    """Install the Debian packages that are missing; on a machine where that fails, the tests fail."""
    if os.geteuid() != 0:
        pytest.fail(
            "the emulated Raspberry Pi needs chroot, binfmt_misc and network namespaces: run make test-pi as root"
        )
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        run("apt-get", "update", "--quiet")
        run("apt-get", "install", "--yes", "--quiet", *missing, DEBIAN_FRONTEND="noninteractive")


@pytest.fixture(scope="session")
def result(request: pytest.FixtureRequest, prerequisites: None) -> Iterator[dict[str, Any]]:
    """What the tests found; written to results/test-pi/ at the end, failures included."""
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": run("git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=10").strip(),
        "machine": {"kernel": platform.release(), "machine": platform.machine(), "cores": os.cpu_count()},
        "emulation": {"qemu": run("qemu-aarch64-static", "--version").splitlines()[0], "cpu": CPU},
        "durations_s": {},
        "pipelines": {},
    }
    yield found
    session = request.session
    found["tests"] = {"run": session.testscollected, "failed": session.testsfailed}
    write_result(found, ROOT / "results/test-pi")


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory, result: dict[str, Any]) -> Iterator[Testbed]:
    """Both hosts, blank; one test run at a time on a machine."""
    directory = tmp_path_factory.mktemp("pi")
    key = directory / "id_ed25519"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key)
    with cache_lock():
        started = datetime.now(UTC)
        card, packages = debian_root(), neighbour_packages()
        result["durations_s"]["image and packages (0 where cached)"] = round(
            (datetime.now(UTC) - started).total_seconds()
        )
        with (
            emulated_aarch64(),
            testbed_network(directory),
            x86_host(directory / "x86", key) as x86,
            raspberry_pi(directory / "pi", card, key) as pi,
        ):
            yield Testbed(directory, key, pi, x86, packages)
