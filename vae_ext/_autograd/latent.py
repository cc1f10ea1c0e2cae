"""The torch.autograd Functions of samples: alone, with their KL divergence, and of a latent that is
held in one tensor or kept between bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._native.ops import OPS, call
from .._reference import KL, Z
from .function import OUTPUT_MASKS, Found, Graph, Maybe, NativeFunction, only_needed


def noise_gradient(grad_z: Maybe, logvar: Tensor, noise: Tensor) -> Any:
    if grad_z is None:
        return None
    return call(OPS.reparameterize_dnoise.default, grad_z, logvar, noise)


class Reparameterize(NativeFunction):
    """Tensors mu, logvar, noise, seed; options seed_value, stream, n_samples."""

    name = "reparameterize"
    n_tensors = 4
    # mu is not kept: no gradient depends on it.
    graph = Graph(served=(0, 1), first_saved=1, passes_through=True)

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Tensor, noise: Maybe, seed: Maybe, options: tuple[int, ...]
    ) -> Any:
        ctx.save_for_backward(logvar, noise, seed)
        ctx.options = options
        return call(Reparameterize.op, mu, logvar, noise, seed, *options)

    @staticmethod
    def inputs(ctx: Any, grads: Sequence[Maybe]) -> Sequence[Maybe]:
        (grad_z,) = grads
        logvar, *noise = ctx.saved_tensors
        assert grad_z is not None
        shape = grad_z.shape[1:] if ctx.options[-1] else grad_z.shape
        mu = logvar.new_zeros(shape, dtype=grad_z.dtype)
        return (mu.requires_grad_(ctx.needs_input_grad[0]), logvar, *noise)

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Any) -> Found:
        (grad_z,) = grads
        logvar, noise, seed = ctx.saved_tensors
        n_samples = ctx.options[-1]
        grad_mu, grad_logvar = grad_z, None  # dz/dmu = 1
        if n_samples or needed[1]:
            mask = OUTPUT_MASKS[needed[0] if n_samples else False, needed[1]]
            of_samples, grad_logvar = call(
                Reparameterize.backward_op, grad_z, logvar, noise, seed, *ctx.options, mask
            )
            if n_samples:
                grad_mu = of_samples
        return (
            grad_mu if needed[0] else None,  # which autograd converts to the dtype of mu
            grad_logvar if needed[1] else None,
            noise_gradient(grad_z, logvar, noise) if needed[2] else None,
            None,
        )


class SamplingFunction(NativeFunction):
    """Tensors mu, logvar, noise, seed, all of which are kept; several outputs. Noise that is given
    to an op has a gradient only where a subclass says so."""

    n_tensors = 4

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, logvar: Maybe, noise: Maybe, seed: Maybe, options: tuple[Any, ...]
    ) -> Any:
        function = ctx._forward_cls
        ctx.save_for_backward(mu, logvar, noise, seed)
        ctx.options = options
        ctx.set_materialize_grads(False)  # an output that is not used costs nothing
        outputs = call(function.op, mu, logvar, noise, seed, *options)
        has = function.graph.has_gradient
        ctx.mark_non_differentiable(*(o for i, o in enumerate(outputs) if not has(i, options)))
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Maybe) -> Any:
        # Of an output without a gradient there is one too, of zeros.
        has = ctx._forward_cls.graph.has_gradient
        asked = [g if has(i, ctx.options) else None for i, g in enumerate(grads)]
        return NativeFunction.backward(ctx, *asked)

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        if all(g is None for g in grads):
            return None, None, None, None
        function = ctx._forward_cls
        options = ctx.options[: len(ctx.options) - function.graph.left_out]
        mask = OUTPUT_MASKS[needed[:2]]
        found = call(function.backward_op, *grads, *ctx.saved_tensors, *options, mask)
        return (*only_needed(found, needed[:2]), None, None)


class ReparameterizeWithKL(SamplingFunction):
    """Options of Reparameterize; then count, event_dims, reduction."""

    name = "reparameterize_with_kl"
    graph = Graph(served=(0, 1), outputs=2, incoming=2)

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        grad_mu, grad_logvar, *_ = SamplingFunction.gradients(ctx, needed, *grads)
        by_noise = None
        if needed[2]:
            _, logvar, noise, _ = ctx.saved_tensors
            by_noise = noise_gradient(grads[0], logvar, noise)
        return grad_mu, grad_logvar, by_noise, None


class Latent(SamplingFunction):
    """mu and the scale in one of its forms; or, where that is None, mu and logvar in one tensor, as
    halves along `dim`, whose gradient comes back as one. Options of Reparameterize; then form,
    bounds, low, high, count, event_dims, reduction, dim, outputs."""

    name = "latent"
    graph = Graph(
        served=(0, 1), outputs=2, incoming=2, left_out=1, differentiable=(0, Z, KL, Z | KL)
    )
