"""The torch.autograd Functions of the likelihoods, whose scalar reductions take one pass.

The gradient of a sum needs nothing that the value does not, so it is written in the forward pass,
while the inputs are in registers, for the incoming gradient that a loss gives: −1, since losses
subtract log-likelihoods. In backward it is multiplied by what came instead, if anything else did.
The inputs would be alive until then anyway and the gradient's memory would be needed then, so the
peak is no higher.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import reference
from .autograd import (
    MASKS,
    OPS,
    REDUCTION_NAMES,
    Maybe,
    NativeFunction,
    differentiable,
    graph_wanted,
    only_wanted,
)
from .checks import REDUCTIONS
from .ops import call

SCALAR = (REDUCTIONS["sum"], REDUCTIONS["mean"], REDUCTIONS["batchmean"])


def one_pass(tensors: tuple[Maybe, ...], wanted: tuple[bool, ...], reduction: int) -> bool:
    """Whether the gradients are written together with the value."""
    if reduction not in SCALAR or torch.compiler.is_compiling():
        return False  # a compiler would have to copy what is scaled in place
    if torch._C._len_torch_dispatch_stack() > 0:
        return False
    # Who hooks what is saved (checkpointing, offloading) decides what is kept.
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return False
    # In float16 a mean's gradients underflow before a loss scale could save them.
    return not any(
        w and t is not None and (t.dtype == torch.float16 or t.numel() == 0)
        for t, w in zip(tensors, wanted, strict=True)
    )


def forward(ctx: Any, name: str, tensors: tuple[Maybe, ...], options: tuple[Any, ...]) -> Tensor:
    """`options` end with the code of the reduction."""
    ctx.save_for_backward(*tensors)
    ctx.options = options
    ctx.gradients = None
    wanted = ctx.needs_input_grad[: len(tensors)]
    if not one_pass(tensors, wanted, options[-1]):
        value: Tensor = call(getattr(OPS, name).default, *tensors, *options)
        return value
    op = getattr(OPS, f"{name}_with_gradients").default
    value, *ctx.gradients = call(op, *tensors, *options, MASKS[wanted])
    return value


def backward(ctx: Any, name: str, grad: Tensor, function: Any) -> tuple[Maybe, ...]:
    """`function` is the reference, of the tensors alone."""
    inputs = ctx.saved_tensors
    wanted = ctx.needs_input_grad[: len(inputs)]
    if graph_wanted():
        return (*differentiable(function, inputs, wanted, (grad,)), None)
    # Given away: a second backward pass computes them again.
    gradients, ctx.gradients = ctx.gradients, None
    if gradients is None:
        op = getattr(OPS, f"{name}_backward").default
        gradients = call(op, grad, *inputs, *ctx.options, MASKS[wanted])
    else:
        for gradient, w in zip(gradients, wanted, strict=True):
            if w:
                call(OPS.scale_gradient_.default, gradient, grad)
    return (*only_wanted(gradients, wanted), None)


class BernoulliLogLikelihood(NativeFunction):
    """Tensors logits, target; options event_dims, reduction."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, options: tuple[int, int]) -> Tensor:
        return forward(ctx, "bernoulli_log_likelihood", (logits, target), options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        event_dims, reduction = ctx.options

        def function(logits: Tensor, target: Tensor) -> Tensor:
            return reference.bernoulli_log_likelihood(
                logits, target, event_dims=event_dims, reduction=REDUCTION_NAMES[reduction]
            )

        return backward(ctx, "bernoulli_log_likelihood", grad, function)


class GaussianLogLikelihood(NativeFunction):
    """Tensors mean, target, logvar; options logvar_value, event_dims, reduction."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, target: Tensor, logvar: Maybe, options: tuple[float, int, int]
    ) -> Tensor:
        return forward(ctx, "gaussian_log_likelihood", (mean, target, logvar), options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        logvar_value, event_dims, reduction = ctx.options

        def function(mean: Tensor, target: Tensor, logvar: Maybe) -> Tensor:
            return reference.gaussian_log_likelihood(
                mean,
                target,
                logvar_value if logvar is None else logvar,
                event_dims=event_dims,
                reduction=REDUCTION_NAMES[reduction],
            )

        return backward(ctx, "gaussian_log_likelihood", grad, function)
