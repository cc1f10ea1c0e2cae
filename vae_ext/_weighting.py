"""How the normalized weights of an estimate reach the gradient of its samples.

:func:`vae_ext.estimators.doubly_reparameterized_iwae` weights what comes back through z twice, and
what comes back to the decoder once. So a draw has one output more, zeros: the estimate multiplies
them by its weights, which come back as their gradient to where that of z passes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._native.dispatch import differentiating_forward, is_dynamo_compiling, transforming, within

# Whether a compiled program may have a Function under a transform of torch.func.
COMPILED_FUNCTIONS_TRANSFORM = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)


def weighted(grad_z: Tensor | None, grad_zeros: Tensor | None) -> Tensor | None:
    """The gradient of z, weighted by that of the zeros.

    Weights come as w · g, g being what the loss makes of an event; over the samples w sums to 1.
    """
    if grad_z is None or grad_zeros is None:
        return grad_z
    total = grad_zeros.sum(0)
    # Zeros are what no weights come as, where somebody writes them out.
    share = torch.where(total == 0, torch.ones_like(grad_zeros), grad_zeros / total)
    return grad_z * share.reshape(*share.shape, *[1] * (grad_z.ndim - share.ndim)).to(grad_z.dtype)


class Weigh(torch.autograd.Function):
    """z and zeros as they are, for draws in plain PyTorch."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, zeros: Tensor) -> tuple[Tensor, Tensor]:
        return z.view_as(z), zeros.view_as(zeros)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_zeros: Tensor | None) -> Any:
        return weighted(grad_z, grad_zeros), None


def with_weights(z: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor | None]:
    """z and the zeros [n_samples, events] by which it is weighted. None where that cannot be:
    forward mode weighs nothing, and functionalization has no rule for Functions."""
    if differentiating_forward() or within("Functionalize"):
        return z, None
    if is_dynamo_compiling() and transforming() and not COMPILED_FUNCTIONS_TRANSFORM:
        return z, None
    found: tuple[Tensor, Tensor] = Weigh.apply(z, torch.zeros_like(log_q))
    return found
