"""The commands of the `tc` shaper, and reading back what they made. Pure.

Recipe: an htb root whose `default 0` lets unclassified packets pass unshaped (tc-htb(8)), one class that is never the
bottleneck, below it netem with delay, jitter, loss and rate in one qdisc (tc-netem(8)), and u32 filters that send only
packets to the peers there (tc-u32(8)). netem's own rate, not tbf: one queue, one limit, no burst that passes free.
"""

from __future__ import annotations

import ipaddress
import math
from typing import Any

from paretopipe_runtime.network.shape import JsonObject, Shape, family

Command = list[str]

ROOT = "5050:"
LEAF = "5051:"
CLASS = "5050:1"
_FREE_RATE_BIT_S = 100e9
_PRIORITY = {4: "5050", 6: "5051"}


def root_commands(interface: str) -> list[Command]:
    """htb and its class: everything still passes unshaped."""
    free = f"{_FREE_RATE_BIT_S / 1e9:.0f}gbit"
    # burst and quantum are given because htb would derive from so high a rate values that it then warns about.
    free_class = f"rate {free} ceil {free} burst 1mb cburst 1mb quantum 60000"
    return [
        f"tc qdisc add dev {interface} root handle {ROOT} htb default 0".split(),
        f"tc class add dev {interface} parent {ROOT} classid {CLASS} htb {free_class}".split(),
    ]


def netem_command(interface: str, shape: Shape, mtu: int, parent: str = f"parent {CLASS}") -> Command:
    """netem at `parent`, with its limit in packets (`Shape.queue_limit_packets`)."""
    command = f"tc qdisc add dev {interface} {parent} handle {LEAF} netem limit {shape.queue_limit_packets(mtu)}"
    if shape.delay_s:
        command += f" delay {_microseconds(shape.delay_s)}us"
        if shape.jitter_s:
            command += f" {_microseconds(shape.jitter_s)}us"
    if shape.loss_pct:
        command += f" loss random {shape.loss_pct:.6g}%"
    rate = netem_rate_bit_s(shape)
    if rate:
        command += f" rate {round(rate)}bit"
    return command.split()


def netem_rate_bit_s(shape: Shape) -> float | None:
    """The rate given to netem. A jittery link without a rate gets one that is never the bottleneck.

    Without any rate netem reorders what it jitters; with one it keeps packets in order (tc-netem(8), `rate`), which
    is what links do.
    """
    return shape.rate_bit_s or (_FREE_RATE_BIT_S if shape.jitter_s else None)


def filter_commands(interface: str, shape: Shape) -> list[Command]:
    """One u32 filter per peer."""
    commands = []
    for peer in shape.peers:
        version = family(peer)
        protocol, field, bits = ("ip", "ip", 32) if version == 4 else ("ipv6", "ip6", 128)
        where = f"dev {interface} parent {ROOT} protocol {protocol} prio {_PRIORITY[version]}"
        commands.append(f"tc filter add {where} u32 match {field} dst {peer}/{bits} flowid {CLASS}".split())
    return commands


def shape_commands(interface: str, shape: Shape, mtu: int) -> list[Command]:
    """Everything, in order. Filters come last: packets are sent to netem only when it is there."""
    return [
        *root_commands(interface),
        netem_command(interface, shape, mtu),
        *filter_commands(interface, shape),
    ]


def is_ours(qdiscs: list[JsonObject]) -> bool:
    """Whether the root qdisc among `tc -j qdisc show dev IF` is the one that `root_commands` makes."""
    return any(q.get("root") and q["kind"] == "htb" and q["handle"] == ROOT for q in qdiscs)


def mismatches(shape: Shape, mtu: int, qdiscs: list[JsonObject], filters: str) -> list[str]:
    """What of the request the kernel's answer does not show, in words; empty if all is there.

    `qdiscs` is `tc -j qdisc show dev IF` parsed, `filters` is `tc filter show dev IF parent 5050:`.
    """
    if not is_ours(qdiscs):
        return [f"no htb {ROOT} at the root"]
    leaves = [q for q in qdiscs if q["kind"] == "netem" and q["handle"] == LEAF and q.get("parent") == CLASS]
    if not leaves:
        return [f"no netem {LEAF} below {CLASS}"]
    options = leaves[0].get("options", {})
    delay = options.get("delay", {})
    rate = netem_rate_bit_s(shape)
    wanted = {
        "delay in s": (shape.delay_s, delay.get("delay", 0.0)),
        "jitter in s": (shape.jitter_s, delay.get("jitter", 0.0)),
        "loss in %": (shape.loss_pct, 100 * _number(options.get("loss-random", {}).get("loss", 0.0))),
        "rate in bytes/s": ((rate or 0.0) / 8, options.get("rate", {}).get("rate", 0.0)),
        "limit in packets": (shape.queue_limit_packets(mtu), options.get("limit", 0)),
    }
    found = [
        f"{what}: asked {asked:g}, the kernel has {_number(got):g}"
        for what, (asked, got) in wanted.items()
        if not math.isclose(asked, _number(got), rel_tol=1e-4, abs_tol=2e-6)
    ]
    found += [f"no filter for {peer}" for peer in shape.peers if not _has_filter(peer, filters)]
    return found


def _has_filter(peer: str, filters: str) -> bool:
    """Whether a u32 filter matches the peer as destination: 32 bits at a time, from the offset in its header."""
    packed = ipaddress.ip_address(peer).packed
    offset = 16 if len(packed) == 4 else 24
    words = [packed[i : i + 4].hex() for i in range(0, len(packed), 4)]
    return all(f"match {word}/ffffffff at {offset + 4 * i}" in filters for i, word in enumerate(words))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
