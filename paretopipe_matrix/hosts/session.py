"""The real testbed: an agent per host for the whole run, and cells measured across them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import click

from paretopipe_matrix.checks import exceeds_link
from paretopipe_matrix.hosts.agent_client import Answer
from paretopipe_matrix.hosts.ansible import Playbooks
from paretopipe_matrix.hosts.fleet import Fleet
from paretopipe_matrix.hosts.inventory import Inventory
from paretopipe_matrix.hosts.network import Network
from paretopipe_matrix.lanes import lanes
from paretopipe_matrix.testbed import (
    CellError,
    CellRun,
    CutInfo,
    DepthResult,
    JsonObject,
    ModelDescription,
    ModelRequest,
    ProbeResult,
    Profile,
)

_LOAD_S = 600.0


class Session:
    """Agents of all hosts of some pipelines, started at once and closed together.

    The constructor raises CellError where no pipeline can run: hosts cannot be started, or differ in versions.
    """

    def __init__(self, inventory: Inventory, pipelines: list[str], log_dir: Path | None) -> None:
        self._inventory = inventory
        self._described: dict[tuple[ModelRequest, str], JsonObject] = {}
        self._playbooks = Playbooks(inventory.path, log_dir)
        self._fleet = Fleet(inventory, pipelines, log_dir)
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

    def describe(self, request: ModelRequest, pipeline: str, *, timed: bool) -> ModelDescription:
        """Trace the model on all hosts of the pipeline, and require that they got the same.

        Cuts do not depend on the host: a pipeline with a missing host is described by those that are there.
        """
        hosts = self._fleet.live(pipeline)
        base = _request_params(request)
        answers = self._fleet.together(
            "describe", {host: base | {"source": host == hosts[0], "timed": timed} for host in hosts}, _LOAD_S
        )
        first = answers[hosts[0]]
        for host in hosts[1:]:
            for what, remedy in (
                ("graph_hash", "install the same torchvision (or the same model code) on both"),
                ("weight_hash", "give both the same weights (same file, or the same seed)"),
            ):
                if answers[host][what] != first[what]:
                    values = f"{first[what]} on {hosts[0]}, {answers[host][what]} on {host}"
                    raise CellError(
                        "handshake",
                        f"{request.model}: {what} differs: {values}",
                        host,
                        remedy,
                    )
        self._described[request, pipeline] = first
        return ModelDescription(
            request=request,
            cuts=tuple(CutInfo(**cut) for cut in first["cuts"]),
            n_blocks=first["n_blocks"],
            parameters=first["parameters"],
            graph_hash=first["graph_hash"],
            weight_hash=first["weight_hash"],
            segment_exec_s={host: tuple(answer["segment_exec_s"]) for host, answer in answers.items()} if timed else {},
        )

    def profile_blocks(self, request: ModelRequest, pipeline: str, repeats: int) -> dict[str, list[JsonObject]]:
        """Block-wise times, host after host, so that hosts that share cores do not disturb each other."""
        self._require(pipeline)
        rows: dict[str, list[JsonObject]] = {}
        for host in self._hosts(pipeline):
            answer = self._fleet.agents[host].call(
                "profile_blocks", _request_params(request) | {"repeats": repeats}, _LOAD_S + 60 * repeats
            )
            rows[host] = [row | {"exec_s": median(row["exec_samples_s"])} for row in answer["rows"]]
        return rows

    # The network ---------------------------------------------------------------------------------------------

    def apply(self, pipeline: str, profile: Profile) -> str:
        """Take a profile for what follows. Raises CellError where it cannot be had, or a host of it is missing."""
        self._require(pipeline)
        return self._network.apply(pipeline, profile)

    def probe(self, pipeline: str, profile: Profile) -> ProbeResult:
        """Measure the data path between the first two hosts."""
        return self._network.probe(pipeline, profile)

    # Cells ---------------------------------------------------------------------------------------------------

    def measure(self, run: CellRun, on_progress: Callable[[JsonObject], None]) -> list[DepthResult]:
        """Prepare all stages, run the cell, check the output. Raises CellError with the depths that were finished."""
        hosts = self._hosts(run.pipeline)
        cuts = [cut.index for cut in run.cuts]
        if len(cuts) != len(hosts) - 1:
            raise CellError(
                "request", f"{len(cuts)} cut(s) make {len(cuts) + 1} stages, {run.pipeline} has {len(hosts)} hosts"
            )
        while cuts and cuts[-1] == run.n_cuts:
            # Nothing is left for the last host: it takes no part. Cut N alone is one stage, and nothing crosses a link.
            hosts, cuts = hosts[:-1], cuts[:-1]
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
        described = self._described[run.request, run.pipeline]
        secret = secrets.token_hex(32)
        params = {}
        split = len(hosts) > 1
        for index, host in enumerate(hosts):
            place = self._inventory.hosts[host]
            params[host] = _request_params(run.request) | {
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
                "image_shape": described["image_shape"],
            }
        return self._fleet.together("prepare", params, _LOAD_S)

    def _run(self, run: CellRun, hosts: Sequence[str], prepared: dict[str, JsonObject]) -> dict[str, JsonObject]:
        def peer_of(index: int) -> JsonObject | None:
            if len(hosts) == 1:
                return None
            host = hosts[(index + 1) % len(hosts)]
            return {"address": self._inventory.hosts[host].data_address, "port": prepared[host]["port"]}

        answers: dict[str, Answer] = {}
        for index, host in reversed(list(enumerate(hosts))):
            if index > 0:
                answers[host] = self._fleet.agents[host].send("serve", {"peer": peer_of(index)})
            else:
                answers[host] = self._fleet.agents[host].send(
                    "measure",
                    {
                        "peer": peer_of(0),
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
            stage["gpu_mem_pct"] = None
            stage["mem_pct"] = 100.0 * stage["rss_bytes"] / self._fleet.facts[host]["memory_total_bytes"]
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
            reason = exceeds_link(measured, run.request.batch_size, run.profile)
        if measured["valid"] and reason is not None:
            measured |= {"valid": False, "invalid_reason": reason}
        return DepthResult(event["depth"], measured, event["samples"])

    def abort(self) -> None:
        """End what is in progress on all hosts. A playbook is left to finish: half of one could follow its undoing."""
        self._fleet.abort()

    def close(self) -> None:
        """Put the network back, hang up on all agents; they stop their workers."""
        try:
            self._network.close(lambda text: click.echo(text, err=True))
        finally:
            self._fleet.close()


def _request_params(request: ModelRequest) -> JsonObject:
    return {
        "model": request.model,
        "weights": request.weights,
        "seed": request.seed,
        "batch_size": request.batch_size,
        "granularity": request.granularity,
        "input": request.input,
        "input_encoding": request.input_encoding,
        "engine": request.engine,
    }
