"""Pipelines of two hosts on this machine, one or both with its GPU; results against the unsplit model on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import DepthResult
from paretopipe_runtime.model.engines.registry import ENGINES
from paretopipe_runtime.transport.backends import BACKENDS
from tests.gpu.conftest import needs_gpu
from tests.integration.conftest import REQUEST, cell

pytestmark = needs_gpu
TOLERANCE = 1e-3
SessionOn = Callable[[str, str], Session]


def measure(
    session: Session, position: float, model: str = "mobilenet_v2", engine: str = "eager", backend: str = "socket"
) -> list[DepthResult]:
    """The cell at a share of all cuts (0: all on the second host, 1: all on the first)."""
    request = replace(REQUEST, model=model, engine=engine, batch_size=4)
    described = session.describe(request, "local", timed=False)
    run = cell(described, round(position * (len(described.cuts) - 1)), backend=backend)
    return session.measure(replace(run, window=replace(run.window, batches=12)), lambda _event: None)


def check(results: list[DepthResult], devices: list[str]) -> None:
    """`devices`: of the stages that compute, None for one that only passes images on."""
    assert [result.depth for result in results] == [1, 3]
    for result in results:
        measured = result.measured
        assert measured["output_max_rel_err"] <= TOLERANCE
        assert len(measured["stages"]) == len(devices)
        for stage, device in zip(measured["stages"], devices, strict=True):
            if device == "cuda":
                assert 0 < stage["kernel_s"] <= stage["exec_s"]
                assert stage["gpu_mem_bytes"] > 1e6
                assert 0 < stage["gpu_mem_pct"] < 100
            else:
                assert stage["kernel_s"] is None


@pytest.mark.parametrize(("edge", "server"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_gpu_stages_equal_the_cpu(session_on: SessionOn, edge: str, server: str) -> None:
    session = session_on(edge, server)
    check(measure(session, 0.0), ["passes on", server])
    check(measure(session, 0.3), [edge, server])
    check(measure(session, 0.8), [edge, server])
    check(measure(session, 1.0), [edge])


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_engines_on_a_gpu_equal_the_cpu(session_on: SessionOn, engine: str) -> None:
    why_not = ENGINES[engine].why_not(torch.device("cuda", 0))
    if why_not is not None:
        pytest.skip(f"{engine} cannot be had on this GPU: {why_not}")
    check(measure(session_on("cpu", "cuda"), 0.4, engine=engine), ["cpu", "cuda"])


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_every_backend_reaches_and_leaves_a_gpu(session_on: SessionOn, backend: str) -> None:
    check(measure(session_on("cpu", "cuda"), 0.4, backend=backend), ["cpu", "cuda"])
