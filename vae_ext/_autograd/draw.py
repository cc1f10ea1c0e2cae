"""The torch.autograd Function of several samples with their log-densities."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .._checks import GRADIENTS
from .._weighting import weighted
from .function import Found, Maybe, NativeFunction
from .latent import SamplingFunction

SCORE = GRADIENTS.index("score")


class SampleWithLogDensities(SamplingFunction):
    """Options seed_value, stream, n_samples, event_dims, and the number of what flows back."""

    name = "sample_with_log_densities"

    @staticmethod
    def mark(ctx: Any, outputs: tuple[Tensor, ...]) -> None:
        z, _, log_p, weights = outputs
        if ctx.options[-1] == SCORE:
            ctx.mark_non_differentiable(z, log_p, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Maybe) -> Any:
        grad_z, grad_q, grad_p, grad_weights = grads
        if ctx.options[-1] == SCORE:
            grad_z = grad_p = None
        grad_z = weighted(grad_z, grad_weights)
        return NativeFunction.backward(ctx, grad_z, grad_q, grad_p, None)

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        return SamplingFunction.gradients(ctx, needed, *grads[:3])
