"""Calls of the ops by name: through a kernel and its derivative, or in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._native import library
from ._native.dispatch import BY_OP, DIRECT, REFERENCE, SHARDED
from ._native.ops import call
from ._reference.ops import PLAIN

FUNCTIONS: dict[str, Any] = {}
# The numbers of their nodes, and what calls those, where there are any.
NODES: dict[str, int] = {}
by_node: Any = None
if library.available:
    from ._autograd import DIRECT as DIRECT_FUNCTIONS
    from ._native import node

    FUNCTIONS.update(DIRECT_FUNCTIONS)
    if (nodes := node.load()) is not None:
        NODES.update(
            (name, node.declare(nodes, function))
            for name, function in FUNCTIONS.items()
            if function.graph is not None
        )
        by_node = nodes.apply
# Beside the Functions that have them, since compilers do not look into a Function.
OPS = {name: function.op for name, function in FUNCTIONS.items()}


def run(
    way: int,
    name: str,
    tensors: tuple[Tensor | None, ...],
    options: tuple[Any, ...],
    expected: float | None = None,
) -> Any:
    """An op of its tensors and its numbers, by the way that :func:`dispatch.route` found; with its
    derivative where a gradient is needed. `expected`, of a formula: the incoming gradient for which
    those of a scalar are written in one pass with it."""
    if way == DIRECT and by_node is not None and name in NODES:
        found = by_node(NODES[name], tensors, options, expected)
        if found is not NotImplemented:
            return found
    if way == REFERENCE:
        return PLAIN[name](tensors, options)
    if way == SHARDED:
        from ._sharding import run_sharded

        return run_sharded(name, tensors, options, expected)
    native = OPS[name]
    if way == BY_OP:
        return native(*tensors, *options)
    if torch.is_grad_enabled():
        for t in tensors:
            if t is not None and t.requires_grad:
                last = options if expected is None else (options, expected)
                return FUNCTIONS[name].fast_apply(*tensors, last)
    return call(native, *tensors, *options)
