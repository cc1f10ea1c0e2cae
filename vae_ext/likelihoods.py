"""The torch.autograd Functions of the likelihoods, whose scalar reductions take one pass.

The gradient of a sum needs nothing that the value does not, so it is written in the forward pass,
while the inputs are in registers, for the incoming gradient that a loss gives: −1, since losses
subtract log-likelihoods. In backward it is multiplied by what came instead, if anything else did.
The inputs would be alive until then anyway and the gradient's memory would be needed then, so the
peak is no higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from . import reference
from .autograd import MASKS, REDUCTION_NAMES, Found, Maybe, NativeFunction, only_wanted
from .checks import REDUCTIONS
from .ops import OPS, call

SCALAR = (REDUCTIONS["sum"], REDUCTIONS["mean"], REDUCTIONS["batchmean"])
EXPECTED = -1.0  # kExpectedGradient in csrc/tensors.h

# Looked up once: for a small batch the look-ups cost as much as the arithmetic.
BERNOULLI_BOTH = OPS.bernoulli_log_likelihood_with_gradients.default
BERNOULLI_BACKWARD = OPS.bernoulli_log_likelihood_backward.default
GAUSSIAN_BOTH = OPS.gaussian_log_likelihood_with_gradients.default
GAUSSIAN_BACKWARD = OPS.gaussian_log_likelihood_backward.default
SCALE = OPS.scale_gradient_.default


def one_pass(tensors: tuple[Maybe, ...], wanted: tuple[bool, ...], reduction: int) -> bool:
    """Whether the gradients are written together with the value."""
    if reduction not in SCALAR:
        return False
    # Who hooks what is saved (checkpointing, offloading) decides what is kept.
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return False
    for t, w in zip(tensors, wanted, strict=True):
        if t is not None and type(t) is not Tensor and not isinstance(t, Parameter):
            return False  # a subclass may have no numbers to scale
        # In float16 a mean's gradients underflow before a loss scale could save them.
        if w and t is not None and (t.dtype is torch.float16 or t.numel() == 0):
            return False
    return True


def forward(
    ctx: Any,
    function: type[NativeFunction],
    both: Any,
    tensors: tuple[Maybe, ...],
    options: tuple[Any, ...],
) -> Tensor:
    """By the op alone or by the one that computes both; `options` end with the reduction's code."""
    ctx.save_for_backward(*tensors)
    ctx.options = options
    wanted = ctx.needs_input_grad[: len(tensors)]
    ctx.one_pass = ctx._forward_cls.direct and one_pass(tensors, wanted, options[-1])
    ctx.found = None
    if ctx.one_pass:
        value, *ctx.found = call(both, *tensors, *options, MASKS[wanted])
    else:
        value = call(function.op, *tensors, *options)
    result: Tensor = value
    return result


def gradients(ctx: Any, op: Any, both: Any, wanted: tuple[bool, ...], grad: Any) -> list[Maybe]:
    inputs = ctx.saved_tensors  # which raises if they were modified
    if ctx.one_pass:
        # Given away: a second backward pass computes them again, with the same roundings.
        found, ctx.found = ctx.found, None
        if found is None:
            _, *found = call(both, *inputs, *ctx.options, MASKS[wanted])
        if not (grad.is_cpu and grad.item() == EXPECTED):  # elsewhere the kernel looks
            for gradient, w in zip(found, wanted, strict=True):
                if w:
                    call(SCALE, gradient, grad)
    else:
        found = call(op, grad, *inputs, *ctx.options, MASKS[wanted])
    return only_wanted(found, wanted)


class BernoulliLogLikelihood(NativeFunction):
    """Tensors logits, target; options event_dims, reduction."""

    direct = False
    op = OPS.bernoulli_log_likelihood.default
    n_tensors = 2

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, options: tuple[int, int]) -> Tensor:
        return forward(ctx, BernoulliLogLikelihood, BERNOULLI_BOTH, (logits, target), options)

    @staticmethod
    def formula(tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        event_dims, reduction = options
        return reference.bernoulli_log_likelihood(
            *tensors, event_dims=event_dims, reduction=REDUCTION_NAMES[reduction]
        )

    @staticmethod
    def gradients(ctx: Any, wanted: tuple[bool, ...], *grads: Maybe) -> Found:
        return gradients(ctx, BERNOULLI_BACKWARD, BERNOULLI_BOTH, wanted, *grads)


class GaussianLogLikelihood(NativeFunction):
    """Tensors mean, target, logvar; options logvar_value, event_dims, reduction."""

    direct = False
    op = OPS.gaussian_log_likelihood.default
    n_tensors = 3

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, target: Tensor, logvar: Maybe, options: tuple[float, int, int]
    ) -> Tensor:
        return forward(ctx, GaussianLogLikelihood, GAUSSIAN_BOTH, (mean, target, logvar), options)

    @staticmethod
    def formula(tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        mean, target, logvar = tensors
        value, event_dims, reduction = options
        return reference.gaussian_log_likelihood(
            mean,
            target,
            value if logvar is None else logvar,
            event_dims=event_dims,
            reduction=REDUCTION_NAMES[reduction],
        )

    @staticmethod
    def gradients(ctx: Any, wanted: tuple[bool, ...], *grads: Maybe) -> Found:
        return gradients(ctx, GAUSSIAN_BACKWARD, GAUSSIAN_BOTH, wanted, *grads)


# Of the public functions, where nobody records the call: what is scaled in place in backward, a
# compiler would have to copy.


class DirectBernoulliLogLikelihood(BernoulliLogLikelihood):
    direct = True


class DirectGaussianLogLikelihood(GaussianLogLikelihood):
    direct = True
