"""The torch.autograd Functions of several samples with their log-densities, and of a latent that
is held in one tensor or kept between bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from . import reference
from .autograd import MASKS, REDUCTION_NAMES, Found, Maybe, NativeFunction, draws, only_wanted
from .checks import GRADIENTS
from .ops import OPS, call
from .reference import KL, Z
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

    @staticmethod
    def formula(tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        mu, logvar, *noise = tensors
        *numbers, event_dims, flow = options
        found = reference.sample_with_log_densities(
            mu,
            logvar,
            **draws(*noise, *numbers),
            event_dims=event_dims,
            gradient=GRADIENTS[flow],
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
    def gradients(ctx: Any, wanted: tuple[bool, ...], *grads: Maybe) -> Found:
        *flowing, _ = grads
        if all(g is None for g in flowing):
            return None, None, None, None
        found = call(
            OPS.sample_with_log_densities_backward.default,
            *flowing,
            *ctx.saved_tensors,
            *ctx.options,
            MASKS[wanted[:2]],
        )
        return (*only_wanted(found, wanted[:2]), None, None)


HARD, SOFT = 1, 2


class Latent(NativeFunction):
    """Tensors mu, logvar, noise, seed; or, where logvar is None, both in one tensor, halves along
    `dim`, whose gradient comes back as one. Options seed_value, stream, n_samples, bounds, low,
    high, event_dims, reduction, dim, outputs."""

    op = OPS.latent.default
    n_tensors = 4

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Maybe, noise: Maybe, seed: Maybe, options: tuple[Any, ...]
    ) -> Any:
        ctx.save_for_backward(mu, logvar, noise, seed)
        ctx.options = options
        ctx.set_materialize_grads(False)
        z, kl = call(OPS.latent.default, mu, logvar, noise, seed, *options)
        outputs = options[-1]
        if outputs == Z:
            ctx.mark_non_differentiable(kl)
        elif outputs == KL:
            ctx.mark_non_differentiable(z)
        return z, kl

    @staticmethod
    def formula(tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        mu, logvar, *noise = tensors
        *numbers, bounds, low, high, event_dims, reduction, dim, outputs = options
        if logvar is None:
            mu, logvar = mu.chunk(2, dim)
        return reference.latent(
            mu,
            logvar,
            **draws(*noise, *numbers),
            bounds=(low, high, bounds == SOFT) if bounds else None,
            outputs=outputs,
            event_dims=event_dims,
            reduction=REDUCTION_NAMES[reduction],
        )

    @staticmethod
    def backward(ctx: Any, *grads: Maybe) -> Any:
        outputs = ctx.options[-1]  # of the other there is a gradient too, of no elements
        asked = [g if outputs & bit else None for bit, g in zip((Z, KL), grads, strict=True)]
        return NativeFunction.backward(ctx, *asked)

    @staticmethod
    def gradients(ctx: Any, wanted: tuple[bool, ...], *grads: Maybe) -> Found:
        if all(g is None for g in grads):
            return None, None, None, None
        *options, _ = ctx.options
        found = call(
            OPS.latent_backward.default, *grads, *ctx.saved_tensors, *options, MASKS[wanted[:2]]
        )
        return (*only_wanted(found, wanted[:2]), None, None)
