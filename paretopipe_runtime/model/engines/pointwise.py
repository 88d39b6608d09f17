"""Convolutions that also compute what follows them: the activation, and the addition of a residual branch.

oneDNN has these as post-ops of a convolution (oneDNN documentation, "Primitive Attributes: Post-ops"): what it has
just computed is still in a register, so a pass over the activation is saved each time. torch's operators for it,
torch.ops.mkldnn._convolution_pointwise, are those that its own compiler calls (pytorch/pytorch#86581, #88048); the
weights are reordered once for the blocks that oneDNN works in. Both are torch's own affair and may change: what a
version lacks is left as it is.
"""

from __future__ import annotations

import operator
import platform
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn import functional

_SHAPE = "paretopipe_shape"
_OPERATORS = ("_convolution_pointwise", "_reorder_convolution_weight")
_MACHINES = ("x86_64", "AMD64")
"""Where it was measured. Elsewhere torch's choice of a kernel is not always oneDNN's, and may be better."""
_ADDITIONS = {operator.add: False, operator.iadd: True, torch.add: False, "add": False, "add_": True}
"""Function or method -> whether it changes its first argument."""


class _PostOp(NamedTuple):
    """An activation as the operator takes it."""

    attr: str = "none"
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


_RELU = _PostOp("relu")
_FUNCTIONS: dict[Any, _PostOp] = {
    functional.relu: _RELU,
    torch.relu: _RELU,
    "relu": _RELU,
    "relu_": _RELU,
    functional.relu6: _PostOp("hardtanh", (0.0, 6.0)),
    functional.hardswish: _PostOp("hardswish"),
    functional.silu: _PostOp("swish"),
    torch.sigmoid: _PostOp("sigmoid"),
    "sigmoid": _PostOp("sigmoid"),
}


def offered(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions on this device of this machine can take in what follows them."""
    return (
        device.type == "cpu"
        and dtype == torch.float32
        and platform.machine() in _MACHINES
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)
    )


def absorb(module: fx.GraphModule, shape: tuple[int, ...]) -> None:
    """Let the convolutions of a stage compute the activations and additions after them, in place.

    `shape` is the input's, `[batch, channels, height, width]`. The module is in eval mode, its normalisations are
    folded. A convolution that the graph calls twice is left as it is, and what more than one node uses is not taken in.
    """
    _find_shapes(module, shape)
    calls = Counter(str(node.target) for node in module.graph.nodes if node.op == "call_module")
    # From the end: of two convolutions that are added the later one adds, when the other's result is there.
    for node in reversed(list(module.graph.nodes)):
        convolution = _convolution(module, node)
        if convolution is not None and calls[str(node.target)] == 1:
            _absorb(module, node, convolution)
    module.delete_all_unused_submodules()
    module.recompile()


class PointwiseConvolution(nn.Module):
    """A two-dimensional convolution, its weights packed for inputs of one shape, and what follows it."""

    def __init__(self, convolution: nn.Conv2d, shape: tuple[int, ...], adds: bool, post_op: _PostOp) -> None:
        super().__init__()
        padding = _padding(convolution)
        assert padding is not None
        where = (padding, list(convolution.stride), list(convolution.dilation), convolution.groups)
        # No parameters: packed tensors have no strides, and nothing is to change their layout.
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(convolution.weight.detach(), *where, list(shape))
        self._bias = None if convolution.bias is None else convolution.bias.detach()
        scalars: list[float | None] = list(post_op.scalars)
        self._settings: tuple[Any, ...]
        if adds:
            self._operator: Callable[..., torch.Tensor] = torch.ops.mkldnn._convolution_pointwise.binary
            activation = None if post_op.attr == "none" else post_op.attr
            self._settings = (*where, "add", 1.0, activation, scalars, post_op.algorithm)
        else:
            self._operator = torch.ops.mkldnn._convolution_pointwise.default
            self._settings = (*where, post_op.attr, scalars, post_op.algorithm)

    def forward(self, tensor: torch.Tensor, *other: torch.Tensor) -> torch.Tensor:
        """`other` is added before the activation; it has the result's shape."""
        return self._operator(tensor, *other, self._weight, self._bias, *self._settings)


class _Shapes(fx.Interpreter):
    """Gives every node its shape, without values: all tensors are on torch's meta device.

    torch.fx's ShapeProp computes, or loads torch's compiler for a tenth of a second.
    """

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
            node.meta[_SHAPE] = tuple(result.shape)
        return result

    def fetch_attr(self, target: str) -> Any:
        found = super().fetch_attr(target)
        return found.to("meta") if isinstance(found, torch.Tensor) else found

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        called = self.fetch_attr(target)
        named = chain(called.named_parameters(), called.named_buffers())
        state = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
        return torch.func.functional_call(called, state, args, kwargs) if state else called(*args, **kwargs)


def _find_shapes(module: fx.GraphModule, shape: tuple[int, ...]) -> None:
    """A graph that makes tensors of its own cannot be followed beyond them: later nodes have no shape, and stay."""
    with torch.no_grad(), suppress(RuntimeError):
        _Shapes(module).run(torch.empty(shape, device="meta"))


def _shape(node: object) -> tuple[int, ...] | None:
    found: tuple[int, ...] | None = node.meta.get(_SHAPE) if isinstance(node, fx.Node) else None
    return found


def _convolution(module: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    called = node.op == "call_module" and len(node.args) == 1 and not node.kwargs
    found = module.get_submodule(str(node.target)) if called else None
    usable = type(found) is nn.Conv2d and found.weight.dtype == torch.float32 and _padding(found) is not None
    return found if usable and isinstance(found, nn.Conv2d) and len(_shape(node.args[0]) or ()) == 4 else None


def _padding(convolution: nn.Conv2d) -> list[int] | None:
    """Of height and width, on both sides; None where it is not of zeros or differs between the sides."""
    if convolution.padding_mode != "zeros":
        return None
    if not isinstance(convolution.padding, str):
        return list(convolution.padding)
    if convolution.padding == "valid":
        return [0, 0]
    totals = [d * (k - 1) for d, k in zip(convolution.dilation, convolution.kernel_size, strict=True)]
    return [total // 2 for total in totals] if not any(total % 2 for total in totals) else None


def _absorb(module: fx.GraphModule, node: fx.Node, convolution: nn.Conv2d) -> None:
    """Replace a convolution and what it takes in by one module."""
    taken, others, post_op = [node], [], _PostOp()
    user = _next_user(node)
    if user is not None and (other := _added_to(module, user, node)) is not None:
        taken.append(user)
        others.append(other)
        user = _next_user(user)
    found = None if user is None else _post_op(module, user)
    # After an addition the operator takes no other activation.
    if user is not None and found is not None and (not others or found == _RELU):
        taken.append(user)
        post_op = found
    shape = _shape(node.args[0])
    assert shape is not None
    name = f"{node.name}_pointwise"
    module.add_submodule(name, PointwiseConvolution(convolution, shape, bool(others), post_op))
    with module.graph.inserting_after(taken[-1]):
        fused = module.graph.call_module(name, (node.args[0], *others))
    taken[-1].replace_all_uses_with(fused)
    for old in reversed(taken):
        module.graph.erase_node(old)


def _next_user(node: fx.Node) -> fx.Node | None:
    """The only user of a node, where it is the next node: so nothing in between changes a tensor in place."""
    return node.next if list(node.users) == [node.next] else None


def _added_to(module: fx.GraphModule, user: fx.Node, node: fx.Node) -> fx.Node | None:
    """What `user` adds to the result of the convolution `node`, where it is one addition of equal shapes."""
    changes_first = _ADDITIONS.get(user.target) if user.op in ("call_function", "call_method") else None
    if changes_first is None or user.kwargs or len(user.args) != 2:
        return None
    first, second = user.args
    other = second if first is node else first
    if other is node or not isinstance(other, fx.Node) or _shape(other) is None or _shape(other) != _shape(node):
        return None
    if changes_first and first is not node and (_convolution(module, other) is None or len(other.users) > 1):
        # Somebody may see the change of the other tensor, unless nobody else ever had it.
        return None
    return other


def _post_op(module: fx.GraphModule, node: fx.Node) -> _PostOp | None:
    """The activation that a node computes, where the operator has it."""
    if node.op == "call_module":
        return _of_module(module.get_submodule(str(node.target)))
    if node.op == "call_method" or node.op == "call_function":
        extra = {key: value for key, value in node.kwargs.items() if key != "inplace"}
        plain = not extra and all(isinstance(argument, bool) for argument in node.args[1:])
        return _FUNCTIONS.get(node.target) if plain else None
    return None


def _of_module(module: nn.Module) -> _PostOp | None:
    kind = type(module)
    if kind in (nn.ReLU6, nn.Hardtanh) and isinstance(module, nn.Hardtanh):
        return _PostOp("hardtanh", (float(module.min_val), float(module.max_val)))
    if isinstance(module, nn.LeakyReLU):
        return _PostOp("leaky_relu", (float(module.negative_slope),))
    if isinstance(module, nn.GELU):
        return _PostOp("gelu", (), str(module.approximate))
    names = {nn.ReLU: "relu", nn.Hardswish: "hardswish", nn.SiLU: "swish", nn.Sigmoid: "sigmoid"}
    names |= {nn.Hardsigmoid: "hardsigmoid", nn.Tanh: "tanh"}
    return _PostOp(names[kind]) if kind in names else None
