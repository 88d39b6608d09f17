"""Shaping by the kernel's own netem."""

from __future__ import annotations

from paretopipe_runtime.network import offloads, saved_qdisc, tc_recipe
from paretopipe_runtime.network.commands import run
from paretopipe_runtime.network.links import checked_route, exists, interface
from paretopipe_runtime.network.saved_qdisc import show
from paretopipe_runtime.network.shape import JsonObject, Shape
from paretopipe_runtime.network.state import StateDirectory


class TcShaper:
    """htb, netem and u32 at the root of the data interface."""

    name = "tc"

    def prepare(self, shape: Shape, directory: StateDirectory) -> JsonObject:
        """What will be changed and what is there now; changes nothing itself.

        Keys: `mtu`, `limit_packets`, `root_qdisc` (arguments that rebuild a configured one, else null), `offloads`.
        Raises NetworkError if the interface or a peer is not there, or the present state could not be put back.
        """
        del directory
        card = interface(shape.interface)
        for peer in shape.peers:
            checked_route(peer, card.name)
        return {
            "mtu": card.mtu,
            "limit_packets": shape.queue_limit_packets(card.mtu),
            "root_qdisc": saved_qdisc.save(card),
            "offloads": offloads.save(card.name),
        }

    def impose(self, shape: Shape, plan: JsonObject) -> JsonObject:
        """Shape; returns the plan with what came out of it."""
        after = offloads.turn_off(shape.interface, plan["offloads"])
        if plan["root_qdisc"]:
            run(["tc", "qdisc", "del", "dev", shape.interface, "root"])
        for command in tc_recipe.shape_commands(shape.interface, shape, plan["mtu"]):
            run(command)
        return plan | {"offloads": after}

    def mismatches(self, shape: Shape, plan: JsonObject) -> list[str]:
        """What the kernel does not show of the request, in words."""
        if not exists(shape.interface):
            return [f"{shape.interface} is gone"]
        qdiscs = show(shape.interface)
        filters = ""
        if tc_recipe.is_ours(qdiscs):
            filters = run(["tc", "filter", "show", "dev", shape.interface, "parent", tc_recipe.ROOT])
        return tc_recipe.mismatches(shape, plan["mtu"], qdiscs, filters)

    def undo(self, shape: Shape, plan: JsonObject) -> None:
        """Take off our root qdisc, wherever `impose` got to, and put back what was there."""
        if not exists(shape.interface):
            return
        if tc_recipe.is_ours(show(shape.interface)):
            run(["tc", "qdisc", "del", "dev", shape.interface, "root"])
        saved = plan["root_qdisc"]
        # Only where the kernel's default stands: somebody else's new qdisc is not ours to replace.
        if saved and all(q["handle"] == "0:" for q in show(shape.interface) if q.get("root")):
            run(["tc", "qdisc", "add", "dev", shape.interface, *saved])
        offloads.turn_back_on(shape.interface, plan["offloads"])

    def leftovers(self, shape: Shape, plan: JsonObject) -> list[str]:
        """What of ours is still there, in words."""
        if not exists(shape.interface):
            return []
        found = offloads.turn_back_on(shape.interface, plan["offloads"])
        if tc_recipe.is_ours(show(shape.interface)):
            found.append(f"htb {tc_recipe.ROOT} is still the root of {shape.interface}")
        return found

    def statistics(self, shape: Shape, plan: JsonObject) -> JsonObject:
        """`tc -s -j qdisc show` of our qdiscs: packets, drops, overlimits, backlog. Needs no root."""
        del plan
        qdiscs = saved_qdisc.show_statistics(shape.interface) if exists(shape.interface) else []
        return {"qdiscs": [q for q in qdiscs if q["handle"] in (tc_recipe.ROOT, tc_recipe.LEAF)]}
