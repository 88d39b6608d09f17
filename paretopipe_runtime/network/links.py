"""Reading this network namespace: interfaces, and how a peer is reached."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Any

from paretopipe_runtime.network.commands import CommandError, run_json
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.shape import family

NEIGHBOUR_WAIT_S = 3.0
_DISCARD_PORT = 9


@dataclass(frozen=True)
class Interface:
    """A network interface as `ip -j link show` tells it."""

    name: str
    mac: str
    mtu: int
    kind: str
    """`ether`, `loopback`, `none`, ..."""
    queue_packets: int


@dataclass(frozen=True)
class Route:
    """The way to a peer."""

    interface: str
    next_hop: str
    source: str


def interfaces() -> dict[str, Interface]:
    """All interfaces by name."""
    return {
        entry["ifname"]: Interface(
            entry["ifname"],
            entry.get("address", ""),
            entry["mtu"],
            entry["link_type"],
            entry.get("txqlen", 0),
        )
        for entry in run_json(["ip", "-j", "link", "show"])
    }


def interface(name: str) -> Interface:
    """One interface; raises NetworkError naming those that exist."""
    found = interfaces()
    if name not in found:
        raise NetworkError(
            f"no interface {name!r} here; there are: {', '.join(found)}; set paretopipe_data_interface to one of them"
        )
    return found[name]


def exists(name: str) -> bool:
    """Whether there is an interface of that name."""
    return any(name == known for _, known in socket.if_nameindex())


def route_to(peer: str) -> Route:
    """How packets to `peer` leave; raises NetworkError if they cannot."""
    try:
        found: dict[str, Any] = run_json(["ip", "-j", "route", "get", peer])[0]
    except CommandError as error:
        raise NetworkError(f"no route to peer {peer}: {error.words}; is the data network up?") from error
    return Route(found["dev"], found.get("gateway", peer), found.get("prefsrc", ""))


def checked_route(peer: str, via: str) -> Route:
    """`route_to`, which must leave by interface `via`; raises NetworkError otherwise."""
    route = route_to(peer)
    if route.interface != via:
        raise NetworkError(
            f"peer {peer} is reached by {route.interface}, not by {via}: shaping {via} would not touch it; "
            "correct paretopipe_data_interface or paretopipe_data_address"
        )
    return route


def next_hop_mac(peer: str, next_hop: str, on: str) -> str:
    """The link-layer address of the next hop to `peer`, asked for on the wire if the kernel does not know it.

    Raises NetworkError if nobody answers within NEIGHBOUR_WAIT_S.
    """
    deadline = time.monotonic() + NEIGHBOUR_WAIT_S
    poked = False
    while True:
        for entry in run_json(["ip", "-j", "neigh", "show", "to", next_hop, "dev", on]):
            states = set(entry.get("state", []))
            if entry.get("lladdr") and not states & {"FAILED", "INCOMPLETE"}:
                return str(entry["lladdr"])
        if time.monotonic() > deadline:
            raise NetworkError(f"{next_hop} does not answer on {on}; is that host up and on the data network?")
        if not poked:
            _poke(peer)
            poked = True
        time.sleep(0.05)


def _poke(address: str) -> None:
    """Send one empty datagram, so that the kernel resolves the neighbour."""
    kind = socket.AF_INET if family(address) == 4 else socket.AF_INET6
    with socket.socket(kind, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        # What fails here shows in the neighbour table, which is read next.
        sender.sendto(b"", (address, _DISCARD_PORT))
