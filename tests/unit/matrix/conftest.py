import json

import pytest

from paretopipe_matrix.context import new_context
from paretopipe_matrix.plan import expand
from paretopipe_matrix.simulated import SimulatedTestbed, Simulation

INVENTORY = """
all:
  hosts: {edge: , server: }
  vars:
    ansible_connection: local
    paretopipe_pipelines: {local: [edge, server]}
"""
PROFILES = """
lan:
slow:
  links: {first-egress: {delay: 200ms, rate: 5mbit}}
"""
MODEL = {
    "input_bytes": 3072,
    "blocks": [
        {"name": "features.0", "exec_s": 0.002, "out_bytes": 40_000, "paper_name": "P1"},
        {"name": "features.1", "exec_s": 0.004, "out_bytes": 20_000, "paper_name": "P2"},
        {"name": "classifier", "exec_s": 0.002, "out_bytes": 4_000},
    ],
}


@pytest.fixture
def place(tmp_path):
    """A directory with an inventory and profiles."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    (tmp_path / "profiles.yml").write_text(PROFILES)
    return tmp_path


@pytest.fixture
def context(place):
    """Checked input from spec fields."""

    def make(**spec):
        path = place / "spec.json"
        path.write_text(json.dumps(spec))
        return new_context(path, {}, place / "inventory.yml", None)

    return make


@pytest.fixture
def simulated():
    """A testbed from a context and what its simulation declares."""

    def make(context, **simulation):
        declared = {"models": {"mobilenet_v2": MODEL, "resnet18": MODEL}, "speed": {"server": 4.0}} | simulation
        return SimulatedTestbed(Simulation.model_validate(declared), context.inventory)

    return make


@pytest.fixture
def planned(simulated):
    """The cells of a context."""

    def make(context):
        testbed = simulated(context)
        return expand(
            context.loaded, context.pipelines, context.profiles, lambda r, p: testbed.describe(r, p, timed=True)
        )

    return make
