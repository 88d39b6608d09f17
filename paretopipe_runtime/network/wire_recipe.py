"""The commands of the `wirefilter` shaper, and reading back what they made. Pure.

For kernels without netem: packets to the peers are routed into a TAP device, pass a one-way wire in user space that
delays, drops and paces them (wirefilter(1)), come out of a second TAP device, and are redirected unchanged to the data
interface (tc-mirred(8)). Their answers arrive on the data interface as always.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from paretopipe_runtime.network.shape import JsonObject, Shape, family

Command = list[str]

ENTRY = "ppw0"
EXIT = "ppw1"
MAX_MTU = 1500
"""wirefilter loses track of its stream at frames above 1521 bytes."""
LOOSE = "2"
"""rp_filter that accepts a source reachable by any interface (kernel: ip-sysctl.rst)."""

# `Delay  200+5U`: a value, its spread, and the spread's distribution. Both are printed with %g.
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_INFO = re.compile(rf"^(\w+)\.? +({_NUMBER})\+({_NUMBER})[UN]$", re.MULTILINE)


def plug_command(tap: str) -> Command:
    """A process that joins a TAP device of its own to its standard input and output (vde_plug2tap(1))."""
    return ["vde_plug2tap", "-s", "-", tap]


def filter_command(shape: Shape, mtu: int, socket: Path) -> Command:
    """wirefilter between two pipes, one direction only: ms, percent, bytes per second, bytes."""
    command = ["wirefilter", "--mgmtmode", "0600", "-M", str(socket)]
    delay = _plain(shape.delay_s * 1e3)
    if shape.jitter_s:
        delay += f"+{_plain(shape.jitter_s * 1e3)}"
    command += ["-d", delay]
    if shape.loss_pct:
        command += ["-l", _plain(shape.loss_pct)]
    if shape.rate_bit_s:
        command += ["-b", _plain(shape.rate_bit_s / 8)]
    return [*command, "-c", str(shape.queue_limit_bytes(mtu))]


def link_commands(mac: str, mtu: int, data_interface: str) -> list[Command]:
    """Set up the two TAP devices and the way out: the entry has the data interface's MAC, neither has an address."""
    commands = [
        f"ip link set {ENTRY} address {mac}",
        *(f"ip link set {tap} mtu {mtu} addrgenmode none" for tap in (ENTRY, EXIT)),
        f"tc qdisc add dev {EXIT} ingress",
        *(f"ip link set {tap} up" for tap in (EXIT, ENTRY)),
    ]
    return [*(command.split() for command in commands), redirect_command(EXIT, data_interface)]


def redirect_command(source: str, target: str) -> Command:
    """Everything that comes in on `source` goes out on `target`."""
    everything = f"tc filter add dev {source} parent ffff: protocol all u32 match u32 0 0"
    return f"{everything} action mirred egress redirect dev {target}".split()


def peer_commands(peer: JsonObject) -> list[Command]:
    """Send one peer's packets into the wire: `peer` has `address`, `mac` (of the next hop) and `source`."""
    address = peer["address"]
    version, bits = ("-4", 32) if family(address) == 4 else ("-6", 128)
    return [
        f"ip {version} neigh replace {address} lladdr {peer['mac']} dev {ENTRY} nud permanent".split(),
        f"ip {version} route add {address}/{bits} dev {ENTRY} src {peer['source']}".split(),
    ]


def parse_info(text: str) -> dict[str, tuple[float, float]]:
    """wirefilter's `showinfo` as {"Delay": (value, spread), ...}; ms, percent, bytes per second, bytes."""
    return {name: (float(value), float(spread)) for name, value, spread in _INFO.findall(text)}


def info_mismatches(shape: Shape, mtu: int, text: str) -> list[str]:
    """What of the request wirefilter's own account does not show, in words."""
    info = parse_info(text)
    wanted = {
        "Delay": (shape.delay_s * 1e3, shape.jitter_s * 1e3),
        "Loss": (shape.loss_pct, 0.0),
        "Bandw": ((shape.rate_bit_s or 0.0) / 8, 0.0),
        "Cap": (float(shape.queue_limit_bytes(mtu)), 0.0),
    }
    return [
        f"wirefilter's {name}: asked {asked}, it has {info.get(name)}"
        for name, asked in wanted.items()
        if name not in info
        or not all(math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9) for a, b in zip(asked, info[name], strict=True))
    ]


def _plain(value: float) -> str:
    """A number without an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
