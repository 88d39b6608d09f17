"""The agents of a run: started at once, asked together, and closed together."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from paretopipe_matrix.hosts.agent_client import Answer, LocalAgent
from paretopipe_matrix.hosts.inventory import HostVars, Inventory
from paretopipe_matrix.hosts.placement import assign_cpus
from paretopipe_matrix.testbed import CellError, JsonObject
from paretopipe_runtime import __version__

if TYPE_CHECKING:
    from paretopipe_matrix.hosts.ssh import SshAgent

_START_S = 120.0
# How long hosts get to say what happened to them once one of them has failed, before they are told to stop.
_ROOT_CAUSE_S = 1.0
# How long a stopped stage may take to finish the batch it is computing.
_SETTLE_S = 60.0

# Of several errors of one cell, the first of these kinds is the cause; the others follow from it.
_CAUSES = (
    "worker-killed",
    "worker-died",
    "agent-gone",
    "out-of-memory",
    "compute",
    "internal",
    "engine",
    "model",
    "input",
    "handshake",
    "bad-frame",
    "port-busy",
    "timeout",
    "aborted",
    "unreachable",
    "peer-lost",
)


class Fleet:
    """Agents of all hosts of some pipelines.

    A host that cannot be started is remembered with its error, and fails the pipelines it belongs to; the others can
    run. The constructor raises that CellError only where no pipeline is left.
    """

    def __init__(self, inventory: Inventory, pipelines: Sequence[str], log_dir: Path | None) -> None:
        self.facts: dict[str, JsonObject] = {}
        self.agents: dict[str, LocalAgent | SshAgent] = {}
        self._errors: dict[str, CellError] = {}
        self._members = {name: inventory.pipeline(name) for name in pipelines}
        hosts = list(dict.fromkeys(host for members in self._members.values() for host in members))
        try:
            self._start([inventory.hosts[name] for name in hosts], log_dir)
            broken = [error for name in pipelines if (error := self.pipeline_error(name)) is not None]
            if len(broken) == len(pipelines):
                raise broken[0]
        except BaseException:
            self.close()
            raise

    def _start(self, hosts: Sequence[HostVars], log_dir: Path | None) -> None:
        here = [host for host in hosts if host.connection == "local"]
        placements = assign_cpus(here, os.sched_getaffinity(0)) if here else {}

        def start(host: HostVars) -> None:
            log_file = log_dir / host.name / "worker.log" if log_dir else None
            placement = placements.get(host.name)
            # A host of its own finds out what `auto` means there.
            cpus = list(placement.cpus) if placement else (None if isinstance(host.cpus, str) else list(host.cpus))
            threads = placement.threads if placement else (None if isinstance(host.threads, str) else host.threads)
            try:
                agent = self.agents[host.name] = _agent(host, log_file)
                answer = agent.send(
                    "configure",
                    {
                        "host": host.name,
                        "cpus": cpus,
                        "threads": threads,
                        "device": host.device,
                        "engine": host.engine,
                        "data_address": host.data_address,
                    },
                )
                facts = agent.wait(answer, "configure", _START_S)
                if facts["paretopipe"] != __version__:
                    raise CellError(
                        "handshake",
                        f"runs paretopipe {facts['paretopipe']}, this is {__version__}",
                        host.name,
                        "install this version there: ansible-playbook playbooks/provision.yml",
                    )
                worker = agent.wait(agent.worker_ready, "starting its worker", _START_S)
                missing = worker.pop("device_error")
                if missing is not None:
                    raise CellError("engine", missing["message"], host.name, missing["remedy"])
            except CellError as error:
                self._errors[host.name] = error
                return
            self.facts[host.name] = facts | worker

        with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
            for started in [pool.submit(start, host) for host in hosts]:
                started.result()
        for name, facts in self.facts.items():
            facts["cpus_shared"] = any(
                name != other and _cores(facts) & _cores(other_facts) for other, other_facts in self.facts.items()
            )
        # In the order of the inventory, whichever host was first to answer.
        self.facts = {host.name: self.facts[host.name] for host in hosts if host.name in self.facts}

    # Pipelines -----------------------------------------------------------------------------------------------

    def live(self, pipeline: str) -> list[str]:
        """The pipeline's hosts that were started, in order; where there are none, those of other pipelines."""
        own = [host for host in self._members[pipeline] if host in self.facts]
        return own or list(self.facts)

    def pipeline_error(self, pipeline: str) -> CellError | None:
        """Why a pipeline cannot run: a host that was not started, or hosts with other versions than one another."""
        members = self._members[pipeline]
        for host in members:
            if host in self._errors:
                return self._errors[host]
        for what in ("torch", "torchvision"):
            # A Raspberry Pi's +cpu and a GPU server's +cu130 are builds of one version (PEP 440, local labels).
            found = {name: self.facts[name][what].partition("+")[0] for name in members}
            if len(set(found.values())) > 1:
                return CellError(
                    "handshake",
                    f"{what} differs between hosts: {', '.join(f'{name} has {v}' for name, v in found.items())}",
                    None,
                    "install the same version on all (versions are pinned in constraints.txt)",
                )
        return None

    def resources(self) -> dict[str, set[Hashable]]:
        """Pipeline -> what it occupies: hosts, and cores of machines that may be several hosts."""
        occupied: dict[str, set[Hashable]] = {}
        for name, members in self._members.items():
            occupied[name] = {*members}
            for host in members:
                occupied[name] |= _cores(self.facts[host]) if host in self.facts else set()
        return occupied

    def interface(self, host: str) -> str | None:
        """The interface that carries a host's data address, as the host found it."""
        found = self.facts[host]["data_interface"]
        return str(found["name"]) if found else None

    # Asking --------------------------------------------------------------------------------------------------

    def together(self, operation: str, params: Mapping[str, JsonObject], timeout_s: float) -> dict[str, JsonObject]:
        """Ask several hosts for the same operation at once and wait for all."""
        answers = {host: self.agents[host].send(operation, p) for host, p in params.items()}
        return self.gather(answers, operation, timeout_s)

    def gather(
        self, answers: dict[str, Answer], operation: str, timeout_s: float, main: str | None = None
    ) -> dict[str, JsonObject]:
        """Wait for all answers.

        With `main`, its answer ends the operation: what the others say after a success does not matter. When one
        fails, the rest are told to stop, and the error that explains the others is raised.
        """
        deadline_s = time.monotonic() + timeout_s
        owners = {answer: host for host, answer in answers.items()}
        pending = set(owners)
        errors: list[CellError] = []
        hurried = False  # whether the deadline is only there to hear what else went wrong
        while pending:
            done, pending = wait(pending, max(0.0, deadline_s - time.monotonic()), FIRST_COMPLETED)
            if not done:
                if hurried:
                    break
                host = main if main is not None and answers[main] in pending else owners[next(iter(pending))]
                errors.append(self.agents[host].timed_out(operation, timeout_s))
            if main is not None and answers[main] in done and answers[main].exception() is None:
                break
            errors += [error for answer in done if isinstance(error := answer.exception(), CellError)]
            # A stage that lost its neighbour may just have seen the driver hang up, its work done.
            if main is not None and answers[main] in pending and all(e.kind == "peer-lost" for e in errors):
                continue
            if errors:
                if not done:
                    break
                hurried = True
                deadline_s = min(deadline_s, time.monotonic() + _ROOT_CAUSE_S)
        if main is not None and answers[main].done() and answers[main].exception() is None:
            wait(answers.values(), _SETTLE_S)  # no host may still be busy with this when the next cell comes
            return {main: answers[main].result()}
        if errors:
            for host, answer in answers.items():
                if not answer.done():
                    self.agents[host].abort()
            wait(answers.values(), _SETTLE_S)
            raise min(errors, key=lambda error: _CAUSES.index(error.kind) if error.kind in _CAUSES else 0)
        return {host: answer.result() for host, answer in answers.items()}

    def restart(self, hosts: Sequence[str]) -> None:
        """Give hosts new workers, which know nothing of what went before. Raises CellError."""
        self.together("restart", {host: {} for host in hosts}, _START_S)

    def abort(self) -> None:
        """End what is in progress on all hosts."""
        for agent in list(self.agents.values()):
            agent.abort()

    def close(self) -> None:
        """Hang up on all agents, at the same time; they stop their workers."""
        agents, self.agents = list(self.agents.values()), {}
        if agents:
            with ThreadPoolExecutor(max_workers=len(agents)) as pool:
                for closed in [pool.submit(agent.close) for agent in agents]:
                    closed.result()


def _agent(host: HostVars, log_file: Path | None) -> LocalAgent | SshAgent:
    if host.connection == "local":
        return LocalAgent(host.name, host.python, log_file)
    from paretopipe_matrix.hosts.ssh import SshAgent

    return SshAgent(host, log_file)


def _cores(facts: JsonObject) -> set[Hashable]:
    return {(facts["boot_id"], cpu) for cpu in facts["cpus"]}
