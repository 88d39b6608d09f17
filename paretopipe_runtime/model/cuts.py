"""Where a model can be cut: the places in its graph where exactly one tensor crosses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from paretopipe_runtime.model.errors import ModelError, first_line
from paretopipe_runtime.model.paper_names import paper_model, paper_names
from paretopipe_runtime.model.tracing import Traced, trace
from paretopipe_runtime.transport.frame import extent

Granularity = Literal["block", "node"]


@dataclass(frozen=True)
class Cut:
    """A place to cut a model, and the tensor that crosses there for one batch.

    `index` is the number of blocks before the cut (granularity `block`) or the number of the cut (`node`); 0 is the
    input, the last one the output. `name` is the block before the cut (`features.3`) or the node. `stride` is in
    elements. `nbytes` is the storage that the tensor spans: what is sent. Shape and stride are torch's prediction;
    attention's fused path may order the same bytes otherwise, so whoever sends a tensor describes that tensor.
    `node` and `position` say where in the graph the tensor is made.
    """

    index: int
    name: str
    paper_name: str | None
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    nbytes: int
    node: str
    position: int


def cut_points(model: nn.Module, example_input: torch.Tensor, granularity: str = "block") -> list[Cut]:
    """List the cuts of `model` in execution order, cut 0 (nothing before it) and cut N (everything before it) included.

    `example_input` is a batch `[batch, channels, height, width]`, of which only shape, stride and dtype are used:
    nothing is computed. `granularity` is `block` (one cut per boundary between two blocks, where the fewest bytes
    cross; a boundary that more than one tensor crosses has none) or `node` (every place where one tensor crosses).
    Raises `ModelError` for a model that cannot be traced.
    """
    return list_cuts(trace(model), example_input, granularity, paper_model(model))


def list_cuts(traced: Traced, example_input: torch.Tensor, granularity: str, paper: str | None = None) -> list[Cut]:
    """`cut_points` of a model that is traced already; `paper` is the paper's model that it is, if any."""
    if granularity not in ("block", "node"):
        raise ModelError(f"granularity {granularity!r} not understood: block or node")
    values = _propagate(traced, example_input)
    if not isinstance(values.get(traced.output), torch.Tensor):
        raise ModelError("the model does not return one tensor; wrap it in a module that does")
    crossings = _crossings(traced, values)
    blocks = _block_boundaries(traced, crossings, values)
    labels = paper_names(paper, len(traced.blocks))
    positions = {node: position for position, node in enumerate(traced.nodes)}

    def cut(index: int, name: str, label: str | None, node: fx.Node) -> Cut:
        value = values[node]
        return Cut(
            index=index,
            name=name,
            paper_name=label,
            shape=tuple(value.shape),
            stride=tuple(value.stride()),
            dtype=value.dtype,
            nbytes=extent_bytes(value.shape, value.stride(), value.dtype),
            node=node.name,
            position=positions[node],
        )

    first = cut(0, "input", None, traced.input)
    if granularity == "block":
        interior = [cut(k, traced.blocks[k - 1], labels.get(k), node) for k, node in blocks.items()]
        return [first, *interior, cut(len(traced.blocks), "output", None, traced.output)]
    label_of = {node: labels.get(k) for k, node in blocks.items()}
    interior = [cut(i, node.name, label_of.get(node), node) for i, node in enumerate(crossings, start=1)]
    return [first, *interior, cut(len(crossings) + 1, "output", None, traced.output)]


def extent_bytes(shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes from a tensor's first to its last element, gaps included; 0 for an empty one."""
    return extent(tuple(shape), tuple(stride)) * dtype.itemsize


class _Propagation(FakeTensorProp):
    """Shapes, strides and dtypes without computing; remembers where it stopped."""

    node: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        return super().run_node(n)


def _propagate(traced: Traced, example_input: torch.Tensor) -> dict[fx.Node, Any]:
    propagation = _Propagation(traced.module, FakeTensorMode(allow_non_fake_inputs=True))
    # The nodes of a Traced are shared by all who ask for its cuts: what is noted on them is taken off again.
    try:
        with torch.no_grad():
            propagation.propagate(example_input)
        return {node: node.meta["val"] for node in traced.nodes if "val" in node.meta}
    except Exception as error:  # the model's own operations: anything may come out of them
        raise ModelError(
            f"the model does not take an input of shape {list(example_input.shape)} ({example_input.dtype}): "
            f"at {propagation.node}: {first_line(error)}"
        ) from error
    finally:
        for node in traced.nodes:
            node.meta.pop("val", None)


def _crossings(traced: Traced, values: Mapping[fx.Node, Any]) -> list[fx.Node]:
    """Interior nodes after which nothing but their own value, a tensor, is still needed.

    Parameters and constants (`get_attr`) do not cross: every stage has its own.
    """
    nodes = traced.nodes
    last_use = {source: i for i, node in enumerate(nodes) for source in node.all_input_nodes}
    alive: set[fx.Node] = set()
    found: list[fx.Node] = []
    for i, node in enumerate(nodes):
        alive -= {source for source in node.all_input_nodes if last_use[source] == i}
        if node.op == "get_attr":
            continue
        if node in last_use:
            alive.add(node)
        if alive == {node} and isinstance(values.get(node), torch.Tensor):
            found.append(node)
    return [node for node in found if node is not traced.input and node is not traced.output]


def _block_boundaries(
    traced: Traced, crossings: Sequence[fx.Node], values: Mapping[fx.Node, Any]
) -> dict[int, fx.Node]:
    """Number of blocks before the cut -> the cheapest crossing between the block before and the block after it."""
    candidates: dict[int, list[fx.Node]] = {}
    last_of: dict[int, fx.Node] = {block: node for node, block in traced.block_of.items()}
    block = -1
    is_crossing = set(crossings)
    for node in traced.nodes:
        block = traced.block_of.get(node, block)
        inside = node in traced.block_of and last_of[block] is not node
        if node in is_crossing and not inside and 0 <= block < len(traced.blocks) - 1:
            candidates.setdefault(block + 1, []).append(node)

    def nbytes(node: fx.Node) -> int:
        value = values[node]
        return extent_bytes(value.shape, value.stride(), value.dtype)

    return {index: min(nodes, key=nbytes) for index, nodes in candidates.items()}
