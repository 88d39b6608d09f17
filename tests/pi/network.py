"""The network of the emulated Pi and its x86-64 neighbour.

Two network namespaces. Control: both on a bridge of this machine, which is their gateway (masquerading, nft(8)).
Data: one veth pair between them.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.pi.commands import run

BRIDGE = "pppi-br"
TABLE = "pppi"
CONTROL_NETWORK = "10.80.0"
DATA_NETWORK = "10.80.1"
GATEWAY = f"{CONTROL_NETWORK}.1"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
HOSTS = ("pi", "x86")

_NAT = f"""
table ip {TABLE} {{
    chain outward {{
        type nat hook postrouting priority srcnat;
        ip saddr {CONTROL_NETWORK}.0/24 oifname != "{BRIDGE}" masquerade
    }}
}}
"""


def namespace(host: str) -> str:
    """The name of a host's network namespace."""
    return f"pppi-{host}"


def control_address(host: str) -> str:
    """Where ssh reaches a host."""
    return f"{CONTROL_NETWORK}.{11 + HOSTS.index(host)}"


def data_address(host: str) -> str:
    """Where a host's stages listen."""
    return f"{DATA_NETWORK}.{11 + HOSTS.index(host)}"


@contextlib.contextmanager
def testbed_network(directory: Path) -> Iterator[None]:
    """Make the namespaces and links; all of it, and only that, goes afterwards. `directory` takes a file of rules."""
    _remove()  # what a killed run left
    forwarding = FORWARDING.read_text()
    try:
        _make(directory)
        yield
    finally:
        FORWARDING.write_text(forwarding)
        _remove()


def _uplink(host: str) -> str:
    """This machine's end of a host's control link."""
    return f"{namespace(host)}-c"


def _make(directory: Path) -> None:
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    run("ip", "link", "set", "dev", BRIDGE, "up")
    for host in HOSTS:
        run("ip", "netns", "add", namespace(host))
        run("ip", "link", "add", _uplink(host), "type", "veth", "peer", "name", "ctl0", "netns", namespace(host))
        run("ip", "link", "set", "dev", _uplink(host), "master", BRIDGE, "up")

    first, second = (namespace(host) for host in HOSTS)
    run("ip", "-n", first, "link", "add", "data0", "type", "veth", "peer", "name", "data0", "netns", second)
    for host in HOSTS:
        ip = ("ip", "-n", namespace(host))
        for interface, address in (("ctl0", control_address(host)), ("data0", data_address(host))):
            run(*ip, "address", "add", f"{address}/24", "dev", interface)
            run(*ip, "link", "set", "dev", interface, "up")
        run(*ip, "link", "set", "dev", "lo", "up")
        run(*ip, "route", "add", "default", "via", GATEWAY)
    rules = directory / "nat.nft"
    rules.write_text(_NAT)
    run("nft", "-f", rules)
    FORWARDING.write_text("1")


def _remove() -> None:
    for host in HOSTS:
        # A deleted namespace lets its devices go only some time later: this one goes now, for the next run's.
        if Path("/sys/class/net", _uplink(host)).exists():
            run("ip", "link", "delete", _uplink(host))
        if Path("/run/netns", namespace(host)).exists():
            run("ip", "netns", "delete", namespace(host))
    if Path("/sys/class/net", BRIDGE).exists():
        run("ip", "link", "delete", BRIDGE)
    if shutil.which("nft") and f"table ip {TABLE}\n" in run("nft", "list", "tables"):
        run("nft", "delete", "table", "ip", TABLE)
