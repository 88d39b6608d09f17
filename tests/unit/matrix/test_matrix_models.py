"""What hosts are told of models and engines: picks that hold for a run, and engines that a host cannot have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paretopipe_matrix.context import Descriptions
from paretopipe_matrix.hosts.inventory import HostVars, Inventory
from paretopipe_matrix.hosts.models import Models
from paretopipe_matrix.testbed import ModelRequest

JsonObject = dict[str, Any]
REQUEST = ModelRequest("m", "random", 0, 1, "block", "synthetic", "raw", "best")
LACKING = {"eager": None, "fused": None, "best": None, "onnxruntime": "the package onnxruntime is not installed"}


class Fleet:
    """Hosts that describe a model of one cut; `fastest` is what each finds out to be its best engine."""

    def __init__(self, fastest: Mapping[str, str]) -> None:
        self.fastest = fastest
        self.asked: dict[str, JsonObject] = {}
        self.at_once: list[int] = []
        self.facts: dict[str, JsonObject] = {host: {"engines": {}, "cpus_shared": False} for host in fastest}
        self.agents: dict[str, SimpleNamespace] = {}

    def live(self, pipeline: str) -> list[str]:
        return list(self.facts)

    def together(self, operation: str, params: Mapping[str, JsonObject], timeout_s: float) -> dict[str, JsonObject]:
        assert operation == "describe"
        self.asked |= params
        self.at_once.append(len(params))
        return {host: self._described(host, asked["engine"]) for host, asked in params.items()}

    def _described(self, host: str, engine: str) -> JsonObject:
        picked = self.fastest[host] if engine == "best" else engine
        return {
            "cuts": [{"index": 0, "name": "input", "paper_name": None, "nbytes": 3}],
            "n_blocks": 1,
            "parameters": 0,
            "graph_hash": "g",
            "weight_hash": "w",
            "image_shape": [32, 32],
            "segment_exec_s": [0.1],
            "engines": {"asked": engine, "picked": picked, "exec_s": {picked: 0.1}, "profiling_s": 1.0},
        }

    def describe(self, request: ModelRequest, pipeline: str, *, timed: bool, picks: Mapping[str, str]) -> Any:
        """As a testbed has it."""
        return self.models.describe(request, pipeline, timed=timed, picks=picks)

    models: Models


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet({"pi": "onnxruntime", "server": "fused"})
    hosts = {"pi": HostVars("pi"), "server": HostVars("server", engine="fused")}
    made.models = Models(made, Inventory(Path("x.yml"), hosts, {"p": ("pi", "server")}))  # type: ignore[arg-type]
    return made


def engines_told(fleet: Fleet, request: ModelRequest = REQUEST) -> dict[str, str]:
    return {host: fleet.models.params(request, "p", host)["engine"] for host in fleet.facts}


def test_best_is_each_hosts_own_and_settled_before_the_first_cell(fleet: Fleet) -> None:
    described = fleet.models.describe(REQUEST, "p", timed=True, picks={})
    assert {asked["engine"] for asked in fleet.asked.values()} == {"best"}
    assert engines_told(fleet) == {"pi": "onnxruntime", "server": "fused"}
    assert described.engines["pi"]["picked"] == "onnxruntime"


def test_hosts_that_share_cores_find_their_best_engine_in_turn(fleet: Fleet) -> None:
    fleet.models.describe(REQUEST, "p", timed=True, picks={})
    fleet.facts["pi"]["cpus_shared"] = fleet.facts["server"]["cpus_shared"] = True
    fleet.models.describe(REQUEST, "p", timed=True, picks={})
    fleet.models.describe(REQUEST, "p", timed=True, picks={"pi": "fused", "server": "eager"})
    assert fleet.at_once == [2, 1, 1, 2], "nothing is profiled where the picks are known"


def test_a_resumed_run_keeps_the_picks_that_it_began_with(fleet: Fleet) -> None:
    begun = Descriptions(fleet)  # type: ignore[arg-type]
    begun(REQUEST, "p")
    fleet.fastest = {"pi": "eager", "server": "eager"}  # a close race may end otherwise next time
    resumed = Descriptions(fleet, begun.as_json())  # type: ignore[arg-type]
    resumed(REQUEST, "p")
    assert {host: asked["engine"] for host, asked in fleet.asked.items()} == {"pi": "onnxruntime", "server": "fused"}
    assert engines_told(fleet) == {"pi": "onnxruntime", "server": "fused"}


def test_a_host_without_the_engine_is_described_all_the_same_and_named(fleet: Fleet) -> None:
    fleet.facts["server"]["engines"] = LACKING
    request = ModelRequest("m", "random", 0, 1, "block", "synthetic", "raw", "onnxruntime")
    fleet.models.describe(request, "p", timed=False, picks={})
    assert {host: asked["engine"] for host, asked in fleet.asked.items()} == {"pi": "onnxruntime", "server": "eager"}
    assert fleet.models.why_not("pi", request) is None
    error = fleet.models.why_not("server", request)
    assert error is not None
    assert (error.kind, error.host) == ("engine", "server")
    assert "the package onnxruntime is not installed" in error.message
    assert "paretopipe_extras" in str(error.remedy)


def test_the_hosts_own_choice_counts_where_best_is_asked_for(fleet: Fleet) -> None:
    fleet.facts["server"]["engines"] = LACKING | {"fused": "no conv to fuse"}
    error = fleet.models.why_not("server", REQUEST)
    assert error is not None
    assert "engine fused" in error.message
    assert fleet.models.why_not("pi", REQUEST) is None
