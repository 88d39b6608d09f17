"""Three hosts in a row: the stage loop, the ring of handshakes and the records know no number two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from paretopipe_matrix.hosts.inventory import HostVars, Inventory
from paretopipe_matrix.hosts.session import Session
from tests.integration.conftest import LAN, REQUEST, cell

HOSTS = ("camera", "middle", "server")


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_three_stages_give_the_unsplit_models_output(encoding: str) -> None:
    inventory = Inventory(Path("test.yml"), {name: HostVars(name) for name in HOSTS}, {"local": HOSTS})
    session = Session(inventory, ["local"], None)
    try:
        session.apply("local", LAN)
        described = session.describe(replace(REQUEST, input_encoding=encoding), "local", timed=False)
        cuts = described.cuts
        for pair, stages in (((3, 6), 3), ((0, 4), 3), ((0, 0), 3), ((4, len(cuts) - 1), 2)):
            run = replace(cell(described, 1), cuts=tuple(cuts[k] for k in pair))
            for result in session.measure(run, lambda _event: None):
                measured = result.measured
                assert measured["output_bitwise"], (pair, measured["output_max_rel_err"])
                assert [stage["host"] for stage in measured["stages"]] == list(HOSTS[:stages])
                if 0 not in pair:
                    crossing = pair if stages == 3 else pair[:1]
                    assert measured["bytes_per_batch"] == sum(cuts[k].nbytes for k in crossing)
    finally:
        session.close()
