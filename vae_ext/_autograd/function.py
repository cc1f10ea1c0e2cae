"""What the torch.autograd Functions have in common.

A Function takes its tensors and then one tuple of numbers, in the order of its op. It keeps its
inputs, its outputs and the seed for backward, and nothing else. The public functions come here
directly; what was compiled, exported or traced calls the ops, whose autograd kernels are these
Functions too (_native/registration.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .._native.ops import op
from .._reference.ops import PLAIN

is_legacy_batchedtensor = torch._C._functorch.is_legacy_batchedtensor
Maybe = Tensor | None
Found = Sequence[Maybe]

# needs_input_grad as the ops take it: bit i for input i.
OUTPUT_MASKS = {
    needed: sum(1 << i for i, w in enumerate(needed) if w)
    for n in (2, 3, 4, 5)
    for needed in itertools.product((False, True), repeat=n)
}


class Graph(NamedTuple):
    """What is known of an op as a node of autograd's graph, here and in C++ (csrc/node)."""

    served: tuple[int, ...]  # the inputs whose gradients the backward op gives
    first_saved: int = 0  # the inputs before it are not kept
    outputs: int = 1
    incoming: int = 1  # the first outputs, whose gradients the backward op takes
    left_out: int = 0  # of the options, at their end, which the backward op does not take
    differentiable: tuple[int, ...] = ()  # bit i for output i, by the last option; else all
    passes_through: bool = False  # the gradient of a single sample is that of its mean

    def has_gradient(self, output: int, options: tuple[Any, ...]) -> bool:
        return not self.differentiable or bool(self.differentiable[options[-1]] >> output & 1)


class NativeFunction(torch.autograd.Function):
    """A subclass names its op and the number of tensors that the op takes first. It defines
    `forward` and `gradients`, by native ops."""

    name: ClassVar[str]
    graph: ClassVar[Graph | None] = None  # of one that also has a node in C++
    op: ClassVar[Any]
    backward_op: ClassVar[Any]
    n_tensors: ClassVar[int]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" in cls.__dict__:
            cls.op, cls.backward_op = op(cls.name), op(f"{cls.name}_backward")

    @classmethod
    def fast_apply(cls, *args: Any) -> Any:
        """`apply` less the bookkeeping for torch.func, whose transforms never come here.

        For a small latent that bookkeeping costs as much as the arithmetic.
        """
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]

    @staticmethod
    def backward(ctx: Any, *grads: Maybe) -> Any:
        """A backward pass that is itself to be differentiated, or whose incoming gradients are a
        batch (`is_grads_batched`), goes through the formula."""
        function = ctx._forward_cls
        needed = ctx.needs_input_grad[:-1]
        if needs_formula(grads):
            return (*gradients_of_formula(function, ctx, needed, grads), None)
        return (*function.gradients(ctx, needed, *grads), None)

    @classmethod
    def formula(cls, tensors: Sequence[Maybe], options: tuple[Any, ...]) -> Any:
        """The op's outputs in plain PyTorch."""
        return PLAIN[cls.name](tensors, options)

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        raise NotImplementedError

    @staticmethod
    def inputs(ctx: Any, grads: Sequence[Maybe]) -> Sequence[Maybe]:  # noqa: ARG004
        """The tensors that `formula` takes, in a backward pass."""
        saved: tuple[Maybe, ...] = ctx.saved_tensors
        return saved


def needs_formula(grads: Sequence[Maybe]) -> bool:
    """True in a backward pass that must itself be differentiable, or is one of a batch."""
    if torch.is_grad_enabled():
        return not torch.compiler.is_compiling()
    if torch._C._are_functorch_transforms_active():
        return True
    if torch.compiler.is_compiling():  # compiled autograd, which looks into this
        return False
    # torch.autograd.grad(is_grads_batched=True) has a vmap of its own.
    return any(g is not None and is_legacy_batchedtensor(g) for g in grads)


def gradients_of_formula(
    function: type[NativeFunction],
    ctx: Any,
    needed: Sequence[bool],
    grads: Sequence[Maybe],
) -> list[Maybe]:
    """The gradients of a Function's formula, as functions of its inputs and of what came in."""
    inputs = function.inputs(ctx, grads)
    create_graph = torch.is_grad_enabled()

    def variable(t: Maybe, w: bool) -> Maybe:
        if t is None or not w:
            return t
        # A view, so that an input computed from another is here an independent variable.
        return t.view_as(t) if create_graph else t.detach().requires_grad_()

    with torch.enable_grad():
        fresh = [variable(t, w) for t, w in zip(inputs, needed, strict=True)]
        outputs = function.formula(fresh, ctx.options)
    if isinstance(outputs, Tensor):
        outputs = (outputs,)
    pairs = [
        (o, g)
        for o, g in zip(outputs, grads, strict=True)
        if o is not None and g is not None and o.requires_grad
    ]
    variables = [t for t, w in zip(fresh, needed, strict=True) if w and t is not None]
    if not pairs:
        return [None for _ in inputs]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs],
            variables,
            [g for _, g in pairs],
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return [
        next(found) if w and t is not None else None for t, w in zip(inputs, needed, strict=True)
    ]


def only_needed(gradients: Sequence[Tensor], needed: Sequence[bool]) -> list[Maybe]:
    return [g if w else None for g, w in zip(gradients, needed, strict=True)]
