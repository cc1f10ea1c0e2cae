"""The torch.autograd Functions: the native ops with their hand-derived backward ops.

Each takes its tensors and then one tuple of numbers, in the order of its op. It keeps its inputs,
its outputs and the seed for backward, and nothing else. The public functions come here directly;
what was compiled, exported or traced calls the ops, whose autograd kernels are these Functions too
(registration.py). The likelihoods' Functions are in likelihoods.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from . import reference
from .checks import REDUCTIONS
from .dispatch import BY_OP
from .ops import OPS, call

is_legacy_batchedtensor = torch._C._functorch.is_legacy_batchedtensor
REDUCTION_NAMES = {code: name for name, code in REDUCTIONS.items()}
Maybe = Tensor | None
Found = Sequence[Maybe]

# needs_input_grad as the ops take it: bit i for input i.
MASKS = {
    wanted: sum(1 << i for i, w in enumerate(wanted) if w)
    for n in (2, 3, 4)
    for wanted in itertools.product((False, True), repeat=n)
}


class NativeFunction(torch.autograd.Function):
    """A subclass names its op and the number of tensors that the op takes first. It defines
    `forward` and `gradients`, by native ops, and `formula`, the op's outputs in plain PyTorch."""

    op: ClassVar[Any]
    n_tensors: ClassVar[int]

    @classmethod
    def fast_apply(cls, *args: Any) -> Any:
        """`apply` less the bookkeeping for torch.func, whose transforms never come here.

        For a small latent that bookkeeping costs as much as the arithmetic.
        """
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]

    @staticmethod
    def backward(ctx: Any, *grads: Maybe) -> Any:
        """A backward pass that is itself to be differentiated, or whose incoming gradients are a
        batch (`is_grads_batched`), goes through the formula."""
        function = ctx._forward_cls
        wanted = ctx.needs_input_grad[:-1]
        if formula_wanted(grads):
            return (*differentiable(function, ctx, wanted, grads), None)
        return (*function.gradients(ctx, wanted, *grads), None)

    @staticmethod
    def formula(tensors: Sequence[Maybe], options: tuple[Any, ...]) -> Any:
        """The op's outputs in plain PyTorch."""
        raise NotImplementedError

    @staticmethod
    def gradients(ctx: Any, wanted: tuple[bool, ...], *grads: Maybe) -> Found:
        raise NotImplementedError

    @staticmethod
    def inputs(ctx: Any) -> Sequence[Maybe]:
        """The tensors that `formula` takes, in a backward pass."""
        saved: tuple[Maybe, ...] = ctx.saved_tensors
        return saved


def formula_wanted(grads: Sequence[Maybe]) -> bool:
    """True in a backward pass that must itself be differentiable, or is one of a batch."""
    if torch.is_grad_enabled():
        return not torch.compiler.is_compiling()
    if torch._C._are_functorch_transforms_active():
        return True
    # torch.autograd.grad(is_grads_batched=True) has a vmap of its own.
    return any(g is not None and is_legacy_batchedtensor(g) for g in grads)


def run(
    way: int,
    function: type[NativeFunction],
    op: Any,
    tensors: tuple[Maybe, ...],
    options: tuple[Any, ...],
) -> Any:
    """The op of a Function, with its derivative where a gradient is needed.

    It is asked for, since compilers do not look into a Function.
    """
    if way == BY_OP:
        return op(*tensors, *options)
    if torch.is_grad_enabled():
        for t in tensors:
            if t is not None and t.requires_grad:
                return function.fast_apply(*tensors, options)
    return call(op, *tensors, *options)


def differentiable(
    function: type[NativeFunction],
    ctx: Any,
    wanted: Sequence[bool],
    grads: Sequence[Maybe],
) -> list[Maybe]:
    """The gradients of a Function's formula, as functions of its inputs and of what came in."""
    inputs = function.inputs(ctx)
    create_graph = torch.is_grad_enabled()

    def variable(t: Maybe, w: bool) -> Maybe:
        if t is None or not w:
            return t
        # A view, so that an input computed from another is here an independent variable.
        return t.view_as(t) if create_graph else t.detach().requires_grad_()

    with torch.enable_grad():
        fresh = [variable(t, w) for t, w in zip(inputs, wanted, strict=True)]
        outputs = function.formula(fresh, ctx.options)
    if isinstance(outputs, Tensor):
        outputs = (outputs,)
    pairs = [
        (o, g)
        for o, g in zip(outputs, grads, strict=True)
        if o is not None and g is not None and o.requires_grad
    ]
    variables = [t for t, w in zip(fresh, wanted, strict=True) if w and t is not None]
    if not pairs:
        return [None for _ in inputs]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs],
            variables,
            [g for _, g in pairs],
            create_graph=create_graph,
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

    @staticmethod
    def formula(tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        mu, logvar, *noise = tensors
        return reference.reparameterize(mu, logvar, **draws(*noise, *options))

    @staticmethod
    def inputs(ctx: Any) -> Sequence[Maybe]:
        logvar, *noise = ctx.saved_tensors
        mu = logvar.new_zeros(ctx.mu_shape, dtype=ctx.mu_dtype)
        return (mu.requires_grad_(ctx.needs_input_grad[0]), logvar, *noise)

    @staticmethod
    def gradients(ctx: Any, wanted: tuple[bool, ...], *grads: Any) -> Found:
        (grad_z,) = grads
        logvar, noise, seed = ctx.saved_tensors
        n_samples = ctx.options[-1]
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

    @staticmethod
    def formula(tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
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
    def gradients(ctx: Any, wanted: tuple[bool, ...], *grads: Maybe) -> Found:
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
            MASKS[wanted[:2]],
        )
        return (
            grad_mu if wanted[0] else None,
            grad_logvar if wanted[1] else None,
            noise_gradient(grad_z, logvar, noise) if wanted[2] and grad_z is not None else None,
            None,
        )


class GaussianKL(NativeFunction):
    """Tensors mu, logvar, prior_mu, prior_logvar; options event_dims, reduction."""

    op = OPS.gaussian_kl.default
    n_tensors = 4

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
    def formula(tensors: Sequence[Any], options: tuple[Any, ...]) -> Any:
        event_dims, reduction = options
        return reference.gaussian_kl(
            *tensors, event_dims=event_dims, reduction=REDUCTION_NAMES[reduction]
        )

    @staticmethod
    def gradients(ctx: Any, wanted: tuple[bool, ...], *grads: Any) -> Found:
        found = call(
            OPS.gaussian_kl_backward.default,
            *grads,
            *ctx.saved_tensors,
            *ctx.options,
            MASKS[wanted],
        )
        return only_wanted(found, wanted)
