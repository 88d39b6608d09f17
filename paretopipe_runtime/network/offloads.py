"""Segmentation offloads: off while tc shapes, because a 64 kB super-packet is one packet to htb and netem."""

from __future__ import annotations

from paretopipe_runtime.network.commands import CommandError, run, tool_path
from paretopipe_runtime.network.shape import JsonObject

_TSO = "tcp-segmentation-offload"
_SHORT = {"generic-segmentation-offload": "gso", "generic-receive-offload": "gro"}


def save(interface: str) -> JsonObject:
    """Which offloads to turn off, and what stays: `{"off": [...], "kept": {name: why}}`; changes nothing.

    Raises NetworkError if ethtool is not installed. An interface that knows no offloads has none to turn off.
    """
    tool_path("ethtool")
    try:
        features = parse_features(run(["ethtool", "-k", interface]))
    except CommandError as error:
        return {"off": [], "kept": {"all": error.words}}
    return {
        "off": sorted(name for name, (on, fixed) in features.items() if on and not fixed),
        "kept": {name: "fixed by the driver" for name, (on, fixed) in features.items() if on and fixed},
    }


def parse_features(text: str) -> dict[str, tuple[bool, bool]]:
    """`ethtool -k` as {name: (on, fixed)} of the segmentation and receive offloads, by names that `-K` takes.

    TCP segmentation is a group; its members are taken one by one, so that each is put back as it was.
    """
    found: dict[str, tuple[bool, bool]] = {}
    group = ""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        words = value.split()
        if not colon or not words:
            continue
        if not line[0].isspace():
            group = name
        if name in _SHORT or (line[0].isspace() and group == _TSO):
            found[_SHORT.get(name, name.strip())] = (words[0] == "on", "[fixed]" in words)
    return found


def turn_off(interface: str, saved: JsonObject) -> JsonObject:
    """Turn off what `save` found; returns it with what refused moved from `off` to `kept`."""
    still_on, why = _switch(interface, saved["off"], on=False)
    return {
        "off": [name for name in saved["off"] if name not in still_on],
        "kept": saved["kept"] | dict.fromkeys(still_on, why),
    }


def turn_back_on(interface: str, saved: JsonObject) -> list[str]:
    """Turn on again what was on; returns what is still off, in words (empty: all as before)."""
    still_off, why = _switch(interface, saved["off"], on=True)
    return [f"offload {name} is still off on {interface} ({why})" for name in still_off]


def _switch(interface: str, names: list[str], *, on: bool) -> tuple[list[str], str]:
    """Switch those that are not so already, all in one call because some need others; what refused, and why."""
    wrong = _unlike(interface, names, on=on)
    if not wrong:
        return [], ""
    why = "the driver refused"
    try:
        run(["ethtool", "-K", interface, *(word for name in wrong for word in (name, "on" if on else "off"))])
    except CommandError as error:
        why = error.words
    return _unlike(interface, wrong, on=on), why


def _unlike(interface: str, names: list[str], *, on: bool) -> list[str]:
    if not names:
        return []
    features = parse_features(run(["ethtool", "-k", interface]))
    return [name for name in names if features[name][0] is not on]
