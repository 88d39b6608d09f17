"""What is wrong with the variables of a virtual host, found before anything is touched."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

_PATH = re.compile(r"(/[A-Za-z0-9_.-]+){3,}")


def _is_path(value: object) -> bool:
    return isinstance(value, str) and _PATH.fullmatch(value) is not None and ".." not in value.split("/")


def _network(value: object) -> ipaddress.IPv4Network | None:
    """A network of 254 addresses, or None."""
    try:
        network = ipaddress.IPv4Network(str(value))
    except ValueError:
        return None
    return network if network.prefixlen == 24 else None


def _address_problems(variables: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    networks = {}
    for variable in ("virtual_host_control_subnet", "virtual_host_data_subnet"):
        network = _network(variables[variable])
        if network is None:
            yield f"{variable}: {variables[variable]!r} must be a network such as 10.77.0.0/24"
            return
        networks[variable] = network
    if len(set(networks.values())) == 1:
        yield "virtual_host_control_subnet and virtual_host_data_subnet must be two networks"
    for variable, subnet in zip(("ansible_host", "paretopipe_data_address"), networks, strict=True):
        address = variables.get(variable)
        # The first address of the control network is this machine's; the data network is numbered alike.
        usable = [str(one) for one in networks[subnet].hosts()][1:]
        if address not in usable:
            yield f"{variable}: {address!r} must be one of {usable[0]} to {usable[-1]}, as {subnet} says"
        elif any(other.get(variable) == address for other in others):
            yield f"{variable}: {address} is another host's too"


def virtual_host_problems(
    inventory: Mapping[str, Any], others: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[str]:
    """All that is wrong with one host's variables, one line each.

    `inventory` and `others` are this host's and the other hosts' variables of the inventory; `settings` are those of
    the role and the play, which Ansible does not show among them.
    """
    variables = {**inventory, **settings}
    host, prefix = variables["inventory_hostname"], variables["virtual_host_prefix"]
    problems = []
    if "virtual" not in variables["group_names"]:
        problems.append("it is not in the group virtual; only its hosts are made by this role")
    if variables["ansible_connection"] != "local":
        problems.append("ansible_connection: must be local for this role; use playbooks/virtual.yml")
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", host) is None:
        problems.append("its name may have lower-case letters, digits and, within, hyphens")
    if re.fullmatch(r"[a-z][a-z0-9]{0,7}", prefix) is None:
        problems.append(f"virtual_host_prefix: {prefix!r} must be a letter and up to 7 letters or digits, lower-case")
    if not _is_path(variables["virtual_host_directory"]):
        problems.append("virtual_host_directory: must be a path of three parts or more, as /var/lib/paretopipe-virtual")
    problems += _address_problems(variables, others)
    if variables.get("paretopipe_data_interface") != "data0":
        problems.append("paretopipe_data_interface: must be data0, as the role names it")
    for variable in ("paretopipe_root", "paretopipe_state_dir"):
        value = variables.get(variable)
        # What goes with a host must be that host's alone.
        if not _is_path(value) or not str(value).endswith(f"/{host}"):
            problems.append(f"{variable}: {value!r} must be a path of three parts or more that ends in /{host}")
    return [f"host {host}: {problem}" for problem in problems]


class FilterModule:
    """The filters of this role."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Name to function."""
        return {"virtual_host_problems": virtual_host_problems}
