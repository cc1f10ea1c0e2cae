"""The torch.autograd Functions: the native ops with their hand-derived backward ops.

Each keeps its inputs, its outputs and the seed for backward, and nothing else. A backward pass that
is itself to be differentiated (`create_graph=True`) goes through the reference formulas.
"""

from __future__ import annotations

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


def to_size(gradient: Tensor, t: Tensor) -> Tensor:
    """The gradient of an input that was broadcast or promoted, as that input's."""
    if gradient.shape != t.shape:
        gradient = gradient.sum_to_size(t.shape)
    return gradient if gradient.dtype == t.dtype else gradient.to(t.dtype)


def collect(
    gradients: Sequence[Tensor], inputs: Sequence[Maybe], wanted: Sequence[bool]
) -> list[Maybe]:
    """What a backward op returned, with None where no gradient was asked for."""
    return [
        to_size(g, t) if w and t is not None else None
        for g, t, w in zip(gradients, inputs, wanted, strict=True)
    ]


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
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None]
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


class Reparameterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mu: Tensor,
        logvar: Tensor,
        noise: Maybe,
        seed: Maybe,
        seed_value: int,
        stream: int,
        n_samples: int,
    ) -> Tensor:
        # mu is not kept: no gradient depends on it.
        ctx.save_for_backward(logvar, noise, seed)
        ctx.key = (seed_value, stream, n_samples)
        ctx.mu_dtype = mu.dtype
        z: Tensor = call(
            OPS.reparameterize.default, mu, logvar, noise, seed, seed_value, stream, n_samples
        )
        return z

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Maybe, ...]:  # type: ignore[override]
        logvar, noise, seed = ctx.saved_tensors
        seed_value, stream, n_samples = ctx.key
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

            inputs = (mu, logvar, noise)
            return (*differentiable(function, inputs, wanted, (grad_z,)), None, None, None, None)

        # dz/dmu = 1
        grad_mu = grad_z if wanted[0] else None
        if n_samples or wanted[1] or wanted[2]:
            gradients = call(
                OPS.reparameterize_backward.default,
                grad_z,
                logvar,
                noise,
                seed,
                seed_value,
                stream,
                n_samples,
                [wanted[0] and n_samples > 0, wanted[1], wanted[2]],
            )
            if n_samples and wanted[0]:
                grad_mu = gradients[0]
            rest = collect(gradients[1:], (logvar, noise), wanted[1:])
        else:
            rest = [None, None]
        if grad_mu is not None and grad_mu.dtype != ctx.mu_dtype:
            grad_mu = grad_mu.to(ctx.mu_dtype)
        return (grad_mu, *rest, None, None, None, None)


class ReparameterizeWithKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mu: Tensor,
        logvar: Tensor,
        noise: Maybe,
        seed: Maybe,
        seed_value: int,
        stream: int,
        n_samples: int,
        event_dims: int,
        reduction: int,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(mu, logvar, noise, seed)
        ctx.key = (seed_value, stream, n_samples, event_dims, reduction)
        ctx.set_materialize_grads(False)  # an output that is not used costs nothing
        z, kl = call(
            OPS.reparameterize_with_kl.default,
            mu,
            logvar,
            noise,
            seed,
            seed_value,
            stream,
            n_samples,
            event_dims,
            reduction,
        )
        return z, kl

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_z: Maybe, grad_kl: Maybe
    ) -> tuple[Maybe, ...]:
        if grad_z is None and grad_kl is None:
            return (None,) * 9
        mu, logvar, noise, seed = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]

        if graph_wanted():
            seed_value, stream, n_samples, event_dims, reduction = ctx.key

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
            return (*differentiable(function, inputs, wanted, (grad_z, grad_kl)), *(None,) * 6)

        gradients = call(
            OPS.reparameterize_with_kl_backward.default,
            grad_z,
            grad_kl,
            mu,
            logvar,
            noise,
            seed,
            *ctx.key,
            wanted,
        )
        collected = collect(gradients, (mu, logvar, noise), wanted)
        if grad_z is None:
            collected[2] = None
        return (*collected, *(None,) * 6)


class GaussianKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mu: Tensor,
        logvar: Tensor,
        prior_mu: Maybe,
        prior_logvar: Maybe,
        event_dims: int,
        reduction: int,
    ) -> Tensor:
        ctx.save_for_backward(mu, logvar, prior_mu, prior_logvar)
        ctx.events = (event_dims, reduction)
        kl: Tensor = call(
            OPS.gaussian_kl.default, mu, logvar, prior_mu, prior_logvar, event_dims, reduction
        )
        return kl

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Maybe, ...]:  # type: ignore[override]
        inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:4]

        if graph_wanted():
            event_dims, reduction = ctx.events

            def function(*tensors: Any) -> Tensor:
                return reference.gaussian_kl(
                    *tensors, event_dims=event_dims, reduction=REDUCTION_NAMES[reduction]
                )

            return (*differentiable(function, inputs, wanted, (grad,)), None, None)

        gradients = call(OPS.gaussian_kl_backward.default, grad, *inputs, *ctx.events, wanted)
        return (*collect(gradients, inputs, wanted), None, None)


class BernoulliLogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, event_dims: int, reduction: int
    ) -> Tensor:
        ctx.save_for_backward(logits, target)
        ctx.events = (event_dims, reduction)
        ll: Tensor = call(
            OPS.bernoulli_log_likelihood.default, logits, target, event_dims, reduction
        )
        return ll

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Maybe, ...]:  # type: ignore[override]
        inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]

        if graph_wanted():
            event_dims, reduction = ctx.events

            def function(logits: Tensor, target: Tensor) -> Tensor:
                return reference.bernoulli_log_likelihood(
                    logits, target, event_dims=event_dims, reduction=REDUCTION_NAMES[reduction]
                )

            return (*differentiable(function, inputs, wanted, (grad,)), None, None)

        gradients = call(
            OPS.bernoulli_log_likelihood_backward.default, grad, *inputs, *ctx.events, wanted
        )
        return (*collect(gradients, inputs, wanted), None, None)


class GaussianLogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mean: Tensor,
        target: Tensor,
        logvar: Maybe,
        logvar_value: float,
        event_dims: int,
        reduction: int,
    ) -> Tensor:
        ctx.save_for_backward(mean, target, logvar)
        ctx.rest = (logvar_value, event_dims, reduction)
        ll: Tensor = call(
            OPS.gaussian_log_likelihood.default,
            mean,
            target,
            logvar,
            logvar_value,
            event_dims,
            reduction,
        )
        return ll

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Maybe, ...]:  # type: ignore[override]
        inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]

        if graph_wanted():
            logvar_value, event_dims, reduction = ctx.rest

            def function(mean: Tensor, target: Tensor, logvar: Maybe) -> Tensor:
                return reference.gaussian_log_likelihood(
                    mean,
                    target,
                    logvar_value if logvar is None else logvar,
                    event_dims=event_dims,
                    reduction=REDUCTION_NAMES[reduction],
                )

            return (*differentiable(function, inputs, wanted, (grad,)), None, None, None)

        gradients = call(
            OPS.gaussian_log_likelihood_backward.default, grad, *inputs, *ctx.rest, wanted
        )
        return (*collect(gradients, inputs, wanted), None, None, None)
