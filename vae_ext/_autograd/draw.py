"""The torch.autograd Function of several samples with their log-densities."""

from __future__ import annotations

from typing import Any

from .._checks import GRADIENTS
from .._weighting import weighted
from .function import Found, Graph, Maybe
from .latent import SamplingFunction

SCORE = GRADIENTS.index("score")
LOG_Q, ALL = 0b0010, 0b1111  # of z, log q, log p and the weights of the gradients


class SampleWithLogDensities(SamplingFunction):
    """Options seed_value, stream, n_samples, event_dims, and the number of what flows back."""

    name = "sample_with_log_densities"
    graph = Graph(
        served=(0, 1),
        outputs=4,
        incoming=3,
        differentiable=tuple(LOG_Q if g == SCORE else ALL for g in range(len(GRADIENTS))),
    )

    @staticmethod
    def backward(ctx: Any, *grads: Maybe) -> Any:
        grad_z, grad_q, grad_p, grad_weights = grads
        if ctx.options[-1] != SCORE:
            grad_z = weighted(grad_z, grad_weights)
        return SamplingFunction.backward(ctx, grad_z, grad_q, grad_p, None)

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        return SamplingFunction.gradients(ctx, needed, *grads[:3])
