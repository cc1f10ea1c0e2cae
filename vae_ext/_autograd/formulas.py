"""The torch.autograd Functions of the formulas, which take one pass to a scalar.

The gradient of a sum needs nothing that the value does not, so it is written in the forward pass,
while the inputs are in registers, for the incoming gradient that a loss gives: −1 where it
subtracts a log-likelihood, 1 or a beta where it adds a divergence. In backward it is multiplied by
what came instead, if anything else did.
The inputs would be alive until then anyway and the gradient's memory would be needed then, so the
peak of a loss is no higher. Where a loss has many terms, as one for each level of a hierarchy, all
of their gradients are there at once.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from .._checks import MEANS, REDUCTIONS
from .._formulas import ALL, Formula
from .._native.ops import OPS, call, op
from .._reference import REDUCTION_NAMES
from .._reference.numerics import arithmetic_dtype, divisor
from .function import OUTPUT_MASKS, Found, Graph, Maybe, NativeFunction, only_needed

SCALAR = (REDUCTIONS["sum"], REDUCTIONS["mean"], REDUCTIONS["batchmean"])
NONE, EVENT = REDUCTIONS["none"], REDUCTIONS["event"]

# Looked up once: for a small batch the look-ups cost as much as the arithmetic.
SCALE = OPS.scale_gradient_.default


def one_pass(tensors: Sequence[Maybe], needed: tuple[bool, ...], reduction: int) -> bool:
    """Whether the gradients are written together with the value."""
    if reduction not in SCALAR or needed[-1]:  # of the weights it would need the values
        return False
    # Who hooks what is saved (checkpointing, offloading) decides what is kept.
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return False
    for t, w in zip(tensors, needed, strict=True):
        if t is not None and type(t) is not Tensor and not isinstance(t, Parameter):
            return False  # a subclass may have no numbers to scale
        # In float16 a mean's gradients underflow before a loss scale could save them.
        if w and t is not None and (t.dtype is torch.float16 or t.numel() == 0):
            return False
    return True


def gradient_by_weights(ctx: Any, saved: Sequence[Maybe], grad: Tensor) -> Tensor:
    """The values of the elements, and 0 for one that is left out."""
    *inputs, weights = saved
    assert weights is not None
    *numbers, count, event_dims, reduction = ctx.options
    options = (*numbers, None, event_dims, NONE)
    values = call(ctx._forward_cls.op, *inputs, weights != 0, *options)
    if reduction == EVENT:
        grad = grad.reshape(*grad.shape, *(1 for _ in range(event_dims)))
    elif (name := REDUCTION_NAMES[reduction]) in MEANS:
        grad = grad / (divisor(values.shape, event_dims, name) if count is None else count)
    wide = arithmetic_dtype(values, weights)
    found = (values.to(wide) * grad.to(wide)).masked_fill(weights == 0, 0.0)
    summed: Tensor = found.sum_to_size(weights.shape).to(weights.dtype)
    return summed


class FormulaFunction(NativeFunction):
    """The formula's tensors and the weights of the elements; options: the numbers that stand for
    absent ones, count, event_dims, reduction."""

    target_gradient: ClassVar[bool]

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        *tensors, options = args
        function = ctx._forward_cls
        ctx.save_for_backward(*tensors)
        ctx.options = options
        if ctx.needs_input_grad[1] and not function.target_gradient:
            raise RuntimeError("target required a gradient, expected counts, which have none")
        value: Tensor = call(function.op, *tensors, *options)
        return value

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Any) -> Found:
        (grad,) = grads
        inputs = ctx.saved_tensors  # which raises if they were modified
        mask = OUTPUT_MASKS[needed[:-1]]
        found = call(ctx._forward_cls.backward_op, grad, *inputs, *ctx.options, mask)
        by_weights = gradient_by_weights(ctx, inputs, grad) if needed[-1] else None
        return [*only_needed(found, needed[:-1]), by_weights]


class OnePassFunction(FormulaFunction):
    """The same, in one pass where that can be; the last argument is a pair, of the options and the
    incoming gradient that is expected. Only of public functions, where nobody records the call:
    what is scaled in place in backward, a compiler would have to copy."""

    one_pass_op: ClassVar[Any]

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        *tensors, (options, ctx.expected) = args
        function, needed = ctx._forward_cls, ctx.needs_input_grad[:-1]
        ctx.one_pass = one_pass(tensors, needed, options[-1])
        if not ctx.one_pass or (needed[1] and not function.target_gradient):
            return FormulaFunction.forward(ctx, *tensors, options)
        ctx.save_for_backward(*tensors)
        ctx.options = options
        mask = OUTPUT_MASKS[needed[:-1]]
        value, *ctx.found = call(function.one_pass_op, *tensors, *options, ctx.expected, mask)
        result: Tensor = value
        return result

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Any) -> Found:
        if not ctx.one_pass:
            return FormulaFunction.gradients(ctx, needed, *grads)
        (grad,) = grads
        function = ctx._forward_cls
        inputs = ctx.saved_tensors  # which raises if they were modified
        # Given away: a second backward pass computes them again, with the same roundings.
        found, ctx.found = ctx.found, None
        if found is None:
            mask = OUTPUT_MASKS[needed[:-1]]
            _, *found = call(function.one_pass_op, *inputs, *ctx.options, ctx.expected, mask)
        if not (grad.is_cpu and grad.item() == ctx.expected):  # elsewhere the kernel looks
            for gradient, n in zip(found, needed, strict=False):
                if n:
                    call(SCALE, gradient, grad, ctx.expected)
        return [*only_needed(found, needed[:-1]), None]


def function_of(formula: Formula, base: type[FormulaFunction]) -> type[FormulaFunction]:
    # All but the weights, and counts.
    served = (i for i in range(len(formula.tensors) - 1) if i != 1 or formula.target_gradient)
    members = {
        "name": formula.op,
        "graph": Graph(tuple(served)),
        "n_tensors": len(formula.tensors),
        "target_gradient": formula.target_gradient,
    }
    if base is OnePassFunction:
        members["one_pass_op"] = op(f"{formula.op}_with_gradients")
    name = "".join(word.capitalize() for word in formula.op.split("_"))
    return types.new_class(name, (base,), exec_body=lambda n: n.update(members))


FUNCTIONS = [function_of(formula, FormulaFunction) for formula in ALL]
# Of the public functions.
ONE_PASS = {f.op: function_of(f, OnePassFunction) for f in ALL}
