"""Which cores and threads the hosts get that run on this machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paretopipe_matrix.errors import InventoryError
from paretopipe_matrix.hosts.inventory import HostVars


@dataclass(frozen=True)
class Placement:
    """The cores and threads of one host."""

    cpus: tuple[int, ...]
    threads: int


def assign_cpus(hosts: Sequence[HostVars], available: set[int]) -> dict[str, Placement]:
    """Cores and threads for the hosts that run on this machine.

    Listed cores are taken as they are. Hosts with `auto` get one core each of what is left, where there are enough
    for all of them; otherwise they share all available cores. `auto` threads: as many as the host has cores.

    Raises InventoryError for a listed core that is not available.
    """
    for host in hosts:
        missing = [] if isinstance(host.cpus, str) else sorted(set(host.cpus) - available)
        if missing:
            raise InventoryError(
                f"host {host.name}: paretopipe_cpus: no core {missing[0]} here; available: {sorted(available)}"
            )
    auto = [host.name for host in hosts if isinstance(host.cpus, str)]
    listed = {cpu for host in hosts if not isinstance(host.cpus, str) for cpu in host.cpus}
    free = sorted(available - listed)
    enough = len(free) >= len(auto)
    cpus: dict[str, tuple[int, ...]] = {}
    for host in hosts:
        if not isinstance(host.cpus, str):
            cpus[host.name] = host.cpus
        else:
            cpus[host.name] = (free[auto.index(host.name)],) if enough else tuple(sorted(available))
    return {
        host.name: Placement(
            cpus=cpus[host.name],
            threads=len(cpus[host.name]) if isinstance(host.threads, str) else host.threads,
        )
        for host in hosts
    }
