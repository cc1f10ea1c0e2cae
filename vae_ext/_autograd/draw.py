"""The torch.autograd Function of several samples with their log-densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .. import _reference as reference
from .._checks import GRADIENTS
from .._native.ops import OPS, call
from .function import OUTPUT_MASKS, Found, Maybe, NativeFunction, only_needed
from .latent import draws
from .weighting import weighted

SCORE = GRADIENTS.index("score")


class SampleWithLogDensities(NativeFunction):
    """Tensors mu, logvar, noise, seed; options seed_value, stream, n_samples, event_dims, and the
    number of what flows back. Noise is not differentiated."""

    op = OPS.sample_with_log_densities.default
    n_tensors = 4

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Tensor, noise: Maybe, seed: Maybe, options: tuple[int, ...]
    ) -> Any:
        ctx.save_for_backward(mu, logvar, noise, seed)
        ctx.options = options
        ctx.set_materialize_grads(False)
        z, log_q, log_p, weights = call(
            OPS.sample_with_log_densities.default, mu, logvar, noise, seed, *options
        )
        if options[-1] == SCORE:
            ctx.mark_non_differentiable(z, log_p, weights)
        return z, log_q, log_p, weights

    @classmethod
    def formula(cls, tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        mu, logvar, *noise = tensors
        *numbers, event_dims, gradient = options
        found = reference.sample_with_log_densities(
            mu,
            logvar,
            **draws(*noise, *numbers),
            event_dims=event_dims,
            gradient=GRADIENTS[gradient],
        )
        return (*found, None)

    @staticmethod
    def backward(ctx: Any, *grads: Maybe) -> Any:
        grad_z, grad_q, grad_p, grad_weights = grads
        if ctx.options[-1] == SCORE:
            grad_z = grad_p = None
        grad_z = weighted(grad_z, grad_weights)
        return NativeFunction.backward(ctx, grad_z, grad_q, grad_p, None)

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        *flowing, _ = grads
        if all(g is None for g in flowing):
            return None, None, None, None
        found = call(
            OPS.sample_with_log_densities_backward.default,
            *flowing,
            *ctx.saved_tensors,
            *ctx.options,
            OUTPUT_MASKS[needed[:2]],
        )
        return (*only_needed(found, needed[:2]), None, None)
