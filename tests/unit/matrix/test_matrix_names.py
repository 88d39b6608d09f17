"""Names that spec, inventory and command line share."""

import pytest
from click.testing import CliRunner

from paretopipe_matrix.choices import ENGINES, RPC_ROUTES, RPC_TRANSPORTS, is_device, rpc_backend
from paretopipe_matrix.cli import main
from paretopipe_matrix.cli_run import _flags
from paretopipe_matrix.spec import MAX_STREAMS
from paretopipe_runtime.model.engines.registry import ENGINES as BUILT
from paretopipe_runtime.transport.backends import BACKENDS
from paretopipe_runtime.transport.streams import MAX_STREAMS as RUNTIME_MAX_STREAMS


def test_every_rpc_backend_is_one_route_and_one_transport():
    made = {rpc_backend(route, transport) for route in RPC_ROUTES for transport in RPC_TRANSPORTS}
    assert made == {name for name, backend in BACKENDS.items() if backend.kind == "rpc"}
    assert rpc_backend() == "rpc"


def test_what_can_be_asked_for_is_what_the_runtime_has():
    assert set(BUILT) == set(ENGINES) - {"best"}
    assert MAX_STREAMS == RUNTIME_MAX_STREAMS


@pytest.mark.parametrize(
    ("text", "fits"),
    [("cpu", True), ("cuda", True), ("cuda:1", True), ("cuda:", False), ("cpu:0", False), ("CUDA", False)],
)
def test_devices(text, fits):
    assert is_device(text) is fits


def test_route_and_transport_become_part_of_the_name():
    given = {"backends": ("socket", "rpc"), "rpc_route": "hub", "rpc_transport": "mpt_uv", "rounds": None}
    assert _flags(given) == {"backends": "socket,rpc-hub-mpt_uv"}
    given = {"backends": ("socket,rpc",), "rpc_route": "hub", "rpc_transport": None}
    assert _flags(given) == {"backends": "socket,rpc-hub"}


@pytest.mark.parametrize(("words", "offered"), [("run --backend rpc-h", "rpc-hub"), ("run --engine o", "onnxruntime")])
def test_completion_offers_names(words, offered):
    environment = {"_PP_MATRIX_COMPLETE": "bash_complete", "COMP_WORDS": f"pp-matrix {words}", "COMP_CWORD": "3"}
    result = CliRunner(env=environment).invoke(main, [], prog_name="pp-matrix")
    assert f"plain,{offered}" in result.output.splitlines()
