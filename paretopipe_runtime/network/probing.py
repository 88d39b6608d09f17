"""Which shapers this host can do, found by trying them in a network namespace of their own."""

from __future__ import annotations

import platform

from paretopipe_runtime.network.commands import run_elsewhere, tool_path
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.shape import Shape
from paretopipe_runtime.network.tc_recipe import netem_command, shape_commands
from paretopipe_runtime.network.wire_recipe import redirect_command

SHAPERS = ("tc", "wirefilter")
"""In order of preference."""

_EVERYTHING = Shape("lo", "probe", ("192.0.2.1", "2001:db8::1"), 0.01, 0.001, 1.0, 1e6)


def why_not(shaper: str) -> str | None:
    """Why this host cannot do a shaper, with the remedy; None if it can. Everything that the shaper uses is tried."""
    try:
        return _tc() if shaper == "tc" else _wirefilter()
    except NetworkError as error:
        return str(error)


def choose(wanted: str) -> str:
    """The shaper to use: the wanted one, or for `auto` the first that works; raises NetworkError with all remedies."""
    reasons = {}
    for shaper in SHAPERS if wanted == "auto" else (wanted,):
        reason = why_not(shaper)
        if reason is None:
            return shaper
        reasons[shaper] = reason
    raise NetworkError(
        "this host cannot shape its network. " + " ".join(f"{name}: {why}." for name, why in reasons.items())
    )


def _tc() -> str | None:
    tool_path("tc")
    try:
        run_elsewhere([netem_command("lo", _EVERYTHING, 1500, "root")])
    except NetworkError as error:
        release = platform.release()
        return f"no netem in kernel {release} (apt install linux-modules-extra-{release} if there is one) [{error}]"
    try:
        run_elsewhere(shape_commands("lo", _EVERYTHING, 1500))
    except NetworkError as error:
        return f"no htb or u32 in kernel {platform.release()} (use one with sch_htb and cls_u32) [{error}]"
    return None


def _wirefilter() -> str | None:
    for tool in ("wirefilter", "vde_plug2tap", "tc"):
        tool_path(tool)
    tap = "ppwtry"
    try:
        run_elsewhere([["ip", "tuntap", "add", "dev", tap, "mode", "tap"]])
    except NetworkError as error:
        return f"no TAP devices (modprobe tun; in a container, allow /dev/net/tun) [{error}]"
    try:
        run_elsewhere(
            [
                ["ip", "tuntap", "add", "dev", tap, "mode", "tap"],
                ["tc", "qdisc", "add", "dev", tap, "ingress"],
                redirect_command(tap, "lo"),
            ]
        )
    except NetworkError as error:
        return f"no ingress, u32 or mirred in kernel {platform.release()} (use another kernel) [{error}]"
    return None
