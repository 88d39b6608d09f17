"""Random weights must be the same bits on every platform: the hosts of a pipeline make their own."""

from __future__ import annotations

import subprocess
import sys
from hashlib import blake2b
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paretopipe_runtime.model.errors import ModelError
from paretopipe_runtime.model.loading import skeleton
from paretopipe_runtime.model.sources import PIECE_ELEMENTS, fill, random_source, uniform
from paretopipe_runtime.model.tensors import slots_of

GOLDEN = "d825fd36bed9b010"

FRESH = """
import sys, torch
from hashlib import blake2b
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(int(sys.argv[2]))
from paretopipe_runtime import load_model
digest = blake2b(digest_size=16)
for name, tensor in load_model("squeezenet1_1", seed=5).state_dict().items():
    digest.update(name.encode() + tensor.numpy().tobytes())
print(digest.hexdigest())
"""


def values(seed: int, name: str, count: int, bound: float = 1.0) -> np.ndarray:
    return np.concatenate([np.empty(0, np.float32), *uniform(seed, name, count, bound)])


def test_golden_values() -> None:
    """Drift between platforms or NumPy versions would show here."""
    drawn = values(0, "classifier.1.weight", 1001, sqrt(6 / 1280))
    assert blake2b(drawn.astype("<f4").tobytes(), digest_size=8).hexdigest() == GOLDEN


def test_two_processes_with_other_threads_and_generators_agree() -> None:
    digests = {
        subprocess.run([sys.executable, "-c", FRESH, *arguments], capture_output=True, text=True, check=True).stdout
        for arguments in (("1", "1"), ("2", "99"))
    }
    assert len(digests) == 1


@given(st.integers(0, 2**63), st.text(max_size=20), st.integers(0, 300), st.floats(1e-6, 10.0))
def test_values_are_float32_inside_the_bound(seed: int, name: str, count: int, bound: float) -> None:
    drawn = values(seed, name, count, bound)
    assert drawn.dtype == np.float32
    assert drawn.shape == (count,)
    assert (np.abs(drawn) <= np.float32(bound) * (1 + 2**-22)).all()


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_shorter_draw_is_the_beginning_of_a_longer_one(short: int, more: int) -> None:
    assert np.array_equal(values(1, "w", short), values(1, "w", short + more)[:short])


def test_values_are_uniform_and_differ_by_seed_and_name() -> None:
    drawn = values(0, "w", PIECE_ELEMENTS + 12345)
    assert abs(drawn.mean()) < 0.005
    assert drawn.var() == pytest.approx(1 / 3, rel=0.01)
    assert drawn.min() < -0.99 < 0.99 < drawn.max()
    assert abs(np.corrcoef(drawn[:PIECE_ELEMENTS][:12345], drawn[PIECE_ELEMENTS:])[0, 1]) < 0.05
    assert not np.array_equal(values(0, "w", 50), values(1, "w", 50))
    assert not np.array_equal(values(0, "w", 50), values(0, "v", 50))


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.layer_norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2)
        self.low = nn.Linear(16, 4, dtype=torch.bfloat16)
        self.token = nn.Parameter(torch.empty(7))
        self.count = nn.Parameter(torch.tensor([3]), requires_grad=False)
        self.register_buffer("table", torch.arange(3.0))


def test_every_kind_of_tensor_gets_its_rule() -> None:
    model = Everything()
    slots = slots_of(model)
    fill(slots, random_source(0))
    assert model.conv.weight.abs().max().item() == pytest.approx(sqrt(6 / 72), rel=0.01)
    assert model.attention.in_proj_weight.abs().max().item() == pytest.approx(sqrt(6 / 16), rel=0.01)
    assert torch.equal(model.norm.weight, torch.ones(16))
    assert torch.equal(model.layer_norm.weight, torch.ones(16))
    for bias in (model.conv.bias, model.norm.bias, model.attention.in_proj_bias):
        assert torch.equal(bias, torch.zeros_like(bias))
    assert 0 < model.token.abs().max() <= 0.1
    assert model.low.weight.dtype == torch.bfloat16
    assert model.low.weight.float().std() > 0.1
    assert model.count.item() == 3
    assert torch.equal(model.table, torch.arange(3.0))
    assert torch.equal(model.norm.running_var, torch.ones(16))


def test_tensors_in_another_memory_order_get_the_same_values() -> None:
    plain, turned = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    for module in (plain, turned):
        fill(slots_of(module), random_source(9))
    assert torch.equal(plain.weight, turned.weight)
    assert not turned.weight.is_contiguous()


def test_complex_parameters_have_no_random_weights() -> None:
    module = nn.ParameterDict({"w": nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))})
    with pytest.raises(ModelError, match="no random weights for the complex parameter w"):
        fill(slots_of(module), random_source(0))


@pytest.mark.parametrize("name", ["resnet18", "inception_v3", "alexnet", "toy_models:small"])
def test_slots_are_all_tensors_of_the_state_dict_each_once(name: str) -> None:
    module = skeleton(name)
    slots = slots_of(module)
    names = [alias for slot in slots for alias in slot.names]
    assert set(module.state_dict()) <= set(names)
    assert len({id(slot.tensor) for slot in slots}) == len(slots)
    assert len(set(names)) == len(names)


def test_tied_unregistered_and_unsaved_tensors_are_told_apart() -> None:
    slots = {slot.name: slot for slot in slots_of(skeleton("toy_models:small"))}
    assert slots["head.weight"].names == ("head.weight", "again.weight")
    assert slots["factor"].kind == "constant"
    assert slots["shift"].kind == "buffer"
    assert not slots["shift"].persistent
    assert slots["body.1.running_mean"].persistent
