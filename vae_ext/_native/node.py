"""The ops' nodes in autograd's graph, in C++ (csrc/node), for the torch that they were built with.

With any other torch, and for what is rare, the Functions of `_autograd` serve, which take longer:
for a small batch most of the time is theirs.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._autograd.formulas import SCALAR, OnePassFunction
from .._autograd.function import NativeFunction

Maybe = Tensor | None


def load() -> Any:
    """As setup.py names it, by torch's version, whose C++ interface may be another in the next."""
    try:
        return importlib.import_module("vae_ext._node_" + re.sub(r"\W", "_", torch.__version__))
    except ImportError:
        return None


class Context:
    """What a Function's backward pass finds in its context."""

    __slots__ = ("_forward_cls", "needs_input_grad", "one_pass", "options", "saved_tensors")

    def __init__(
        self,
        function: type[NativeFunction],
        needed: Sequence[bool],
        saved: tuple[Maybe, ...],
        options: tuple[Any, ...],
    ) -> None:
        self._forward_cls, self.options, self.saved_tensors = function, options, saved
        self.needs_input_grad = (*needed, False)  # the options
        self.one_pass = False


def backward_of(function: type[NativeFunction]) -> Callable[..., tuple[Maybe, ...]]:
    def backward(
        needed: Sequence[bool],
        saved: tuple[Maybe, ...],
        options: tuple[Any, ...],
        incoming: tuple[Maybe, ...],
    ) -> tuple[Maybe, ...]:
        *found, _ = function.backward(Context(function, needed, saved, options), *incoming)
        return tuple(found)

    return backward


def declare(node: Any, function: type[NativeFunction]) -> int:
    """Its number."""
    graph = function.graph
    assert graph is not None
    number: int = node.declare(
        name=function.name,
        with_gradients=issubclass(function, OnePassFunction),
        scalars=SCALAR,
        served=sum(1 << i for i in graph.served),
        first_saved=graph.first_saved,
        outputs=graph.outputs,
        incoming=graph.incoming,
        left_out=graph.left_out,
        differentiable=graph.differentiable,
        passes_through=graph.passes_through,
        by_python=backward_of(function),
    )
    return number
