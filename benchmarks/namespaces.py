"""Two network namespaces joined by a veth pair, for the time of one benchmark. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.settings import CannotRunError

INTERFACE = "eth0"
_PREFIX = "ppb"


@dataclass(frozen=True)
class Side:
    """One of the two namespaces."""

    namespace: str
    address: str

    def command(self, *words: str) -> list[str]:
        """What runs a program there; `ip netns exec` also shows it that namespace's /sys."""
        return ["ip", "netns", "exec", self.namespace, *words]


@contextmanager
def two_namespaces() -> Iterator[tuple[Side, Side]]:
    """The two sides; removed again whatever happens, SIGTERM and SIGHUP included.

    Raises CannotRunError without root or without iproute2.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise CannotRunError("makes network namespaces: run it as root, with iproute2 installed")
    _remove_left_over()
    near, far = (Side(f"{_PREFIX}-{os.getpid()}-{end}", f"10.99.0.{k}") for k, end in ((1, "near"), (2, "far")))
    before = {number: signal.signal(number, lambda _n, _f: sys.exit(1)) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for side in (near, far):
            _ip("netns", "add", side.namespace)
        link = ("type", "veth", "peer", "name", INTERFACE, "netns", far.namespace)
        _ip("link", "add", INTERFACE, "netns", near.namespace, *link)
        for side in (near, far):
            _ip("-n", side.namespace, "address", "add", f"{side.address}/30", "dev", INTERFACE)
            for device in ("lo", INTERFACE):
                _ip("-n", side.namespace, "link", "set", device, "up")
        yield near, far
    finally:
        for side in (near, far):
            _remove(side.namespace)
        for number, handler in before.items():
            signal.signal(number, handler)


def interface_bytes(counter: str) -> int:
    """`tx` or `rx` bytes of this namespace's interface so far, by the kernel's counter."""
    return int(Path(f"/sys/class/net/{INTERFACE}/statistics/{counter}_bytes").read_text())


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def _remove(namespace: str) -> None:
    if Path("/run/netns", namespace).exists():
        _ip("netns", "delete", namespace)


def _remove_left_over() -> None:
    """A benchmark that was killed outright could not clean up."""
    for path in Path("/run/netns").glob(f"{_PREFIX}-*-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            _remove(path.name)
