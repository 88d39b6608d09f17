"""From a module to a graph of operations, and the blocks in it."""

from __future__ import annotations

import copy
import inspect
import operator
import os
import re
import traceback
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from paretopipe_runtime.model.errors import ModelError, first_line

_TORCH = str(Path(torch.__file__).parent) + os.sep
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_IN_PLACE_OPERATORS = {
    getattr(operator, name)
    for name in (
        *("setitem", "delitem", "iadd", "isub", "imul", "imatmul", "itruediv", "ifloordiv", "imod", "ipow"),
        *("iand", "ior", "ixor", "ilshift", "irshift"),
    )
}


@dataclass(frozen=True, eq=False)
class Traced:
    """A module's graph.

    `module` runs the graph and shares the caller's submodules and tensors. `blocks` are the names of the blocks in
    execution order; `block_of` maps a node to its block's position, and does not have the nodes between blocks.
    """

    module: fx.GraphModule
    blocks: tuple[str, ...]
    block_of: dict[fx.Node, int]

    @property
    def nodes(self) -> list[fx.Node]:
        """The graph's nodes in execution order."""
        return list(self.module.graph.nodes)

    @property
    def input(self) -> fx.Node:
        """The placeholder: the batch of images."""
        return self.nodes[0]

    @property
    def output(self) -> fx.Node:
        """The node whose value the model returns."""
        (value,) = self.nodes[-1].all_input_nodes
        return value


def trace(module: nn.Module) -> Traced:
    """Trace a module that takes one tensor and returns one, as the mode it is in (eval or training) runs it.

    The module is not changed. Raises `ModelError`, with the line of the model that could not be traced.
    """
    name = type(module).__name__
    tracer = fx.Tracer()
    root = _with_one_input(module)
    try:
        graph = tracer.trace(root)
    except Exception as error:  # the model's own code runs here: anything may come out of it
        raise ModelError(f"{name} cannot be traced by torch.fx: {first_line(error)}{_place(error)}") from error
    traced = fx.GraphModule(root, graph, class_name=name)
    graph.eliminate_dead_code(is_impure_node=lambda node: _has_effect(traced, node))
    result = graph.output_node().args[0]
    if not isinstance(result, fx.Node):
        hint = "call eval() first, or " if module.training else ""
        raise ModelError(f"{name} returns {type(result).__name__}, not one tensor: {hint}wrap it in a module that does")
    traced.recompile()
    blocks, block_of = _blocks(traced)
    return Traced(traced, blocks, block_of)


def graph_hash(traced: Traced) -> str:
    """Digest of the operations: the same in every process and on every host of the same torch version.

    Covers each node's operation, target and arguments, the settings of each leaf module, and the values of constants
    that the model's forward made; parameters and buffers are the weight hash's business.
    """
    digest = blake2b(digest_size=16)
    for node in traced.nodes:
        arguments = f"{_text(node.args)} {_text(node.kwargs)}"
        digest.update(f"{node.op} {node.name} {_target(traced, node)} {arguments}\n".encode())
        if node.op == "get_attr" and str(node.target).startswith("_tensor_constant"):
            constant = getattr(traced.module, str(node.target)).detach().contiguous()
            digest.update(f"{constant.dtype} {tuple(constant.shape)}\n".encode())
            digest.update(constant.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _with_one_input(module: nn.Module) -> nn.Module:
    """A shallow copy whose forward takes the first argument only: the others are their defaults, and no symbols.

    It is a copy because fx leaves constants behind on the module it traces.
    """
    root = copy.copy(module)
    forward = type(module).forward
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    required = [p.name for p in parameters[1:] if p.default is p.empty and p.kind not in _VARIADIC]
    if not parameters or required:
        takes = f"also needs {', '.join(required)}" if required else "takes no input"
        raise ModelError(f"{type(module).__name__}.forward {takes}: wrap it in a module whose only input is one tensor")
    if len(parameters) > 1 or parameters[0].kind in _VARIADIC:

        def forward_one(self: nn.Module, input: torch.Tensor) -> Any:
            return forward(self, input)

        root.__class__ = type(type(module).__name__, (type(module),), {"forward": forward_one})
    return root


def _has_effect(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node matters although nobody uses its value: assertions, and everything that writes in place."""
    if node.is_impure():
        return True
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        writes = name.endswith("_") and not name.endswith("__")
        # A positional True may be torch.nn.functional's `inplace`.
        flagged = bool(node.kwargs.get("inplace")) or any(argument is True for argument in node.args)
        return node.target in _IN_PLACE_OPERATORS or writes or flagged or "out" in node.kwargs
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    return False


def _blocks(traced: fx.GraphModule) -> tuple[tuple[str, ...], dict[fx.Node, int]]:
    """Top-level children in execution order, each `nn.Sequential` expanded one level; a later run is a new block."""
    names: list[str] = []
    block_of: dict[fx.Node, int] = {}
    runs: dict[str, int] = {}
    current: str | None = None
    for node in traced.graph.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            continue
        path = _block_path(node)
        if path is not None:
            if path != current:
                runs[path] = runs.get(path, 0) + 1
                names.append(path if runs[path] == 1 else f"{path}@{runs[path]}")
            block_of[node] = len(names) - 1
        current = path
    return tuple(names), block_of


def _block_path(node: fx.Node) -> str | None:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack:
        return None
    path, kind = stack[0]
    if issubclass(kind, nn.Sequential) and kind.forward is nn.Sequential.forward:
        return stack[1][0] if len(stack) > 1 else None
    return str(path)


def _target(traced: Traced, node: fx.Node) -> str:
    if node.op == "call_module":
        module = traced.module.get_submodule(str(node.target))
        return f"{node.target} {type(module).__module__} {_no_address(repr(module))}"
    return _text(node.target) if callable(node.target) else str(node.target)


def _text(value: Any) -> str:
    """A value of a node's arguments as text that does not depend on the process."""
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({', '.join(_text(item) for item in value)})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{_text(key)}: {_text(item)}' for key, item in value.items())})"
    if isinstance(value, slice):
        return f"slice({_text(value.start)}, {_text(value.stop)}, {_text(value.step)})"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    return _no_address(repr(value))


def _no_address(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _place(error: BaseException) -> str:
    """The innermost line outside torch and this file, which is the model's own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_TORCH) and frame.filename != __file__]
    return f"\n  at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
