"""A stage holds no activation longer than the computation needs it: its peak memory depends on that."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ReferenceType, ref

import torch
from torch import fx, nn

from paretopipe_runtime.model.engines.base import StageToBuild
from paretopipe_runtime.model.engines.builder import Chain
from paretopipe_runtime.model.engines.eager import Eager


def test_a_chain_lets_go_of_what_a_part_was_given() -> None:
    made: list[ReferenceType[torch.Tensor]] = []
    there: list[bool] = []

    def first(tensor: torch.Tensor) -> torch.Tensor:
        result = tensor + 1
        made.append(ref(result))
        return result

    def second(tensor: torch.Tensor) -> torch.Tensor:
        result = tensor * 2
        there.append(made[0]() is not None)
        del tensor
        there.append(made[0]() is not None)
        return result

    assert torch.equal(Chain([first, second])(torch.ones(3)), torch.full((3,), 4.0))
    assert there == [True, False]


class _Note(nn.Module):
    def __init__(self, note: Callable[[], None]) -> None:
        super().__init__()
        self._note = note

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        self._note()
        return tensor


def test_eager_lets_go_of_its_input_after_its_last_use() -> None:
    made: list[ReferenceType[torch.Tensor]] = []
    there: list[bool] = []
    graph = fx.Graph()
    node = graph.placeholder("x")
    for name in ("linear", "note"):
        node = graph.call_module(name, (node,))
    graph.output(node)
    note = _Note(lambda: there.append(made[0]() is not None))
    module = fx.GraphModule({"linear": nn.Linear(3, 2), "note": note}, graph)
    cpu = torch.device("cpu")
    compute = Eager().build(StageToBuild(module, (1, 3), (3, 1), torch.float32, "key", cpu, 1))

    def first(tensor: torch.Tensor) -> torch.Tensor:
        result = tensor + 1
        made.append(ref(result))
        return result

    with torch.inference_mode():
        assert Chain([first, compute])(torch.ones(1, 3)).shape == (1, 2)
    assert there == [False]
