"""The torch.autograd Functions of samples, alone, with their KL divergence, and of a latent that is
held in one tensor or kept between bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .. import _reference as reference
from .._native.ops import OPS, call
from .._reference import KL, REDUCTION_NAMES, Z
from .function import (
    OUTPUT_MASKS,
    Found,
    Maybe,
    NativeFunction,
    only_needed,
)


def noise_gradient(grad_z: Tensor, logvar: Tensor, noise: Tensor) -> Any:
    return call(OPS.reparameterize_dnoise.default, grad_z, logvar, noise)


def draws(
    noise: Maybe, seed: Maybe, seed_value: int, stream: int, n_samples: int
) -> dict[str, Any]:
    """What the ops take of the noise, as the reference takes it."""
    return {
        "noise": noise,
        "seed": seed_value if seed is None else seed,
        "stream": stream,
        "n_samples": n_samples or None,
    }


class Reparameterize(NativeFunction):
    """Tensors mu, logvar, noise, seed; options seed_value, stream, n_samples."""

    op = OPS.reparameterize.default
    n_tensors = 4

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Tensor, noise: Maybe, seed: Maybe, options: tuple[int, ...]
    ) -> Any:
        # mu is not kept: no gradient depends on it.
        ctx.save_for_backward(logvar, noise, seed)
        ctx.options = options
        ctx.mu_dtype, ctx.mu_shape = mu.dtype, mu.shape
        return call(OPS.reparameterize.default, mu, logvar, noise, seed, *options)

    @classmethod
    def formula(cls, tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        mu, logvar, *noise = tensors
        return reference.reparameterize(mu, logvar, **draws(*noise, *options))

    @staticmethod
    def inputs(ctx: Any) -> Sequence[Maybe]:
        logvar, *noise = ctx.saved_tensors
        mu = logvar.new_zeros(ctx.mu_shape, dtype=ctx.mu_dtype)
        return (mu.requires_grad_(ctx.needs_input_grad[0]), logvar, *noise)

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Any) -> Found:
        (grad_z,) = grads
        logvar, noise, seed = ctx.saved_tensors
        n_samples = ctx.options[-1]
        grad_mu, grad_logvar = grad_z, None  # dz/dmu = 1
        if n_samples or needed[1]:
            of_samples, grad_logvar = call(
                OPS.reparameterize_backward.default,
                grad_z,
                logvar,
                noise,
                seed,
                *ctx.options,
                OUTPUT_MASKS[needed[0] and n_samples > 0, needed[1]],
            )
            if n_samples:
                grad_mu = of_samples
        return (
            grad_mu.to(ctx.mu_dtype) if needed[0] else None,
            grad_logvar if needed[1] else None,
            noise_gradient(grad_z, logvar, noise) if needed[2] else None,
            None,
        )


class ReparameterizeWithKL(NativeFunction):
    """Tensors and options of Reparameterize; then options event_dims, reduction."""

    op = OPS.reparameterize_with_kl.default
    n_tensors = 4

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Tensor, noise: Maybe, seed: Maybe, options: tuple[int, ...]
    ) -> Any:
        ctx.save_for_backward(mu, logvar, noise, seed)
        ctx.options = options
        ctx.set_materialize_grads(False)  # an output that is not used costs nothing
        return call(OPS.reparameterize_with_kl.default, mu, logvar, noise, seed, *options)

    @classmethod
    def formula(cls, tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        mu, logvar, *noise = tensors
        *numbers, event_dims, reduction = options
        return reference.reparameterize_with_kl(
            mu,
            logvar,
            **draws(*noise, *numbers),
            event_dims=event_dims,
            reduction=REDUCTION_NAMES[reduction],
        )

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        grad_z, grad_kl = grads
        if grad_z is None and grad_kl is None:
            return None, None, None, None
        mu, logvar, noise, seed = ctx.saved_tensors
        grad_mu, grad_logvar = call(
            OPS.reparameterize_with_kl_backward.default,
            grad_z,
            grad_kl,
            mu,
            logvar,
            noise,
            seed,
            *ctx.options,
            OUTPUT_MASKS[needed[:2]],
        )
        return (
            grad_mu if needed[0] else None,
            grad_logvar if needed[1] else None,
            noise_gradient(grad_z, logvar, noise) if needed[2] and grad_z is not None else None,
            None,
        )


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

    @classmethod
    def formula(cls, tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
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
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        if all(g is None for g in grads):
            return None, None, None, None
        *options, _ = ctx.options
        found = call(
            OPS.latent_backward.default,
            *grads,
            *ctx.saved_tensors,
            *options,
            OUTPUT_MASKS[needed[:2]],
        )
        return (*only_needed(found, needed[:2]), None, None)
