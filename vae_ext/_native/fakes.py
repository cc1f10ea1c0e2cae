"""Fake kernels: the shapes, dtypes and layouts of the ops' results, for whoever traces them.

csrc/ops/tensors.h says the same in C++. A fake kernel takes its op's arguments by the names that
the schema has for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .._checks import GRADIENTS, REDUCTIONS
from .._formulas import ALL, Formula, Group
from .._reference.numerics import result_dtype
from .ops import op

Maybe = Tensor | None
EVENT, NONE = REDUCTIONS["event"], REDUCTIONS["none"]
STICKING_THE_LANDING = GRADIENTS.index("sticking-the-landing")


def register(name: str, fake: Callable[[Any], Any]) -> None:
    names = [a.name for a in op(name)._schema.arguments]

    def by_name(*args: Any, **more: Any) -> Any:
        return fake(SimpleNamespace(**dict(zip(names, args, strict=False)), **more))

    torch.library.register_fake(f"vae_ext::{name}", by_name)


# ---- Results in general --------------------------------------------------------------------------


def empty_like(t: Tensor, dtype: torch.dtype, shape: Sequence[int] | None = None) -> Tensor:
    """Dense, with the dimensions in the order of t's strides, as torch's elementwise ops give."""
    shape = t.shape if shape is None else shape
    strides = t.stride()
    order = list(range(t.ndim))
    if not any(s == 0 and n > 1 for s, n in zip(strides, t.shape, strict=True)):
        order.sort(key=lambda d: strides[d], reverse=True)  # stable: equal strides keep their order
    return t.new_empty([shape[d] for d in order], dtype=dtype).permute(
        [order.index(d) for d in range(t.ndim)]
    )


def result_like(shape: Sequence[int], dtype: torch.dtype, lead: Tensor) -> Tensor:
    # Of as many dimensions first: a comparison of symbols would tie a program to its outcome.
    if lead.ndim == len(shape) and tuple(lead.shape) == tuple(shape):
        return empty_like(lead, dtype)
    return lead.new_empty(shape, dtype=dtype)


def reduced(
    shape: Sequence[int], dtype: torch.dtype, lead: Tensor, event_dims: int, reduction: int
) -> Tensor:
    if reduction == NONE:
        return result_like(shape, dtype, lead)
    kept = shape[: len(shape) - event_dims] if reduction == EVENT else ()
    return lead.new_empty(kept, dtype=arithmetic(dtype))


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def gradients(
    inputs: Sequence[Maybe], shape: Sequence[int], output_mask: int
) -> tuple[Tensor, ...]:
    """What a backward op returns for inputs that were broadcast to `shape`."""
    like = inputs[0]
    assert like is not None

    def one(i: int, t: Maybe) -> Tensor:
        if t is None or not output_mask >> i & 1:
            return like.new_empty([0], dtype=like.dtype if t is None else t.dtype)
        if tuple(t.shape) == tuple(shape):
            return empty_like(t, t.dtype)
        return t.new_empty(t.shape)

    return tuple(one(i, t) for i, t in enumerate(inputs))


# ---- Formulas ------------------------------------------------------------------------------------


def register_formula(formula: Formula) -> None:
    def value(a: Any) -> Tensor:
        tensors = [getattr(a, name) for name in formula.arguments]
        dtype = result_dtype(*tensors)
        return reduced(formula.shape(tensors), dtype, tensors[0], a.event_dims, a.reduction)

    def backward(a: Any) -> tuple[Tensor, ...]:
        tensors = [getattr(a, name) for name in formula.arguments]
        if isinstance(formula, Group):  # whose target has no gradient
            return gradients([tensors[0], None], tensors[0].shape, a.output_mask)
        return gradients(tensors, formula.shape(tensors), a.output_mask)

    register(formula.op, value)
    register(f"{formula.op}_backward", backward)
    register(f"{formula.op}_with_gradients", lambda a: (value(a), *backward(a)))


# ---- Samples -------------------------------------------------------------------------------------


def sample_shape(mu: Tensor, n_samples: int) -> list[int]:
    return [n_samples, *mu.shape] if n_samples > 0 else list(mu.shape)


def reparameterize(a: Any) -> Tensor:
    return result_like(sample_shape(a.mu, a.n_samples), result_dtype(a.mu, a.logvar), a.mu)


def reparameterize_backward(a: Any) -> tuple[Tensor, ...]:
    mu = a.grad_z[0] if a.n_samples > 0 else a.grad_z
    return gradients((mu, a.logvar), mu.shape, a.output_mask)


def kl_of(a: Any, mu: Tensor, logvar: Tensor) -> Tensor:
    return reduced(mu.shape, result_dtype(mu, logvar), mu, a.event_dims, a.reduction)


def halves(a: Any) -> tuple[Tensor, Tensor]:
    """mu and logvar, or without a logvar the halves of the first."""
    if a.logvar is not None:
        return a.mu, a.logvar
    size = a.mu.shape[a.dim] // 2
    return a.mu.narrow(a.dim, 0, size), a.mu.narrow(a.dim, size, size)


def latent(a: Any) -> tuple[Tensor, Tensor]:
    mu, logvar = halves(a)
    dtype = result_dtype(mu, logvar)
    z, kl = mu.new_empty([0], dtype=dtype), mu.new_empty([0], dtype=arithmetic(dtype))
    if a.outputs & 1:
        z = result_like(sample_shape(mu, a.n_samples), dtype, mu)
    if a.outputs & 2:
        kl = kl_of(a, mu, logvar)
    return z, kl


def latent_backward(a: Any) -> tuple[Tensor, ...]:
    if a.logvar is not None:
        return of_pair(a)
    half, _ = halves(a)
    return empty_like(half, a.mu.dtype, a.mu.shape), a.mu.new_empty([0])


def of_pair(a: Any) -> tuple[Tensor, ...]:
    return gradients((a.mu, a.logvar), a.mu.shape, a.output_mask)


def sample_with_log_densities(a: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = result_dtype(a.mu, a.logvar)
    shape = sample_shape(a.mu, a.n_samples)
    log_q, log_p, weights = (reduced(shape, dtype, a.mu, a.event_dims, EVENT) for _ in range(3))
    if a.gradient != STICKING_THE_LANDING:
        weights = weights.new_empty([0])
    return result_like(shape, dtype, a.mu), log_q, log_p, weights


def mixture_log_density(a: Any) -> tuple[Tensor, Tensor]:
    dtype = arithmetic(result_dtype(a.z, a.means, a.logvars, a.log_weights))
    value = a.z.new_empty(a.z.shape[:2], dtype=dtype)
    return value, value.new_empty(value.shape, dtype=torch.float64)


def mixture_log_density_backward(a: Any) -> tuple[Tensor, ...]:
    inputs = (a.z, a.means, a.logvars, a.log_weights)
    return tuple(
        empty_like(t, t.dtype) if a.output_mask >> i & 1 else t.new_empty([0])
        for i, t in enumerate(inputs)
    )


def register_all() -> None:
    for formula in ALL:
        register_formula(formula)
    register("reparameterize", reparameterize)
    register("reparameterize_backward", reparameterize_backward)
    register("reparameterize_dnoise", lambda a: empty_like(a.noise, a.noise.dtype))
    register("reparameterize_with_kl", lambda a: (reparameterize(a), kl_of(a, a.mu, a.logvar)))
    register("reparameterize_with_kl_backward", of_pair)
    register("latent", latent)
    register("latent_backward", latent_backward)
    register("sample_with_log_densities", sample_with_log_densities)
    register("sample_with_log_densities_backward", of_pair)
    register("mixture_log_density", mixture_log_density)
    register("mixture_log_density_backward", mixture_log_density_backward)
    for in_place in ("scale_gradient_", "philox_words"):
        register(in_place, lambda _: None)
