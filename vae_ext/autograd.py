"""The torch.autograd Functions: the native ops with their hand-derived backward ops.

Each takes its tensors and then one tuple of numbers, as the op does. It keeps its inputs, its
outputs and the seed for backward, and nothing else. A backward pass that is itself to be
differentiated (`create_graph=True`) goes through the reference formulas. The likelihoods' Functions
are in likelihoods.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import reference
from .checks import REDUCTIONS
from .ops import call

OPS = torch.ops.vae_ext
REDUCTION_NAMES = {code: name for name, code in REDUCTIONS.items()}
Maybe = Tensor | None

# needs_input_grad as the ops take it: bit i for input i.
MASKS = {
    wanted: sum(1 << i for i, w in enumerate(wanted) if w)
    for n in (2, 3, 4)
    for wanted in itertools.product((False, True), repeat=n)
}


class NativeFunction(torch.autograd.Function):
    @classmethod
    def fast_apply(cls, *args: Any) -> Any:
        """`apply` less the bookkeeping for torch.func, whose transforms never come here.

        For a small latent that bookkeeping costs as much as the arithmetic.
        """
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]


def run(
    function: type[NativeFunction],
    op: Any,
    tensors: tuple[Maybe, ...],
    options: tuple[Any, ...],
    backward_options: tuple[Any, ...] = (),
) -> Any:
    """The Function where a gradient is needed, and its op alone where none is.

    `backward_options`: what the Function takes besides, for its backward op.
    """
    if torch.is_grad_enabled():
        for t in tensors:
            if t is not None and t.requires_grad:
                options += backward_options
                if torch.compiler.is_compiling():
                    return function.apply(*tensors, options)
                return function.fast_apply(*tensors, options)
    return call(op, *tensors, *options)


def graph_wanted() -> bool:
    """True in a backward pass that must itself be differentiable."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def differentiable(
    function: Callable[..., Any],
    inputs: Sequence[Maybe],
    wanted: Sequence[bool],
    gradients: Sequence[Maybe],
) -> list[Maybe]:
    """The gradients of a reference function, as functions of its inputs and of what came in."""
    # Views, so that an input computed from another is here an independent variable.
    fresh = [
        t.view_as(t) if w and t is not None else t for t, w in zip(inputs, wanted, strict=True)
    ]
    outputs = function(*fresh)
    if isinstance(outputs, Tensor):
        outputs = (outputs,)
    pairs = [
        (o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad
    ]
    variables = [t for t, w in zip(fresh, wanted, strict=True) if w and t is not None]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs],
            variables,
            [g for _, g in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [
        next(found) if w and t is not None else None for t, w in zip(inputs, wanted, strict=True)
    ]


def only_wanted(gradients: Sequence[Tensor], wanted: Sequence[bool]) -> list[Maybe]:
    return [g if w else None for g, w in zip(gradients, wanted, strict=True)]


def noise_gradient(grad_z: Tensor, logvar: Tensor, noise: Tensor) -> Any:
    return call(OPS.reparameterize_dnoise.default, grad_z, logvar, noise)


class Reparameterize(NativeFunction):
    """Tensors mu, logvar, noise, seed; options seed_value, stream, n_samples."""

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Tensor, noise: Maybe, seed: Maybe, options: tuple[int, ...]
    ) -> Any:
        # mu is not kept: no gradient depends on it.
        ctx.save_for_backward(logvar, noise, seed)
        ctx.options = options
        ctx.mu_dtype = mu.dtype
        return call(OPS.reparameterize.default, mu, logvar, noise, seed, *options)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> Any:
        logvar, noise, seed = ctx.saved_tensors
        seed_value, stream, n_samples = ctx.options
        wanted = ctx.needs_input_grad[:3]

        if graph_wanted():
            sample = grad_z[0] if n_samples else grad_z
            mu = torch.zeros_like(sample, dtype=ctx.mu_dtype, requires_grad=wanted[0])

            def function(mu: Tensor, logvar: Tensor, noise: Maybe) -> Tensor:
                return reference.reparameterize(
                    mu,
                    logvar,
                    n_samples=n_samples or None,
                    seed=seed_value if seed is None else seed,
                    noise=noise,
                    stream=stream,
                )

            return (*differentiable(function, (mu, logvar, noise), wanted, (grad_z,)), None, None)

        grad_mu, grad_logvar = grad_z, None  # dz/dmu = 1
        if n_samples or wanted[1]:
            of_samples, grad_logvar = call(
                OPS.reparameterize_backward.default,
                grad_z,
                logvar,
                noise,
                seed,
                *ctx.options,
                MASKS[wanted[0] and n_samples > 0, wanted[1]],
            )
            if n_samples:
                grad_mu = of_samples
        return (
            grad_mu.to(ctx.mu_dtype) if wanted[0] else None,
            grad_logvar if wanted[1] else None,
            noise_gradient(grad_z, logvar, noise) if wanted[2] else None,
            None,
            None,
        )


class ReparameterizeWithKL(NativeFunction):
    """Tensors and options of Reparameterize; then options event_dims, reduction."""

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Tensor, noise: Maybe, seed: Maybe, options: tuple[int, ...]
    ) -> Any:
        ctx.save_for_backward(mu, logvar, noise, seed)
        ctx.options = options
        ctx.set_materialize_grads(False)  # an output that is not used costs nothing
        return call(OPS.reparameterize_with_kl.default, mu, logvar, noise, seed, *options)

    @staticmethod
    def backward(ctx: Any, grad_z: Maybe, grad_kl: Maybe) -> Any:
        if grad_z is None and grad_kl is None:
            return None, None, None, None, None
        mu, logvar, noise, seed = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]

        if graph_wanted():
            seed_value, stream, n_samples, event_dims, reduction = ctx.options

            def function(mu: Tensor, logvar: Tensor, noise: Maybe) -> tuple[Tensor, Tensor]:
                return reference.reparameterize_with_kl(
                    mu,
                    logvar,
                    n_samples=n_samples or None,
                    seed=seed_value if seed is None else seed,
                    noise=noise,
                    stream=stream,
                    event_dims=event_dims,
                    reduction=REDUCTION_NAMES[reduction],
                )

            inputs = (mu, logvar, noise)
            return (*differentiable(function, inputs, wanted, (grad_z, grad_kl)), None, None)

        grad_mu, grad_logvar = call(
            OPS.reparameterize_with_kl_backward.default,
            grad_z,
            grad_kl,
            mu,
            logvar,
            noise,
            seed,
            *ctx.options,
            MASKS[wanted[:2]],
        )
        return (
            grad_mu if wanted[0] else None,
            grad_logvar if wanted[1] else None,
            noise_gradient(grad_z, logvar, noise) if wanted[2] and grad_z is not None else None,
            None,
            None,
        )


class GaussianKL(NativeFunction):
    """Tensors mu, logvar, prior_mu, prior_logvar; options event_dims, reduction."""

    @staticmethod
    def forward(
        ctx: Any,
        mu: Tensor,
        logvar: Tensor,
        prior_mu: Maybe,
        prior_logvar: Maybe,
        options: tuple[int, int],
    ) -> Any:
        ctx.save_for_backward(mu, logvar, prior_mu, prior_logvar)
        ctx.options = options
        return call(OPS.gaussian_kl.default, mu, logvar, prior_mu, prior_logvar, *options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:4]

        if graph_wanted():
            event_dims, reduction = ctx.options

            def function(*tensors: Any) -> Tensor:
                return reference.gaussian_kl(
                    *tensors, event_dims=event_dims, reduction=REDUCTION_NAMES[reduction]
                )

            return (*differentiable(function, inputs, wanted, (grad,)), None)

        gradients = call(
            OPS.gaussian_kl_backward.default, grad, *inputs, *ctx.options, MASKS[wanted]
        )
        return (*only_wanted(gradients, wanted), None)
