"""Models as the hosts of a pipeline know them: described and compared, profiled, and by which engine each computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from statistics import median

from paretopipe_matrix.hosts.fleet import Fleet
from paretopipe_matrix.hosts.inventory import Inventory
from paretopipe_matrix.testbed import CellError, CutInfo, JsonObject, ModelDescription, ModelRequest

LOAD_S = 600.0
"""For a host to load a model, build a stage of it, or find out which engine is its best."""

_SAME_EVERYWHERE = (
    ("graph_hash", "install the same torchvision (or the same model code) on both"),
    ("weight_hash", "give both the same weights (same file, or the same seed)"),
)
_EXTRAS = ("onnxruntime",)
"""Engines that an extra of the same name installs (roles/runtime)."""


class Models:
    """What was described so far, by request and pipeline."""

    def __init__(self, fleet: Fleet, inventory: Inventory) -> None:
        self._fleet = fleet
        self._inventory = inventory
        self._image_shapes: dict[tuple[ModelRequest, str], list[int]] = {}
        self._picks: dict[tuple[ModelRequest, str, str], str] = {}

    def describe(
        self, request: ModelRequest, pipeline: str, *, timed: bool, picks: Mapping[str, str]
    ) -> ModelDescription:
        """Trace the model on all hosts of the pipeline, and require that they got the same. Raises CellError.

        Cuts depend neither on the host nor on the engine: a pipeline with a missing host is described by those that
        are there, and a host that lacks the engine takes part with another (its cells will fail, and say why).
        """
        hosts = self._fleet.live(pipeline)
        params = {
            host: asdict(request)
            | {
                "engine": picks.get(host, request.engine) if self.why_not(host, request) is None else "eager",
                "source": host == hosts[0],
                "timed": timed,
            }
            for host in hosts
        }
        answers = self._described(params)
        first = answers[hosts[0]]
        for host in hosts[1:]:
            for what, remedy in _SAME_EVERYWHERE:
                if answers[host][what] != first[what]:
                    values = f"{first[what]} on {hosts[0]}, {answers[host][what]} on {host}"
                    raise CellError("handshake", f"{request.model}: {what} differs: {values}", host, remedy)
        self._image_shapes[request, pipeline] = first["image_shape"]
        engines = {host: answer["engines"] for host, answer in answers.items() if answer.get("engines")}
        for host in hosts:
            picked = engines[host]["picked"] if host in engines else request.engine
            self._picks[request, pipeline, host] = picks.get(host, picked)
        return ModelDescription(
            request=request,
            cuts=tuple(CutInfo(**cut) for cut in first["cuts"]),
            n_blocks=first["n_blocks"],
            parameters=first["parameters"],
            graph_hash=first["graph_hash"],
            weight_hash=first["weight_hash"],
            segment_exec_s={host: tuple(answer["segment_exec_s"]) for host, answer in answers.items()} if timed else {},
            engines=engines,
        )

    def _described(self, params: Mapping[str, JsonObject]) -> dict[str, JsonObject]:
        """All answers; one after the other where hosts that share cores find out which engine is their best."""
        profiling = any(asked["engine"] == "best" for asked in params.values())
        if profiling and any(self._fleet.facts[host]["cpus_shared"] for host in params):
            return {
                host: self._fleet.together("describe", {host: asked}, LOAD_S)[host] for host, asked in params.items()
            }
        return self._fleet.together("describe", params, LOAD_S)

    def profile_blocks(self, request: ModelRequest, pipeline: str, repeats: int) -> dict[str, list[JsonObject]]:
        """Block-wise times, host after host, so that hosts that share cores do not disturb each other.

        Raises CellError, also where a host lacks the engine.
        """
        rows: dict[str, list[JsonObject]] = {}
        for host in self._inventory.pipeline(pipeline):
            error = self.why_not(host, request)
            if error is not None:
                raise error
            engine = self._picks.get((request, pipeline, host), request.engine)
            answer = self._fleet.agents[host].call(
                "profile_blocks",
                asdict(request) | {"engine": engine, "repeats": repeats},
                LOAD_S + 60 * repeats,
            )
            rows[host] = [row | {"exec_s": median(row["exec_samples_s"])} for row in answer["rows"]]
        return rows

    def params(self, request: ModelRequest, pipeline: str, host: str) -> JsonObject:
        """What `prepare` is told of the model; `best` is by now the engine that it stands for on that host."""
        return asdict(request) | {
            "engine": self._picks[request, pipeline, host],
            "image_shape": self._image_shapes[request, pipeline],
        }

    def why_not(self, host: str, request: ModelRequest) -> CellError | None:
        """Why a host cannot compute as asked, if its worker's facts say so already."""
        engine = self._inventory.hosts[host].engine if request.engine == "best" else request.engine
        reason = self._fleet.facts[host].get("engines", {}).get(engine)
        if reason is None:
            return None
        extra = f"add {engine} to paretopipe_extras and provision {host} again, or " if engine in _EXTRAS else ""
        return CellError("engine", f"engine {engine} cannot be had: {reason}", host, f"{extra}choose another engine")
