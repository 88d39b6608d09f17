"""Convolutions that take in what follows them compute the same, and take in nothing that somebody else sees."""

from __future__ import annotations

import operator
import platform
from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from paretopipe_runtime.model.engines.base import StageToBuild
from paretopipe_runtime.model.engines.fused import Fused, fold
from paretopipe_runtime.model.engines.pointwise import PointwiseConvolution, absorb, offered

CPU = torch.device("cpu")
SHAPE = (2, 4, 8, 8)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.skipif(
        not offered(CPU, torch.float32), reason="torch's fused convolutions are used on x86-64 with oneDNN only"
    ),
]


class Block(nn.Module):
    """Two convolutions of equal shapes, and what `body` does with them."""

    def __init__(self, body: Callable[[Block, torch.Tensor], torch.Tensor], **settings: object) -> None:
        super().__init__()
        self.body = body
        self.first = nn.Conv2d(4, 4, **({"kernel_size": 3, "padding": 1} | settings))  # type: ignore[arg-type]
        self.second = nn.Conv2d(4, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        nn.init.uniform_(self.norm.running_mean, -1.0, 1.0)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self, x)


def absorbed(model: nn.Module, shape: tuple[int, ...] = SHAPE) -> tuple[fx.GraphModule, list[str]]:
    """The model with convolutions that took in what they can, and what is left of its graph; equal outputs."""
    torch.manual_seed(0)
    model.eval().requires_grad_(False)
    value = torch.randn(shape)
    expected = model(value.clone())
    stage = fold(fx.symbolic_trace(model))
    absorb(stage, shape)
    stage.to(memory_format=torch.channels_last)
    for layout in (torch.contiguous_format, torch.channels_last):
        result = stage(value.clone().contiguous(memory_format=layout))
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    kinds = [
        type(stage.get_submodule(str(node.target))).__name__ if node.op == "call_module" else str(node.target)
        for node in stage.graph.nodes
        if node.op not in ("placeholder", "output")
    ]
    return stage, ["pointwise" if kind == PointwiseConvolution.__name__ else kind for kind in kinds]


def operators(stage: fx.GraphModule) -> int:
    """How many convolutions add something."""
    return sum(len(node.args) == 2 for node in stage.graph.nodes if node.op == "call_module")


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(-0.5, 0.25), nn.Hardswish(), nn.Hardsigmoid()),
        *(nn.SiLU(), nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(0.2), nn.GELU(), nn.GELU(approximate="tanh")),
    ],
    ids=repr,
)
def test_activations_that_are_modules(activation):
    model = Block(lambda self, x: self.activation(self.first(x)))
    model.activation = activation
    assert absorbed(model)[1] == ["pointwise"]


@pytest.mark.parametrize(
    "activate",
    [
        torch.relu,
        functional.relu,
        lambda x: functional.relu(x, inplace=True),
        lambda x: functional.relu(x, True),
        lambda x: x.relu_(),
        functional.relu6,
        functional.hardswish,
        functional.silu,
        torch.sigmoid,
        lambda x: x.sigmoid(),
    ],
)
def test_activations_that_are_functions(activate):
    assert absorbed(Block(lambda self, x: activate(self.first(x))))[1] == ["pointwise"]


def test_what_it_does_not_know_stays():
    model = Block(lambda self, x: functional.softplus(self.first(x)))
    assert absorbed(model)[1] == ["pointwise", str(functional.softplus)]


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"groups": 4},
        {"padding": "same"},
        {"padding": "valid"},
        {"bias": False},
        {"kernel_size": (3, 1), "padding": (1, 0)},
    ],
)
def test_convolutions_of_all_kinds(settings):
    assert absorbed(Block(lambda self, x: self.relu(self.first(x)), **settings))[1] == ["pointwise"]


@pytest.mark.parametrize("settings", [{"padding_mode": "reflect"}, {"kernel_size": 2, "padding": "same"}])
def test_padding_that_the_operator_lacks(settings):
    assert absorbed(Block(lambda self, x: self.relu(self.first(x)), **settings))[1] == ["Conv2d", "ReLU"]


@pytest.mark.parametrize("add", [operator.add, lambda x, out: torch.add(out, x), lambda x, out: out.add_(x)])
def test_a_residual_block_is_two_operators(add):
    def body(self: Block, x: torch.Tensor) -> torch.Tensor:
        out = self.norm(self.second(self.relu(self.first(x))))
        return self.relu(add(x, out))

    stage, kinds = absorbed(Block(body))
    assert kinds == ["pointwise", "pointwise"]
    assert operators(stage) == 1


def test_of_two_convolutions_the_later_one_adds():
    def body(self: Block, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.first(x).add_(self.second(x)))

    stage, kinds = absorbed(Block(body))
    assert kinds == ["pointwise", "pointwise"]
    assert operators(stage) == 1


def test_after_an_addition_only_relu_is_taken_in():
    model = Block(lambda self, x: torch.sigmoid(self.first(x) + x))
    assert absorbed(model)[1] == ["pointwise", str(torch.sigmoid)]


def test_a_result_that_somebody_else_uses_is_left_alone():
    def body(self: Block, x: torch.Tensor) -> torch.Tensor:
        out = self.first(x)
        return functional.relu(out) * out

    assert absorbed(Block(body))[1][0] == "pointwise"
    assert str(functional.relu) in absorbed(Block(body))[1]


def test_a_tensor_that_somebody_else_has_is_changed_in_place():
    def body(self: Block, x: torch.Tensor) -> torch.Tensor:
        seen = x * 2
        alias = seen.view(2, 4, 64)
        # By the method: torch.fx traces += as an addition that changes nothing.
        return seen.add_(self.first(x)) + alias.view(2, 4, 8, 8)

    stage, kinds = absorbed(Block(body))
    assert kinds.count("pointwise") == 1
    assert operators(stage) == 0


def test_an_input_that_changes_before_the_addition_is_read_before():
    def body(self: Block, x: torch.Tensor) -> torch.Tensor:
        shortcut = x + 1
        out = self.first(shortcut)
        changed = functional.relu(shortcut, inplace=True)
        return out + changed

    stage, _ = absorbed(Block(body))
    assert operators(stage) == 0


@pytest.mark.parametrize(
    "body",
    [
        lambda self, x: self.first(x) + x.mean((2, 3), keepdim=True),
        lambda self, x: self.first(x) + 1,
        lambda self, x: torch.add(self.first(x), x, alpha=2),
        lambda self, x: (lambda y: y + y)(self.first(x)),
    ],
)
def test_additions_that_are_something_else(body):
    stage, kinds = absorbed(Block(body))
    assert "pointwise" in kinds
    assert operators(stage) == 0


def test_a_convolution_whose_input_has_its_name_stays():
    assert absorbed(Block(lambda self, x: self.relu(self.first(input=x))))[1] == ["Conv2d", "ReLU"]


def test_a_convolution_that_is_called_twice_stays():
    assert absorbed(Block(lambda self, x: self.first(self.first(x))))[1] == ["Conv2d", "Conv2d"]


def test_nothing_is_known_behind_a_tensor_that_the_graph_makes():
    model = Block(lambda self, x: self.relu(self.second(self.relu(self.first(x)) + torch.ones(x.size(3)))))
    assert absorbed(model)[1][0] == "pointwise"
    assert "Conv2d" in absorbed(model)[1]


def test_other_machines_keep_their_kernels(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not offered(CPU, torch.float32)
    model = Block(lambda self, x: self.relu(self.first(x))).eval().requires_grad_(False)
    stage = fx.symbolic_trace(model)
    compute = Fused().build(StageToBuild(stage, SHAPE, (256, 64, 8, 1), torch.float32, "key", CPU, 1))
    value = torch.randn(SHAPE)
    torch.testing.assert_close(compute(value), model(value), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, PointwiseConvolution) for module in stage.modules())


@pytest.mark.parametrize(("device", "dtype"), [("cuda", torch.float32), ("cpu", torch.float64), ("cpu", torch.uint8)])
def test_only_single_precision_on_a_cpu(device, dtype):
    assert not offered(torch.device(device), dtype)


def test_weights_are_packed_not_kept_twice():
    model = Block(lambda self, x: self.relu(self.first(x)))
    stage, _ = absorbed(model)
    assert not list(stage.parameters())
