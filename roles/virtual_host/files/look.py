"""What this machine has of virtual hosts, as JSON on stdout. Changes nothing.

Argument: a JSON object with `directory` (where the hosts' records lie), `bridge`, `switch`, `gateway`, `subnet`,
`packages`, and the names that the hosts asked for will need: `namespaces`, `ports`.

The answer: `missing_packages`, `cores` (that this process may use), `root_is_locked` (its password), `has_systemd`,
`bridge_is_up`, `switch_is_up`, `hosts` (of every host with a record, by name: `running`, whether all of it works, and
`directories`, which go with it) and `problems` (one line each: what is in the way of the hosts asked for).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACES = Path("/run/netns")


def output(*command: str) -> str:
    """What a command prints; nothing where it fails or is not installed (iproute2 may still be missing)."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


def links(namespace: str | None = None) -> dict[str, Any]:
    """Name to link, with addresses, of this machine or of a namespace."""
    listed = output("ip", *(["-n", namespace] if namespace else []), "-j", "addr")
    return {link["ifname"]: link for link in json.loads(listed or "[]")}


def made_since_boot(directory: Path) -> bool:
    """Whether what this directory records was made since the machine started; namespaces and links do not last."""
    noted = directory / "boot_id"
    return noted.is_file() and noted.read_text() == BOOT_ID.read_text()


def is_stale(namespace: str) -> bool:
    """Whether a namespace's name is there without the namespace."""
    path = NAMESPACES / namespace
    return path.exists() and path.stat().st_dev == NAMESPACES.stat().st_dev


def has_address(link: dict[str, Any] | None, address: str) -> bool:
    """Whether a link is up and has an address."""
    return link is not None and "UP" in link["flags"] and any(one.get("local") == address for one in link["addr_info"])


def lives_in(init: Path, namespace: Path) -> bool:
    """Whether the process noted in a host's `init` file (pid and start time) is alive and in its namespace."""
    try:
        pid, started = init.read_text().split()
        stat = Path(f"/proc/{pid}/stat").read_text()
        same_process = stat.rpartition(")")[2].split()[19] == started
        return same_process and Path(f"/proc/{pid}/ns/net").stat().st_ino == namespace.stat().st_ino
    except (OSError, ValueError):
        return False


def is_made_from(noted: Path) -> bool:
    """Whether the files that a host was made from, as sha256sum(1) noted them, are still the same."""
    try:
        lines = [line.split(maxsplit=1) for line in noted.read_text().splitlines()]
        return all(hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest for digest, path in lines)
    except FileNotFoundError:
        return False


def is_running(directory: Path, record: dict[str, Any], machine: dict[str, Any], switch: dict[str, Any]) -> bool:
    """Whether a recorded host is whole: its process alive, both its links up with their addresses and plugged in."""
    if not made_since_boot(directory) or not is_made_from(directory / "made_from"):
        return False
    if not lives_in(directory / "init", NAMESPACES / record["namespace"]):
        return False
    own = links(record["namespace"])
    return (
        has_address(own.get("ctl0"), record["control_address"])
        and has_address(own.get("data0"), record["data_address"])
        and machine.get(record["control_port"], {}).get("master") == record["bridge"]
        and switch.get(record["data_port"], {}).get("master") == record["switch"]
    )


def overlapping(subnet: str, addresses: dict[str, list[str]], routes: list[str]) -> list[str]:
    """What of this machine's addresses (interface to `address/bits`) and routes lies in a subnet."""
    wanted = ipaddress.ip_network(subnet)
    found = [
        f"{interface} has {address}"
        for interface, own in addresses.items()
        for address in own
        if ipaddress.ip_interface(address).network.overlaps(wanted)
    ]
    return found or [
        f"there is a route to {route}"
        for route in routes
        # Wider ones are default routes by another name.
        if ipaddress.ip_network(route).prefixlen >= 8 and ipaddress.ip_network(route).overlaps(wanted)
    ]


def problems(asked: dict[str, Any], machine: dict[str, Any], ours: set[str], routes: list[dict[str, Any]]) -> list[str]:
    """What is in the way. `ours` are names of namespaces and links that the records vouch for."""
    namespaces = {path.name for path in NAMESPACES.iterdir()} if NAMESPACES.is_dir() else set()
    found = [
        f"{kind} {name} is there and was not made by this role; set virtual_host_prefix to something else"
        for kind, names, there in (
            ("interface", [asked["bridge"], *asked["ports"]], set(machine)),
            ("network namespace", [asked["switch"], *asked["namespaces"]], namespaces),
        )
        for name in names
        if name in there - ours
    ]
    addresses = {
        name: [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["family"] == "inet"]
        for name, link in machine.items()
        if name != asked["bridge"] or name not in ours
    }
    others = [route["dst"] for route in routes if route["dst"] != "default" and route.get("dev") != asked["bridge"]]
    found += [
        f"{what}, which overlaps with {asked['subnet']}; set virtual_host_control_subnet and every ansible_host anew"
        for what in overlapping(asked["subnet"], addresses, others)
    ]
    return found


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question; see the top."""
    directory = Path(asked["directory"])
    records = {path.parent.name: json.loads(path.read_text()) for path in sorted(directory.glob("*/record.json"))}
    machine, switch = links(), links(asked["switch"]) if (NAMESPACES / asked["switch"]).exists() else {}
    ours = {asked["bridge"], asked["switch"]} if made_since_boot(directory) else set()
    for name, record in records.items():
        if made_since_boot(directory / name):
            ours |= {record["namespace"], record["control_port"]}
    # Where /run outlives a restart, the names of namespaces do, as plain files.
    ours |= {
        name for name in (asked["switch"], *(record["namespace"] for record in records.values())) if is_stale(name)
    }
    routes = json.loads(output("ip", "-4", "-j", "route") or "[]")
    bridge_is_up = has_address(machine.get(asked["bridge"]), asked["gateway"])
    switch_is_up = "UP" in switch.get(asked["switch"], {}).get("flags", [])
    installed = output("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n", *asked["packages"])
    shadow = Path("/etc/shadow")
    return {
        "missing_packages": [name for name in asked["packages"] if f"{name} installed" not in installed.splitlines()],
        "cores": sorted(os.sched_getaffinity(0)),
        "root_is_locked": shadow.is_file() and shadow.read_text().startswith("root:!"),
        "has_systemd": Path("/run/systemd/system").is_dir(),
        "bridge_is_up": bridge_is_up,
        "switch_is_up": switch_is_up,
        "hosts": {
            name: {
                "running": bridge_is_up and switch_is_up and is_running(directory / name, record, machine, switch),
                "directories": record["directories"],
            }
            for name, record in records.items()
        },
        "problems": problems(asked, machine, ours, routes),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(json.loads(sys.argv[1]))) + "\n")
