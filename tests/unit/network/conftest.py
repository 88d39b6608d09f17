"""A state directory with a shaping in it, guarded by whoever the test says."""

import os
from dataclasses import replace

import pytest

from paretopipe_runtime.network.processes import identify
from paretopipe_runtime.network.shape import Shape
from paretopipe_runtime.network.state import Shaping, StateDirectory


@pytest.fixture
def directory(tmp_path):
    found = StateDirectory(tmp_path)
    found.create()
    return found


@pytest.fixture
def shaping():
    shape = Shape("data0", "duress", ("10.0.0.2",), 0.2, rate_bit_s=5e6, lease_s=1.0, shaper="tc")
    plan = {"mtu": 1500, "root_qdisc": None, "offloads": {"off": [], "kept": {}}}
    return replace(Shaping(shape, "tc", plan, "someone@192.0.2.9"), guard=identify(os.getpid()))
