"""The real testbed: an agent per host for the whole run, and cells measured across them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from statistics import median

from paretopipe_matrix.checks import exceeds_link
from paretopipe_matrix.hosts.agent_client import Answer, LocalAgent
from paretopipe_matrix.hosts.inventory import HostVars, Inventory, assign_cpus
from paretopipe_matrix.testbed import (
    CellError,
    CellRun,
    CutInfo,
    DepthResult,
    JsonObject,
    Link,
    ModelDescription,
    ModelRequest,
    ProbeResult,
    Profile,
)

_START_S = 120.0
_LOAD_S = 600.0
_PROBE_S = 60.0
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


class Session:
    """Agents of all hosts of some pipelines, started at once and closed together.

    The constructor raises CellError if a host cannot be started, or if hosts run different torch versions.
    """

    def __init__(self, inventory: Inventory, pipelines: list[str], log_dir: Path | None) -> None:
        self._inventory = inventory
        self._agents: dict[str, LocalAgent] = {}
        self._facts: dict[str, JsonObject] = {}
        self._described: dict[tuple[ModelRequest, str], JsonObject] = {}
        self._shaped: dict[str, Profile] = {}
        hosts = list(dict.fromkeys(host for name in pipelines for host in inventory.pipeline(name)))
        try:
            self._start([inventory.hosts[name] for name in hosts], log_dir)
        except BaseException:
            self.close()
            raise

    # Hosts ---------------------------------------------------------------------------------------------------

    def _start(self, hosts: Sequence[HostVars], log_dir: Path | None) -> None:
        placements = assign_cpus(hosts, os.sched_getaffinity(0))
        configured: dict[str, Answer] = {}
        for host in hosts:
            log_file = log_dir / host.name / "worker.log" if log_dir else None
            agent = self._agents[host.name] = LocalAgent(host.name, host.python, log_file)
            placement = placements[host.name]
            configured[host.name] = agent.send(
                "configure",
                {
                    "host": host.name,
                    "cpus": list(placement.cpus),
                    "threads": placement.threads,
                    "data_address": host.data_address,
                },
            )
        for name, answer in configured.items():
            agent, placement = self._agents[name], placements[name]
            facts = agent.wait(answer, "configure", _START_S)
            worker = agent.wait(agent.worker_ready, "starting its worker", _START_S)
            self._facts[name] = facts | worker | {"cpus": list(placement.cpus), "cpus_shared": placement.cpus_shared}
        self._require_same_versions()

    def _require_same_versions(self) -> None:
        for what in ("paretopipe", "torch", "torchvision"):
            found = {name: facts[what] for name, facts in self._facts.items()}
            if len(set(found.values())) > 1:
                raise CellError(
                    "handshake",
                    f"{what} differs between hosts: {', '.join(f'{name} has {v}' for name, v in found.items())}",
                    None,
                    "install the same version on all (versions are pinned in constraints.txt)",
                )

    def facts(self) -> dict[str, JsonObject]:
        """Host name -> facts for run.json."""
        return dict(self._facts)

    def _hosts(self, pipeline: str) -> tuple[str, ...]:
        return self._inventory.pipeline(pipeline)

    def _together(self, operation: str, params: dict[str, JsonObject], timeout_s: float) -> dict[str, JsonObject]:
        """Ask several hosts for the same operation at once and wait for all."""
        answers = {host: self._agents[host].send(operation, p) for host, p in params.items()}
        return self._gather(answers, operation, timeout_s)

    def _gather(
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
        while pending:
            done, pending = wait(pending, max(0.0, deadline_s - time.monotonic()), FIRST_COMPLETED)
            if not done:
                host = main if main is not None and answers[main] in pending else owners[next(iter(pending))]
                errors.append(self._agents[host].timed_out(operation, timeout_s))
            if main is not None and answers[main] in done and answers[main].exception() is None:
                break
            errors += [error for answer in done if isinstance(error := answer.exception(), CellError)]
            # A stage that lost its neighbour may just have seen the driver hang up, its work done.
            if main is not None and answers[main] in pending and all(e.kind == "peer-lost" for e in errors):
                continue
            if errors:
                deadline_s = min(deadline_s, time.monotonic() + _ROOT_CAUSE_S)
                if not done:
                    break
        if main is not None and answers[main].done() and answers[main].exception() is None:
            self._settle(answers)
            return {main: answers[main].result()}
        if errors:
            self._stop(answers)
            self._settle(answers)
            raise min(errors, key=lambda error: _CAUSES.index(error.kind) if error.kind in _CAUSES else 0)
        return {host: answer.result() for host, answer in answers.items()}

    def _stop(self, answers: dict[str, Answer]) -> None:
        for host, answer in answers.items():
            if not answer.done():
                self._agents[host].abort()

    def _settle(self, answers: dict[str, Answer]) -> None:
        """No host may still be busy with this when the next cell comes."""
        wait(answers.values(), _SETTLE_S)

    # Models --------------------------------------------------------------------------------------------------

    def describe(self, request: ModelRequest, pipeline: str, *, timed: bool) -> ModelDescription:
        """Trace the model on all hosts of the pipeline, and require that they got the same."""
        hosts = self._hosts(pipeline)
        base = _request_params(request)
        answers = self._together(
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
        rows: dict[str, list[JsonObject]] = {}
        for host in self._hosts(pipeline):
            answer = self._agents[host].call(
                "profile_blocks", _request_params(request) | {"repeats": repeats}, _LOAD_S + 60 * repeats
            )
            rows[host] = [row | {"exec_s": median(row["exec_samples_s"])} for row in answer["rows"]]
        return rows

    # The network ---------------------------------------------------------------------------------------------

    def apply(self, pipeline: str, profile: Profile) -> str:
        """Take a profile for what follows; on local hosts the link model in the sockets enforces it.

        Raises CellError (`network`) for what the link model cannot do.
        """
        self._shaped[pipeline] = profile
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

    def _egress(self, pipeline: str, stage: int, stages: int, seed: int = 0) -> JsonObject | None:
        """What is imposed on what a stage sends: first-egress at the first one, first-ingress at the last one."""
        links = self._shaped[pipeline].links
        link: Link | None = None
        if stage == 0:
            link = links.get("first-egress")
        elif stage == stages - 1:
            link = links.get("first-ingress")
        if link is None:
            return None
        return {"delay_s": link.delay_s, "jitter_s": link.jitter_s, "rate_bit_s": link.rate_bit_s, "seed": seed}

    def probe(self, pipeline: str, profile: Profile) -> ProbeResult:
        """Measure between the first two hosts, through the same kind of channel as the activations'."""
        hosts = self._hosts(pipeline)
        if len(hosts) < 2:
            raise CellError("network", f"pipeline {pipeline} has one host: there is no path to measure", hosts[0])
        prober, answerer = hosts[0], hosts[1]
        place = self._inventory.hosts[answerer]
        secret = secrets.token_hex(32)
        port = self._agents[answerer].call(
            "probe_listen", {"listen_address": place.data_address, "listen_port": place.data_port}, _PROBE_S
        )["port"]
        first_egress = profile.links.get("first-egress")
        common = {"secret": secret, "timeout_s": 20.0}
        answers = {
            answerer: self._agents[answerer].send("probe_serve", common | {"egress": self._egress(pipeline, 1, 2)}),
            prober: self._agents[prober].send(
                "probe",
                common
                | {
                    "peer": {"address": place.data_address, "port": port},
                    "egress": self._egress(pipeline, 0, 2),
                    "rate_bit_s": first_egress.rate_bit_s if first_egress else None,
                },
            ),
        }
        results = self._gather(answers, "probe", _PROBE_S)
        samples = tuple(results[prober]["rtt_samples_s"])
        return ProbeResult(
            rtt_s=median(samples),
            rtt_samples_s=samples,
            bandwidth_bit_s=results[answerer]["bandwidth_bit_s"],
            bandwidth_bytes=results[answerer]["bandwidth_bytes"],
            vitals={host: self._agents[host].call("vitals", timeout_s=10.0) for host in hosts},
        )

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
        driver = self._agents[hosts[0]]
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
        for index, host in enumerate(hosts):
            place = self._inventory.hosts[host]
            params[host] = _request_params(run.request) | {
                "cell": run.cell_id,
                "cuts": cuts,
                "stage": index,
                "stages": len(hosts),
                "secret": secret,
                "listen_address": place.data_address,
                "listen_port": place.data_port,
                "egress": self._egress(run.pipeline, index, len(hosts), seed=run.round) if len(hosts) > 1 else None,
                "image_shape": described["image_shape"],
            }
        return self._together("prepare", params, _LOAD_S)

    def _run(self, run: CellRun, hosts: Sequence[str], prepared: dict[str, JsonObject]) -> dict[str, JsonObject]:
        def peer_of(index: int) -> JsonObject | None:
            if len(hosts) == 1:
                return None
            host = hosts[(index + 1) % len(hosts)]
            return {"address": self._inventory.hosts[host].data_address, "port": prepared[host]["port"]}

        answers: dict[str, Answer] = {}
        for index, host in reversed(list(enumerate(hosts))):
            if index > 0:
                answers[host] = self._agents[host].send("serve", {"peer": peer_of(index)})
            else:
                answers[host] = self._agents[host].send(
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
        return self._gather(answers, "the cell", run.timeout_s, main=hosts[0])

    def _depth_result(
        self, run: CellRun, event: JsonObject, prepared: dict[str, JsonObject], hosts: Sequence[str]
    ) -> DepthResult:
        measured: JsonObject = event["measured"]
        for stage, host in zip(measured["stages"], hosts, strict=True):
            stage["host"] = host
            stage["mem_pct"] = 100.0 * stage["rss_bytes"] / self._facts[host]["memory_total_bytes"]
        output = event["output"]
        measured |= {
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
        """End what is in progress on all hosts."""
        for agent in self._agents.values():
            agent.abort()

    def close(self) -> None:
        """Hang up on all agents; they stop their workers."""
        for agent in self._agents.values():
            agent.close()


def _request_params(request: ModelRequest) -> JsonObject:
    return {
        "model": request.model,
        "weights": request.weights,
        "seed": request.seed,
        "batch_size": request.batch_size,
        "granularity": request.granularity,
        "input": request.input,
        "input_encoding": request.input_encoding,
    }
