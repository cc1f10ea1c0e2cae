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
EXPECTED = -1.0  # kExpectedGradient in csrc/tensors.h

# Looked up once: for a small batch the look-ups cost as much as the arithmetic.
BERNOULLI = OPS.bernoulli_log_likelihood.default
BERNOULLI_BOTH = OPS.bernoulli_log_likelihood_with_gradients.default
BERNOULLI_BACKWARD = OPS.bernoulli_log_likelihood_backward.default
GAUSSIAN = OPS.gaussian_log_likelihood.default
GAUSSIAN_BOTH = OPS.gaussian_log_likelihood_with_gradients.default
GAUSSIAN_BACKWARD = OPS.gaussian_log_likelihood_backward.default
SCALE = OPS.scale_gradient_.default


def one_pass(tensors: tuple[Maybe, ...], wanted: tuple[bool, ...], reduction: int) -> bool:
    """Whether the gradients are written together with the value."""
    if reduction not in SCALAR or torch.compiler.is_compiling():
        return False  # a compiler would have to copy what is scaled in place
    if torch._C._len_torch_dispatch_stack() > 0:
        return False
    # Who hooks what is saved (checkpointing, offloading) decides what is kept.
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return False
    for t, w in zip(tensors, wanted, strict=True):
        # In float16 a mean's gradients underflow before a loss scale could save them.
        if w and t is not None and (t.dtype is torch.float16 or t.numel() == 0):
            return False
    return True


def forward(
    ctx: Any, op: Any, both: Any, tensors: tuple[Maybe, ...], options: tuple[Any, ...]
) -> Tensor:
    """By the op alone or by the one that computes both; `options` end with the reduction's code."""
    ctx.save_for_backward(*tensors)
    ctx.options = options
    wanted = ctx.needs_input_grad[: len(tensors)]
    ctx.one_pass = one_pass(tensors, wanted, options[-1])
    ctx.gradients = None
    if ctx.one_pass:
        value, *ctx.gradients = call(both, *tensors, *options, MASKS[wanted])
    else:
        value = call(op, *tensors, *options)
    result: Tensor = value
    return result


def backward(ctx: Any, op: Any, both: Any, grad: Tensor) -> tuple[Maybe, ...]:
    inputs = ctx.saved_tensors  # which raises if they were modified
    wanted = ctx.needs_input_grad[: len(inputs)]
    if ctx.one_pass:
        # Given away: a second backward pass computes them again, with the same roundings.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            _, *gradients = call(both, *inputs, *ctx.options, MASKS[wanted])
        if not (grad.is_cpu and grad.item() == EXPECTED):  # elsewhere the kernel looks
            for gradient, w in zip(gradients, wanted, strict=True):
                if w:
                    call(SCALE, gradient, grad)
    else:
        gradients = call(op, grad, *inputs, *ctx.options, MASKS[wanted])
    return (*only_wanted(gradients, wanted), None)


class BernoulliLogLikelihood(NativeFunction):
    """Tensors logits, target; options event_dims, reduction."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, options: tuple[int, int]) -> Tensor:
        return forward(ctx, BERNOULLI, BERNOULLI_BOTH, (logits, target), options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if not graph_wanted():
            return backward(ctx, BERNOULLI_BACKWARD, BERNOULLI_BOTH, grad)
        event_dims, reduction = ctx.options

        def function(logits: Tensor, target: Tensor) -> Tensor:
            return reference.bernoulli_log_likelihood(
                logits, target, event_dims=event_dims, reduction=REDUCTION_NAMES[reduction]
            )

        inputs = ctx.saved_tensors
        return (*differentiable(function, inputs, ctx.needs_input_grad[:2], (grad,)), None)


class GaussianLogLikelihood(NativeFunction):
    """Tensors mean, target, logvar; options logvar_value, event_dims, reduction."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, target: Tensor, logvar: Maybe, options: tuple[float, int, int]
    ) -> Tensor:
        return forward(ctx, GAUSSIAN, GAUSSIAN_BOTH, (mean, target, logvar), options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if not graph_wanted():
            return backward(ctx, GAUSSIAN_BACKWARD, GAUSSIAN_BOTH, grad)
        logvar_value, event_dims, reduction = ctx.options

        def function(mean: Tensor, target: Tensor, logvar: Maybe) -> Tensor:
            return reference.gaussian_log_likelihood(
                mean,
                target,
                logvar_value if logvar is None else logvar,
                event_dims=event_dims,
                reduction=REDUCTION_NAMES[reduction],
            )

        inputs = ctx.saved_tensors
        return (*differentiable(function, inputs, ctx.needs_input_grad[:3], (grad,)), None)
