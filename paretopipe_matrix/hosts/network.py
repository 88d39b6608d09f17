"""The network between a pipeline's hosts: imposed, measured, kept alive and put back.

On local hosts the link model in the sockets enforces a profile. On hosts with a network of their own Ansible shapes
it (roles/network_profile), once per group; the hosts restore themselves when nobody renews their lease.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Protocol

from paretopipe_matrix.hosts.fleet import Fleet
from paretopipe_matrix.hosts.inventory import Inventory
from paretopipe_matrix.testbed import CellError, JsonObject, Link, ProbeResult, Profile

LEASE_S = float(os.environ.get("PARETOPIPE_LEASE_S", "60"))
"""How long a shaped host waits for word from this controller before it restores itself; tests wait less."""
_RENEW_EVERY_S = LEASE_S / 4
_PROBE_S = 60.0
_STATUS_S = 10.0


class Plays(Protocol):
    """What is needed of `paretopipe_matrix.hosts.ansible.Playbooks`."""

    def run(self, playbook: str, extra_vars: Mapping[str, object], limit: Sequence[str]) -> object:
        """Run a playbook on some hosts; raises CellError."""


class Network:
    """Profiles of the pipelines of one run. `lane_of` names the pipelines that a pipeline takes turns with."""

    def __init__(
        self, fleet: Fleet, inventory: Inventory, plays: Plays, lane_of: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._fleet = fleet
        self._inventory = inventory
        self._plays = plays
        self._lane_of = lane_of
        self._profiles: dict[str, Profile] = {}
        self._shaped: dict[str, tuple[str, ...]] = {}
        """Pipeline -> hosts on which Ansible imposed something."""
        self._leased: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._renewer: threading.Thread | None = None

    def _modelled(self, pipeline: str) -> bool:
        return self._inventory.is_local(pipeline)

    # Imposing ------------------------------------------------------------------------------------------------

    def apply(self, pipeline: str, profile: Profile) -> str:
        """Take a profile for what follows; returns who enforces it.

        Raises CellError (`network`) for what cannot be enforced, and PlaybookError where Ansible fails.
        """
        self._profiles[pipeline] = profile
        if self._modelled(pipeline):
            return self._modelled_shaper(profile)
        for other in self._lane_of[pipeline]:
            if other != pipeline and other in self._shaped:
                self._restore(other)
        members = self._inventory.pipeline(pipeline)
        sends = [host for host in members if self._link(pipeline, host) is not None]
        for host in sends:
            if self._inventory.hosts[host].data_interface is None:
                raise CellError(
                    "network",
                    f"profile {profile.name} shapes what it sends, but paretopipe_data_interface is not set",
                    host,
                    f"name the interface that carries {self._inventory.hosts[host].data_address}",
                )
        if sends or any(state["active"] for state in self._status(members).values()):
            with self._lock:
                self._shaped[pipeline] = members  # before: Ansible may fail half way
            self._plays.run("network.yml", self._variables(pipeline, profile.name), members)
            if not sends:
                self._forget(pipeline)
        return self._enforced_by(profile, members, sends)

    def _enforced_by(self, profile: Profile, members: Sequence[str], sends: Sequence[str]) -> str:
        shapers = []
        for host, state in self._status(members).items():
            active = state["active"]
            if (active is not None) != (host in sends) or (active and active["profile"] != profile.name):
                found = f"is shaped by {active['profile']}" if active else "is not shaped"
                raise CellError(
                    "network",
                    f"profile {profile.name} was set, but the host {found}",
                    host,
                    "see logs/ansible.log, and `pp-net status` on the host",
                )
            if active:
                shapers.append(active["shaper"])
        if shapers:
            self._start_renewing(sends)
        return "+".join(sorted(set(shapers))) or "none"

    def _modelled_shaper(self, profile: Profile) -> str:
        for direction, link in profile.links.items():
            if link.loss_pct:
                raise CellError(
                    "network",
                    f"profile {profile.name}: {direction} asks for {link.loss_pct:g} % loss, "
                    "which the link model cannot do",
                    None,
                    "leave out loss, or run on hosts with tc (netem)",
                )
        return "link-model" if profile.links else "none"

    def _variables(self, pipeline: str, profile: str) -> JsonObject:
        return {
            "network_profile_name": profile,
            "network_profile_pipeline": pipeline,
            "network_profile_file": str(self._inventory.path.parent.absolute() / "profiles.yml"),
            "network_profile_lease_s": LEASE_S,
        }

    def _link(self, pipeline: str, host: str) -> Link | None:
        """What a profile imposes on what a host sends: first-egress at the first host, first-ingress at the others."""
        links = self._profiles[pipeline].links
        return links.get("first-egress" if host == self._inventory.pipeline(pipeline)[0] else "first-ingress")

    def egress(self, pipeline: str, stage: int, stages: int, seed: int = 0) -> JsonObject | None:
        """What the link model imposes on a stage's sending: first-egress at the first, first-ingress at the last."""
        if not self._modelled(pipeline) or stage not in (0, stages - 1):
            return None
        link = self._profiles[pipeline].links.get("first-egress" if stage == 0 else "first-ingress")
        if link is None:
            return None
        return {"delay_s": link.delay_s, "jitter_s": link.jitter_s, "rate_bit_s": link.rate_bit_s, "seed": seed}

    # Measuring -----------------------------------------------------------------------------------------------

    def probe(self, pipeline: str, profile: Profile) -> ProbeResult:
        """Measure between the first two hosts, through the same kind of channel as the activations'.

        Bandwidth is the receiver's figure: at the second host, and at the first one too where the profile limits
        that direction.
        """
        hosts = self._inventory.pipeline(pipeline)
        first, second = hosts[0], hosts[1]
        egress, ingress = profile.links.get("first-egress"), profile.links.get("first-ingress")
        there = self._probe_path(pipeline, first, second, egress.rate_bit_s if egress else None)
        samples = tuple(there["rtt_samples_s"])
        back = None
        if ingress is not None and ingress.rate_bit_s is not None:
            back = self._probe_path(pipeline, second, first, ingress.rate_bit_s)["bandwidth_bit_s"]
        managed = not self._modelled(pipeline)
        return ProbeResult(
            rtt_s=median(samples),
            rtt_samples_s=samples,
            bandwidth_bit_s=there["bandwidth_bit_s"],
            bandwidth_bytes=there["bandwidth_bytes"],
            ingress_bandwidth_bit_s=back,
            vitals={host: self._fleet.agents[host].call("vitals", timeout_s=_STATUS_S) for host in hosts},
            network=self._status(hosts) if managed else {},
        )

    def _probe_path(self, pipeline: str, prober: str, answerer: str, rate_bit_s: float | None) -> JsonObject:
        place = self._inventory.hosts[answerer]
        agents = self._fleet.agents
        stage_of = {host: index for index, host in enumerate(self._inventory.pipeline(pipeline)[:2])}
        port = agents[answerer].call(
            "probe_listen", {"listen_address": place.data_address, "listen_port": place.data_port}, _PROBE_S
        )["port"]
        common = {"secret": secrets.token_hex(32), "timeout_s": 20.0}
        answers = {
            answerer: agents[answerer].send(
                "probe_serve", common | {"egress": self.egress(pipeline, stage_of[answerer], 2)}
            ),
            prober: agents[prober].send(
                "probe",
                common
                | {
                    "peer": {"address": place.data_address, "port": port},
                    "egress": self.egress(pipeline, stage_of[prober], 2),
                    "rate_bit_s": rate_bit_s,
                },
            ),
        }
        results = self._fleet.gather(answers, "probe", _PROBE_S)
        return results[prober] | results[answerer]

    def _status(self, hosts: Sequence[str]) -> dict[str, JsonObject]:
        params = {host: {"state_dir": self._inventory.hosts[host].state_dir} for host in hosts}
        return self._fleet.together("network_status", params, _STATUS_S)

    # Keeping and putting back --------------------------------------------------------------------------------

    def _start_renewing(self, hosts: Sequence[str]) -> None:
        with self._lock:
            self._leased.update(hosts)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._renewer.start()

    def _renew(self) -> None:
        while not self._closing.wait(_RENEW_EVERY_S):
            with self._lock:
                hosts = set(self._leased)
            for host in hosts:
                agent = self._fleet.agents.get(host)
                if agent is not None:
                    # An answer that does not come shows in the probe after the round, and in the cells themselves.
                    agent.send("renew_network", {"state_dir": self._inventory.hosts[host].state_dir})

    def _restore(self, pipeline: str) -> None:
        variables = self._variables(pipeline, self._profiles[pipeline].name) | {"network_profile_state": "restored"}
        self._plays.run("network.yml", variables, self._shaped[pipeline])
        self._forget(pipeline)

    def _forget(self, pipeline: str) -> None:
        with self._lock:
            self._leased -= set(self._shaped.pop(pipeline))

    def close(self, note: Callable[[str], None]) -> None:
        """Put everything back. What cannot be reached is noted: it restores itself."""
        self._closing.set()
        for pipeline in list(self._shaped):
            hosts = ", ".join(self._shaped[pipeline])
            try:
                self._restore(pipeline)
            except CellError as error:
                note(f"{hosts}: not all restored ({error.message}); a host restores itself within {LEASE_S:.0f} s")
