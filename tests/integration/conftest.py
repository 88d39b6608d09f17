"""Real agents and workers on loopback, and cells to measure on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from paretopipe_matrix.hosts.inventory import HostVars, Inventory
from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import CellRun, Link, ModelDescription, ModelRequest, Profile, Window

LAN = Profile("lan")
DURESS = Profile("duress", {"first-egress": Link(delay_s=0.2, rate_bit_s=5e6)})
REQUEST = ModelRequest(
    model="squeezenet1_1",
    weights="random",
    seed=0,
    batch_size=1,
    granularity="block",
    input="synthetic:64",
    input_encoding="raw",
    engine="eager",
)


def inventory(**changes: HostVars) -> Inventory:
    hosts = {name: HostVars(name) for name in ("edge", "server")} | changes
    return Inventory(Path("test.yml"), hosts, {"local": ("edge", "server")})


def cell(described: ModelDescription, cut: int, profile: Profile = LAN, **changes: object) -> CellRun:
    """Cut number `cut` in order; a short window."""
    chosen = described.cuts[cut]
    run = CellRun(
        cell_id=f"{described.request.model}-{chosen.index}",
        request=described.request,
        cuts=(chosen,),
        n_cuts=described.cuts[-1].index,
        backend="socket",
        pipeline="local",
        profile=profile,
        depths=(1, 3),
        window=Window(batches=8, seconds=None, min_batches=1),
        warmup_batches=2,
        round=1,
        timeout_s=60.0,
    )
    return replace(run, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    opened = Session(inventory(), ["local"], None)
    opened.apply("local", LAN)
    yield opened
    opened.close()


@pytest.fixture
def describe(session: Session) -> Callable[..., ModelDescription]:
    def describe_with(**changes: object) -> ModelDescription:
        return session.describe(replace(REQUEST, **changes), "local", timed=False)  # type: ignore[arg-type]

    return describe_with
