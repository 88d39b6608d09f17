"""Shaping by wirefilter, for kernels without netem."""

from __future__ import annotations

import os
from pathlib import Path

from paretopipe_runtime.network.commands import run, run_json
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.links import checked_route, exists, interface, next_hop_mac, route_to
from paretopipe_runtime.network.shape import JsonObject, Shape, family
from paretopipe_runtime.network.state import StateDirectory
from paretopipe_runtime.network.wire_process import ask, counters
from paretopipe_runtime.network.wire_recipe import (
    ENTRY,
    EXIT,
    LOOSE,
    MAX_MTU,
    filter_command,
    info_mismatches,
    link_commands,
    peer_commands,
)

_CONF = Path("/proc/sys/net/ipv4/conf")
_SOCKET_PATH_BYTES = 107
"""unix(7): 108 with the final zero."""


class WireShaper:
    """Two TAP devices and a wire in user space, for the peers' packets only."""

    name = "wirefilter"

    def prepare(self, shape: Shape, directory: StateDirectory) -> JsonObject:
        """What will be changed and what is there now; changes nothing itself.

        Keys: `mtu`, `limit_bytes`, `mac`, `peers` [{address, source, next_hop}], `wire` (wirefilter's command line),
        `socket`, `rp_filter` (the interface's own value if it has to be loosened, else null).
        Raises NetworkError if the interface or a peer is not there, or something is in the way.
        """
        card = interface(shape.interface)
        if card.kind != "ether":
            raise NetworkError(f"{card.name} is no Ethernet interface ({card.kind}); wirefilter can only shape those")
        if taken := [tap for tap in (ENTRY, EXIT) if exists(tap)]:
            raise NetworkError(
                f"{' and '.join(taken)} already here: another --state-dir shapes this host; run pp-net restore with it"
            )
        if len(os.fsencode(directory.socket)) > _SOCKET_PATH_BYTES:
            raise NetworkError(f"{directory.socket} is too long for a socket's path; choose a shorter --state-dir")
        mtu = min(card.mtu, MAX_MTU)
        peers = []
        for peer in shape.peers:
            route = checked_route(peer, card.name)
            version, bits = (4, 32) if family(peer) == 4 else (6, 128)
            if run_json(["ip", "-j", f"-{version}", "route", "show", "exact", f"{peer}/{bits}"]):
                raise NetworkError(
                    f"there is a route to {peer}/{bits} already, which would have to give way; "
                    "use a route to the peer's network instead"
                )
            peers.append({"address": peer, "source": route.source, "next_hop": route.next_hop})
        return {
            "mtu": mtu,
            "limit_bytes": shape.queue_limit_bytes(mtu),
            "mac": card.mac,
            "peers": peers,
            "wire": filter_command(shape, mtu, directory.socket),
            "socket": str(directory.socket),
            "rp_filter": _strict_rp_filter(card.name),
        }

    def impose(self, shape: Shape, plan: JsonObject) -> JsonObject:
        """Lead the peers' packets through the wire, which runs already; returns the plan."""
        for command in link_commands(plan["mac"], plan["mtu"], shape.interface):
            run(command)
        if plan["rp_filter"] is not None:
            _rp_filter_path(shape.interface).write_text(LOOSE)
        for peer in plan["peers"]:
            mac = next_hop_mac(peer["address"], peer["next_hop"], shape.interface)
            for command in peer_commands(peer | {"mac": mac}):
                run(command)
        return plan

    def mismatches(self, shape: Shape, plan: JsonObject) -> list[str]:
        """What wirefilter and the kernel do not show of the request, in words."""
        found = [f"{tap} is gone" for tap in (ENTRY, EXIT, shape.interface) if not exists(tap)]
        if found:
            return found
        found = [
            f"packets to {peer} do not go through the wire" for peer in shape.peers if route_to(peer).interface != ENTRY
        ]
        if shape.interface not in run(["tc", "filter", "show", "dev", EXIT, "parent", "ffff:"]):
            found.append(f"the wire does not lead to {shape.interface}")
        return found + info_mismatches(shape, plan["mtu"], ask(Path(plan["socket"]), "showinfo"))

    def undo(self, shape: Shape, plan: JsonObject) -> None:
        """Lead the packets back, wherever `impose` got to; the TAP devices end with the wire."""
        if exists(ENTRY):
            for version in ("-4", "-6"):
                run(["ip", version, "route", "flush", "dev", ENTRY])
                run(["ip", version, "neigh", "flush", "nud", "all", "dev", ENTRY])
        path = _rp_filter_path(shape.interface)
        if plan["rp_filter"] is not None and path.exists():
            path.write_text(plan["rp_filter"])

    def leftovers(self, shape: Shape, plan: JsonObject) -> list[str]:
        """What of ours is still there, in words."""
        found = [f"{tap} is still there" for tap in (ENTRY, EXIT) if exists(tap)]
        path = _rp_filter_path(shape.interface)
        if plan["rp_filter"] is not None and path.exists() and path.read_text().strip() != plan["rp_filter"]:
            found.append(f"{path} is not {plan['rp_filter']} again")
        return found

    def statistics(self, shape: Shape, plan: JsonObject) -> JsonObject:
        """Frames into and out of the wire; with root also wirefilter's own account. Needs no root."""
        del shape
        result = counters(run_json(["ip", "-s", "-j", "link", "show"]))
        if os.access(plan["socket"], os.W_OK):
            try:
                result["wirefilter"] = ask(Path(plan["socket"]), "showinfo").splitlines()[1:-2]
            except NetworkError as error:
                result["wirefilter"] = [str(error)]
        return result


def _rp_filter_path(name: str) -> Path:
    return _CONF / name / "rp_filter"


def _strict_rp_filter(name: str) -> str | None:
    """The interface's own rp_filter, if what counts (the larger of its own and `all`) drops the peers' answers.

    Their way back is by the wire's entry and not by the interface they come in on, which strict mode (1) refuses.
    """
    own = _rp_filter_path(name).read_text().strip()
    everywhere = _rp_filter_path("all").read_text().strip()
    return own if max(int(own), int(everywhere)) == 1 else None
