"""The torch.autograd Function of several samples with their log-densities."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import reference
from .autograd import MASKS, OPS, Maybe, NativeFunction, differentiable, graph_wanted
from .checks import GRADIENTS
from .ops import call

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

        grad_mu, grad_logvar = call(
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
        return (
            grad_mu if wanted[0] else None,
            grad_logvar if wanted[1] else None,
            None,
            None,
            None,
        )
