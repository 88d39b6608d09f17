"""The table of backends: what may carry activations, and what never may."""

from __future__ import annotations

import pytest

from paretopipe_runtime.transport.backends import BACKENDS, Backend

RPC = [backend for backend in BACKENDS.values() if backend.kind == "rpc"]


@pytest.mark.parametrize("backend", RPC, ids=lambda backend: backend.name)
def test_rpc_is_told_transports_and_channels_that_cross_a_network(backend: Backend) -> None:
    """Left to choose, TensorPipe passes by the network between hosts that share a kernel."""
    assert set(backend.transports) == {"uv"}
    assert backend.channels in (("basic",), ("mpt_uv",))
    assert (backend.route == "hub") == ("hub" in backend.name)


def test_a_record_names_everything_that_the_backend_stands_for() -> None:
    assert BACKENDS["rpc-hub-mpt_uv"].as_json() == {
        "name": "rpc-hub-mpt_uv",
        "kind": "rpc",
        "transports": ["uv"],
        "channels": ["mpt_uv"],
        "route": "hub",
    }
    assert BACKENDS["socket"].as_json()["transports"] == []
