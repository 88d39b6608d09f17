"""The real testbed: an agent per host for the whole run, and cells measured across them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from paretopipe_matrix.checks import exceeds_link, passes_by_network
from paretopipe_matrix.hosts.agent_client import Answer
from paretopipe_matrix.hosts.ansible import Playbooks
from paretopipe_matrix.hosts.fleet import Fleet
from paretopipe_matrix.hosts.inventory import Inventory
from paretopipe_matrix.hosts.models import LOAD_S, Models
from paretopipe_matrix.hosts.network import Network
from paretopipe_matrix.hosts.rpc_groups import RpcGroups
from paretopipe_matrix.lanes import lanes
from paretopipe_matrix.streams import streams_of
from paretopipe_matrix.testbed import (
    CellError,
    CellRun,
    DepthResult,
    JsonObject,
    ModelDescription,
    ModelRequest,
    ProbeResult,
    Profile,
)
from paretopipe_runtime.transport.backends import BACKENDS


class Session:
    """Agents of all hosts of some pipelines, started at once and closed together.

    The constructor raises CellError where no pipeline can run: hosts cannot be started, or differ in versions.
    """

    def __init__(self, inventory: Inventory, pipelines: list[str], log_dir: Path | None) -> None:
        self._inventory = inventory
        self._playbooks = Playbooks(inventory.path, log_dir)
        self._fleet = Fleet(inventory, pipelines, log_dir)
        self._models = Models(self._fleet, inventory)
        self._rpc_groups = RpcGroups(self._fleet)
        self._aborted = threading.Event()
        self._lanes = lanes(self._fleet.resources())
        lane_of = {name: lane for lane in self._lanes for name in lane}
        self._network = Network(self._fleet, inventory, self._playbooks, lane_of)

    def facts(self) -> dict[str, JsonObject]:
        """Host name -> facts for run.json; a host that could not be started has none."""
        return dict(self._fleet.facts)

    def lanes(self) -> list[tuple[str, ...]]:
        """Pipelines that share hosts, or cores of one machine, together."""
        return self._lanes

    def ansible_calls(self) -> list[JsonObject]:
        """The playbooks that were run."""
        return list(self._playbooks.calls)

    def _hosts(self, pipeline: str) -> tuple[str, ...]:
        return self._inventory.pipeline(pipeline)

    def _require(self, pipeline: str) -> None:
        error = self._fleet.pipeline_error(pipeline)
        if error is not None:
            raise error

    # Models --------------------------------------------------------------------------------------------------

    def describe(
        self, request: ModelRequest, pipeline: str, *, timed: bool, picks: Mapping[str, str] | None = None
    ) -> ModelDescription:
        """Trace the model on all hosts of the pipeline (see `Models.describe`)."""
        return self._models.describe(request, pipeline, timed=timed, picks=picks or {})

    def profile_blocks(self, request: ModelRequest, pipeline: str, repeats: int) -> dict[str, list[JsonObject]]:
        """Block-wise times on every host of the pipeline."""
        self._require(pipeline)
        return self._models.profile_blocks(request, pipeline, repeats)

    # The network ---------------------------------------------------------------------------------------------

    def apply(self, pipeline: str, profile: Profile) -> str:
        """Take a profile for what follows. Raises CellError where it cannot be had, or a host of it is missing."""
        self._require(pipeline)
        self._rpc_groups.leave(self._hosts(pipeline))
        return self._network.apply(pipeline, profile)

    def probe(self, pipeline: str, profile: Profile) -> ProbeResult:
        """Measure the data path between the first two hosts."""
        return self._network.probe(pipeline, profile)

    # Cells ---------------------------------------------------------------------------------------------------

    def measure(self, run: CellRun, on_progress: Callable[[JsonObject], None]) -> list[DepthResult]:
        """Prepare all stages, run the cell, check the output. Raises CellError with the depths that were finished.

        After a failure over rpc the pipeline's hosts get new workers: a broken group would fail the next cells too.
        """
        hosts = self._hosts(run.pipeline)
        cuts = [cut.index for cut in run.cuts]
        if len(cuts) != len(hosts) - 1:
            raise CellError(
                "request", f"{len(cuts)} cut(s) make {len(cuts) + 1} stages, {run.pipeline} has {len(hosts)} hosts"
            )
        while cuts and cuts[-1] == run.n_cuts:
            # Nothing is left for the last host: it takes no part. Cut N alone is one stage, and nothing crosses a link.
            hosts, cuts = hosts[:-1], cuts[:-1]
        self._refuse(run, hosts)
        try:
            return self._measure(run, hosts, cuts, on_progress)
        except CellError:
            if not self._aborted.is_set():
                if len(hosts) > 1 and BACKENDS[run.backend].kind == "rpc":
                    self._rpc_groups.replace(self._hosts(run.pipeline))
                else:  # the group that rpc cells share may have lost a member
                    self._rpc_groups.leave(hosts)
            raise

    def _refuse(self, run: CellRun, hosts: Sequence[str]) -> None:
        """Raise CellError where a host that takes part lacks the engine or the backend, before anything is built."""
        for host in hosts:
            error = self._models.why_not(host, run.request)
            if error is not None:
                raise error
            if len(hosts) > 1 and BACKENDS[run.backend].kind == "rpc" and not self._fleet.facts[host]["rpc_available"]:
                torch = self._fleet.facts[host]["torch"]
                raise CellError(
                    "refused",
                    f"backend {run.backend}: torch {torch} there has no RPC (torch.distributed.rpc)",
                    host,
                    "install a torch that has it on all hosts, or choose backend socket",
                )

    def _measure(
        self, run: CellRun, hosts: Sequence[str], cuts: list[int], on_progress: Callable[[JsonObject], None]
    ) -> list[DepthResult]:
        prepared = self._prepare(run, hosts, cuts)
        driver = self._fleet.agents[hosts[0]]
        finished: list[DepthResult] = []

        def on_event(event: JsonObject) -> None:
            finished.append(self._depth_result(run, event, prepared, hosts))
            on_progress({"depth": event["depth"]})

        driver.on_event = on_event
        try:
            self._run(run, hosts, prepared)
        except CellError as error:
            error.finished = finished
            raise
        finally:
            driver.on_event = lambda _event: None
        return finished

    def _prepare(self, run: CellRun, hosts: Sequence[str], cuts: list[int]) -> dict[str, JsonObject]:
        secret = secrets.token_hex(32)
        params = {}
        split = len(hosts) > 1
        rpc = split and BACKENDS[run.backend].kind == "rpc"
        group = self._rpc_groups.token(run.pipeline, hosts, run.backend) if rpc else None
        # What rpc sends over is TensorPipe's own matter, and its name says what.
        modelled = self._inventory.is_local(run.pipeline)
        streams = 1 if rpc else streams_of(run.streams, run.profile, modelled=modelled)
        for index, host in enumerate(hosts):
            place = self._inventory.hosts[host]
            params[host] = self._models.params(run.request, run.pipeline, host) | {
                "cell": run.cell_id,
                "backend": run.backend,
                "interface": self._fleet.interface(host),
                "cuts": cuts,
                "stage": index,
                "stages": len(hosts),
                "secret": secret,
                "listen_address": place.data_address,
                "listen_port": place.data_port,
                "egress": self._network.egress(run.pipeline, index, len(hosts), run.round) if split else None,
                "rpc_group": group,
                "streams": streams,
            }
        prepared = self._fleet.together("prepare", params, LOAD_S)
        for host, answer in prepared.items():
            if split and not rpc and answer["transport"]["streams"] != streams:  # never measured as what it is not
                used = answer["transport"]["streams"]
                raise CellError("request", f"{streams} streams were asked for, the host uses {used}", host)
        return prepared

    def _run(self, run: CellRun, hosts: Sequence[str], prepared: dict[str, JsonObject]) -> dict[str, JsonObject]:
        def peer_of(index: int) -> JsonObject | None:
            if len(hosts) == 1:
                return None
            host = hosts[(index + 1) % len(hosts)]
            return {"address": self._inventory.hosts[host].data_address, "port": prepared[host]["port"]}

        port = prepared[hosts[0]].get("rendezvous_port")
        rendezvous = {"address": self._inventory.hosts[hosts[0]].data_address, "port": port} if port else None
        answers: dict[str, Answer] = {}
        for index, host in reversed(list(enumerate(hosts))):
            if index > 0:
                answers[host] = self._fleet.agents[host].send(
                    "serve", {"peer": peer_of(index), "rendezvous": rendezvous}
                )
            else:
                answers[host] = self._fleet.agents[host].send(
                    "measure",
                    {
                        "peer": peer_of(0),
                        "rendezvous": rendezvous,
                        "depths": list(run.depths),
                        "warmup_batches": run.warmup_batches,
                        "window": {
                            "batches": run.window.batches,
                            "seconds": run.window.seconds,
                            "min_batches": run.window.min_batches,
                        },
                    },
                )
        return self._fleet.gather(answers, "the cell", run.timeout_s, main=hosts[0])

    def _depth_result(
        self, run: CellRun, event: JsonObject, prepared: dict[str, JsonObject], hosts: Sequence[str]
    ) -> DepthResult:
        measured: JsonObject = event["measured"]
        for stage, host in zip(measured["stages"], hosts, strict=True):
            stage["host"] = host
            stage["engine"], stage["setup_s"] = prepared[host]["engine"], prepared[host]["setup_s"]
            facts = self._fleet.facts[host]
            stage["mem_pct"] = 100.0 * stage["rss_bytes"] / facts["memory_total_bytes"]
            gpu, used_bytes = facts.get("gpu_device"), stage["gpu_mem_bytes"]
            stage["gpu_mem_pct"] = 100.0 * used_bytes / gpu["memory_total_bytes"] if gpu and used_bytes else None
        output = event["output"]
        measured |= {
            "transport": prepared[hosts[0]]["transport"],
            "output_bitwise": output["bitwise"],
            "output_max_rel_err": output["max_rel_err"],
            "graph_hash": prepared[hosts[0]]["graph_hash"],
            "weight_hash": prepared[hosts[0]]["weight_hash"],
        }
        reason = None
        if not output["within_tolerance"]:
            reason = f"output differs from the unsplit model's by {output['max_rel_err']:.2g} of its largest value"
        elif len(hosts) > 1:
            reason = exceeds_link(measured, run.request.batch_size, run.profile) or passes_by_network(
                measured, event["depth"], [cut.nbytes for cut in run.cuts], [self._fleet.interface(h) for h in hosts]
            )
        if measured["valid"] and reason is not None:
            measured |= {"valid": False, "invalid_reason": reason}
        return DepthResult(event["depth"], measured, event["samples"])

    def abort(self) -> None:
        """End what is in progress on all hosts. A playbook is left to finish: half of one could follow its undoing."""
        self._aborted.set()
        self._fleet.abort()

    def close(self) -> None:
        """Put the network back, hang up on all agents; they stop their workers."""
        try:
            if not self._aborted.is_set():  # else the workers' end has to do
                self._rpc_groups.close()
            self._network.close(lambda text: click.echo(text, err=True))
        finally:
            self._fleet.close()
