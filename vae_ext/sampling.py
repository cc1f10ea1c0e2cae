"""The torch.autograd Functions of several samples with their log-densities, and of a latent that
is held in one tensor or kept between bounds."""

from __future__ import annotations

from typing import Any

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
from .checks import GRADIENTS
from .ops import call
from .reference import KL, Z

SCORE = GRADIENTS.index("score")


class SampleWithLogDensities(NativeFunction):
    """Tensors mu, logvar, noise, seed; options seed_value, stream, n_samples, event_dims, and the
    number of what flows back. Noise is not differentiated."""

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Tensor, noise: Maybe, seed: Maybe, options: tuple[int, ...]
    ) -> Any:
        ctx.save_for_backward(mu, logvar, noise, seed)
        ctx.options = options
        ctx.set_materialize_grads(False)
        *op_options, flow = options
        z, log_q, log_p = call(
            OPS.sample_with_log_densities.default, mu, logvar, noise, seed, *op_options
        )
        if flow == SCORE:
            ctx.mark_non_differentiable(z, log_p)
        return z, log_q, log_p

    @staticmethod
    def backward(ctx: Any, grad_z: Maybe, grad_q: Maybe, grad_p: Maybe) -> Any:
        seed_value, stream, n_samples, event_dims, flow = ctx.options
        if flow == SCORE:
            grad_z = grad_p = None
        if grad_z is None and grad_q is None and grad_p is None:
            return None, None, None, None, None
        mu, logvar, noise, seed = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]

        if graph_wanted():

            def function(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
                return reference.sample_with_log_densities(
                    mu,
                    logvar,
                    n_samples=n_samples,
                    gradient=GRADIENTS[flow],
                    seed=seed_value if seed is None else seed,
                    noise=noise,
                    stream=stream,
                    event_dims=event_dims,
                )

            incoming = (grad_z, grad_q, grad_p)
            return (*differentiable(function, (mu, logvar), wanted, incoming), None, None, None)

        gradients = call(
            OPS.sample_with_log_densities_backward.default,
            grad_z,
            grad_q,
            grad_p,
            mu,
            logvar,
            noise,
            seed,
            *ctx.options,
            MASKS[wanted],
        )
        return (*only_wanted(gradients, wanted), None, None, None)


HARD, SOFT = 1, 2


class Latent(NativeFunction):
    """Tensors mu, logvar, noise, seed; or, where logvar is None, both in one tensor, halves along
    `dim`, whose gradient comes back as one. Options seed_value, stream, n_samples, bounds, low,
    high, event_dims, reduction, outputs, dim."""

    @staticmethod
    def halves(mu: Tensor, logvar: Maybe, dim: int) -> tuple[Tensor, Tensor]:
        if logvar is not None:
            return mu, logvar
        size = mu.shape[dim] // 2
        return mu.narrow(dim, 0, size), mu.narrow(dim, size, size)

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Maybe, noise: Maybe, seed: Maybe, options: tuple[Any, ...]
    ) -> Any:
        ctx.save_for_backward(mu, logvar, noise, seed)
        ctx.options = options
        ctx.set_materialize_grads(False)
        *op_options, dim = options
        parameters = Latent.halves(mu, logvar, dim)
        z, kl = call(OPS.latent.default, *parameters, noise, seed, *op_options)
        outputs = op_options[-1]
        if outputs == Z:
            ctx.mark_non_differentiable(kl)
        elif outputs == KL:
            ctx.mark_non_differentiable(z)
        return z, kl

    @staticmethod
    def backward(ctx: Any, grad_z: Maybe, grad_kl: Maybe) -> Any:
        *numbers, bounds, low, high, event_dims, reduction, outputs, dim = ctx.options
        grad_z, grad_kl = (grad_z if outputs & Z else None), (grad_kl if outputs & KL else None)
        if grad_z is None and grad_kl is None:
            return None, None, None, None, None
        mu, logvar, noise, seed = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]

        if graph_wanted():
            seed_value, stream, n_samples = numbers

            def function(mu: Tensor, logvar: Maybe) -> tuple[Tensor, ...]:
                found = reference.latent(
                    *Latent.halves(mu, logvar, dim),
                    bounds=(low, high, bounds == SOFT) if bounds else None,
                    outputs=outputs,
                    n_samples=n_samples or None,
                    seed=seed_value if seed is None else seed,
                    noise=noise,
                    stream=stream,
                    event_dims=event_dims,
                    reduction=REDUCTION_NAMES[reduction],
                )
                return tuple(t for t in found if t is not None)

            asked = ((Z, grad_z), (KL, grad_kl))
            incoming = [grad for bit, grad in asked if outputs & bit]
            found = differentiable(function, (mu, logvar), wanted, incoming)
            return (*found, None, None, None)

        packed = logvar is None
        gradients = call(
            OPS.latent_backward.default,
            grad_z,
            grad_kl,
            *Latent.halves(mu, logvar, dim),
            noise,
            seed,
            *ctx.options[:8],
            dim if packed else -1,
            MASKS[wanted],
        )
        return (*only_wanted(gradients, wanted), None, None, None)
