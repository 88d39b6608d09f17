"""A GPU that the inventory promises and that is not there. No machine has a hundred, so this runs on all."""

from __future__ import annotations

import pytest

from paretopipe_matrix.hosts.inventory import HostVars
from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import CellError
from paretopipe_runtime.host.operations import Operations
from paretopipe_runtime.model.engines.base import EngineError
from tests.integration.conftest import inventory

MISSING = "cuda:99"


@pytest.mark.parametrize("operation", ["describe", "prepare", "profile_blocks"])
def test_it_is_an_error_of_everything_that_computes(operation: str) -> None:
    operations = Operations("server", lambda _event: None, MISSING)
    with pytest.raises(EngineError, match=f"paretopipe_device is {MISSING}, but torch .* sees") as caught:
        getattr(operations, operation)({"model": "squeezenet1_1", "weights": "random", "seed": 0})
    assert "paretopipe_device" in str(caught.value.remedy)
    assert operations.facts({})["gpu_device"] is None


def test_it_fails_the_pipeline_with_the_hosts_name_and_a_remedy() -> None:
    with pytest.raises(CellError) as caught:
        Session(inventory(server=HostVars("server", device=MISSING)), ["local"], None)
    error = caught.value
    assert (error.kind, error.host) == ("engine", "server")
    assert f"paretopipe_device is {MISSING}" in error.message
    assert error.remedy
