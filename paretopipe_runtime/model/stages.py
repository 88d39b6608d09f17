"""From cuts to stages: modules that compute a part of a model's graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import fx, nn

from paretopipe_runtime.model.cuts import Cut
from paretopipe_runtime.model.errors import ModelError
from paretopipe_runtime.model.tracing import Traced, trace


def split(model: nn.Module, cuts: Sequence[Cut]) -> list[nn.Module]:
    """Cut `model` into `len(cuts) + 1` stages; running them in turn equals the model, bit for bit.

    That holds as long as the tensors between them keep their strides. Stages share the model's submodules and
    tensors, and hold no others; the model is not changed. Cut 0 and cut N give a stage that returns its input.
    Raises `ModelError` when the cuts are another model's, or not in ascending order.
    """
    traced = trace(model)
    return [extract(traced, lo, hi) for lo, hi in pairwise([None, *cuts, None])]


def extract(
    traced: Traced, lo: Cut | None, hi: Cut | None, resolve: Callable[[str], Any] | None = None
) -> fx.GraphModule:
    """The part of a traced model between two cuts; None is the model's input or output.

    `resolve` gives the submodule, parameter or buffer for a name in the graph; without it they are the traced model's.
    """
    nodes = traced.nodes
    begin = nodes.index(traced.input) if lo is None else _position(nodes, lo)
    end = nodes.index(traced.output) if hi is None else _position(nodes, hi)
    if begin > end or (lo is not None and hi is not None and begin == end):
        raise ModelError(f"cuts must be in execution order, each once: {_label(lo)} is not before {_label(hi)}")
    graph = fx.Graph()
    made = {nodes[begin]: graph.placeholder(nodes[begin].name)}

    def value(node: fx.Node) -> fx.Node:
        if node not in made and node.op == "get_attr":
            made[node] = graph.node_copy(node)
        if node not in made:
            raise ModelError(f"{node.name} also crosses {_label(lo)}: not a cut of this model")
        return made[node]

    # What comes after the output's node, an assertion or a write in place, belongs to the stage that makes the output.
    stop = len(nodes) - 1 if nodes[end] is traced.output and begin != end else end + 1
    for node in nodes[begin + 1 : stop]:
        if node.op not in ("get_attr", "placeholder"):
            made[node] = graph.node_copy(node, value)
    graph.output(value(nodes[end]))
    root = traced.module if resolve is None else {name: resolve(name) for name in _targets(graph)}
    stage = fx.GraphModule(root, graph, class_name="Stage")
    stage.training = traced.module.training
    for module in stage.modules():
        if type(module) is nn.Module:  # the containers that GraphModule makes; all others may be the caller's
            module.training = traced.module.training
    return stage


def _targets(graph: fx.Graph) -> list[str]:
    return list(dict.fromkeys(str(node.target) for node in graph.nodes if node.op in ("get_attr", "call_module")))


def _position(nodes: Sequence[fx.Node], cut: Cut) -> int:
    if cut.position < len(nodes) and nodes[cut.position].name == cut.node:
        return cut.position
    raise ModelError(f"{_label(cut)} (node {cut.node}) is not a cut of this model")


def _label(cut: Cut | None) -> str:
    return "the end" if cut is None else f"cut {cut.index} {cut.name!r}"
