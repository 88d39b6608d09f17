"""The root qdisc that was there before, and how to bring it back exactly."""

from __future__ import annotations

import re

from paretopipe_runtime.network.commands import CommandError, run, run_elsewhere, run_json
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.links import Interface
from paretopipe_runtime.network.shape import JsonObject
from paretopipe_runtime.network.tc_recipe import Command, is_ours

_ZERO = "0:"
_BESIDE_THE_ROOT = ("ingress", "clsact")


def show(interface: str) -> list[JsonObject]:
    """`tc -j qdisc show dev IF`."""
    found: list[JsonObject] = run_json(["tc", "-j", "qdisc", "show", "dev", interface])
    return found


def show_statistics(interface: str) -> list[JsonObject]:
    """The same with counters."""
    found: list[JsonObject] = run_json(["tc", "-s", "-j", "qdisc", "show", "dev", interface])
    return found


def save(interface: Interface) -> Command | None:
    """The arguments after `tc qdisc add dev IF` that rebuild the root qdisc; None where the kernel does it itself.

    A qdisc with handle 0: is the kernel's default, which returns when ours is deleted. Any other was configured by
    somebody and must come back letter for letter, which is tried in a namespace of its own. Raises NetworkError if
    it would not.
    """
    qdiscs = [q for q in show(interface.name) if q["kind"] not in _BESIDE_THE_ROOT]
    if all(q["handle"] == _ZERO for q in qdiscs):
        return None
    root = next((q for q in qdiscs if q.get("root")), qdiscs[0])
    called = f"the {root['kind']} {root['handle']} that somebody configured on {interface.name}"
    if is_ours(qdiscs):
        raise NetworkError(
            f"{interface.name} is already shaped (htb {root['handle']}) by another --state-dir; run pp-net restore "
            f"with that one, or `tc qdisc del dev {interface.name} root`"
        )
    if len(qdiscs) > 1 or run(["tc", "class", "show", "dev", interface.name]).strip():
        raise NetworkError(
            f"{called} has classes or children, which cannot be put back exactly; remove it before shaping"
        )
    before = _text(run(["tc", "qdisc", "show", "dev", interface.name, "root"]), interface.name)
    became = ""
    for arguments in rebuild_candidates(before):
        try:
            became = _text(_try(interface, arguments), "lo")
        except CommandError as error:
            became = error.words
        if became == before:
            return arguments
    raise NetworkError(f"{called} cannot be put back exactly: {before!r} gives {became!r}; remove it before shaping")


def _try(interface: Interface, arguments: Command) -> str:
    """What tc shows of a rebuilt qdisc. The loopback interface is in every namespace, so no driver is needed."""
    return run_elsewhere(
        [
            ["ip", "link", "set", "lo", "mtu", str(interface.mtu), "txqueuelen", str(interface.queue_packets)],
            ["tc", "qdisc", "add", "dev", "lo", *arguments],
            ["tc", "qdisc", "show", "dev", "lo", "root"],
        ]
    )


def rebuild_candidates(text: str) -> list[Command]:
    """`qdisc KIND HANDLE root OPTIONS...` as printed, turned into `root handle HANDLE KIND OPTIONS...`.

    tc prints units that it does not read back, such as `10240p` for packets and, for some kinds, `3028b` and `10sec`;
    so there are two ways to try.
    """
    _, kind, handle, _, *options = text.split()
    return [
        ["root", "handle", handle, kind, *(re.sub(rf"^(\d+)({units})$", r"\1", option) for option in options)]
        for units in ("p", "p|b|sec")
    ]


def _text(printed: str, interface: str) -> str:
    """One printed qdisc without what depends on the interface rather than on the configuration."""
    line = " ".join(printed.split())
    return re.sub(r" refcnt \d+", "", line.replace(f" dev {interface} ", " "))
