"""Real pipelines with a GPU. These are the only tests that may be skipped: CI has no GPU (docs/gpu.md says how to run
them where there is one)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from paretopipe_matrix.hosts.inventory import HostVars
from paretopipe_matrix.hosts.session import Session
from paretopipe_runtime.model.device import open_device
from tests.integration.conftest import LAN, inventory

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU, and torch sees none here; docs/gpu.md says how to run it"
)


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    return open_device("cuda")


@pytest.fixture(scope="module")
def session_on() -> Iterator[Callable[[str, str], Session]]:
    """Sessions by the devices of their two hosts; one is alive at a time."""
    alive: dict[tuple[str, str], Session] = {}

    def opened(edge: str, server: str) -> Session:
        if (edge, server) not in alive:
            for devices in list(alive):
                alive.pop(devices).close()
            hosts = {"edge": HostVars("edge", device=edge), "server": HostVars("server", device=server)}
            session = alive[edge, server] = Session(inventory(**hosts), ["local"], None)
            session.apply("local", LAN)
        return alive[edge, server]

    yield opened
    for session in alive.values():
        session.close()
