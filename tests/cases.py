"""The cases of the parity tests: ops, dtypes with their tolerances, shapes and layouts.

An op here is a function of float tensors. `magnitude` is the sum of the absolute terms of each
element: the accuracy contract is stated in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import oracle as reference
import torch
from torch import Tensor

import vae_ext
from vae_ext.distributions import DiagonalGaussian

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
REDUCTIONS = ["none", "event", "sum", "mean", "batchmean"]

# 0-dimensional, empty, one element, odd sizes, and more than one unit of work and thread.
SHAPES = [
    (),
    (0,),
    (0, 3),
    (3, 0),
    (1,),
    (1, 1),
    (41,),
    (4, 401),
    (3, 1271),
    (2, 3, 5, 7),
    (2, 40000),
]

# Rounding of one elementwise result, relative. Half types: one rounding of a float32 result.
ROUNDING = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.bfloat16: 2.0**-8,
    torch.float16: 2.0**-11,
}
# Below the normal range the spacing is absolute.
SMALLEST = {
    torch.float64: 5e-324,
    torch.float32: 1.4e-45,
    torch.bfloat16: 9.2e-41,
    torch.float16: 6e-8,
}


def elementwise_tolerance(dtype: torch.dtype, roundings: float) -> float:
    """Relative tolerance of an elementwise result that is good to that many roundings."""
    if dtype == torch.float64:
        return 4 * roundings * ROUNDING[dtype]  # the oracle rounds too
    if dtype == torch.float32:
        return roundings * ROUNDING[dtype]
    return 1.02 * ROUNDING[dtype] + roundings * ROUNDING[torch.float32]


def reduced_tolerance(dtype: torch.dtype) -> float:
    return 1e-14 if dtype == torch.float64 else 5e-7


def assert_within(actual: Tensor, exact: Tensor, magnitude: Tensor, tolerance: float) -> None:
    """|actual − exact| ≤ tolerance · magnitude, and the same NaN and infinities."""
    assert actual.shape == exact.shape
    floor = SMALLEST[actual.dtype]
    # Written so that NaN fails.
    error = (actual.double() - exact.double()).abs()
    equal = (actual.double() == exact.double()) | (actual.isnan() & exact.isnan())
    good = equal | (error <= tolerance * magnitude.double() + floor)
    if not bool(good.all()):
        excess = torch.where(good, 0.0, error / (magnitude.double() + 1e-300))
        i = int(excess.reshape(-1).nan_to_num(math.inf).argmax())
        raise AssertionError(
            f"element {i}: got {actual.reshape(-1)[i].item()!r}, exact "
            f"{exact.reshape(-1)[i].item()!r}, magnitude "
            f"{magnitude.expand_as(exact).reshape(-1)[i].item()!r}, {excess.max().item():.3e} > "
            f"{tolerance:.3e}; {int((~good).sum())} of {good.numel()} fail"
        )


@dataclass(frozen=True)
class Op:
    """An op with an event reduction, its inputs, and the magnitudes of value and gradients."""

    name: str
    function: Callable[..., Tensor]
    oracle: Callable[..., Tensor]
    inputs: Callable[[tuple[int, ...]], list[Tensor]]
    magnitude: Callable[..., Tensor]
    roundings: float  # of a float32 value, in units of 2^-24 of its magnitude
    gradient_magnitudes: Callable[..., list[Tensor]]
    gradient_roundings: float = 10

    def __repr__(self) -> str:
        return self.name


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def kl_prior_terms(mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor) -> Tensor:
    d = logvar - prior_logvar
    s = (mu - prior_mu) * torch.exp(-0.5 * prior_logvar)
    # Sensitive to the rounding of d itself: (8 + 2 |d|) u.
    return 0.5 * (s * s + torch.exp(d) + 1 + d.abs()) * (1 + d.abs() / 4)


def kl_prior_gradients(
    mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor
) -> list[Tensor]:
    d = logvar - prior_logvar
    s = (mu - prior_mu) * torch.exp(-0.5 * prior_logvar)
    dmu = (mu.abs() + prior_mu.abs()) * torch.exp(-prior_logvar)
    spread = (torch.exp(d) + 1) * (1 + d.abs())
    return [dmu, spread, dmu, spread + s * s]


def gaussian_terms(mean: Tensor, target: Tensor, logvar: Tensor) -> Tensor:
    s = (target - mean) * torch.exp(-0.5 * logvar)
    return 0.5 * (s * s + logvar.abs() + math.log(2 * math.pi))


def gaussian_gradients(mean: Tensor, target: Tensor, logvar: Tensor) -> list[Tensor]:
    s = (target - mean) * torch.exp(-0.5 * logvar)
    dmean = ((target - mean) * torch.exp(-logvar)).abs()
    return [dmean, dmean, 0.5 * (s * s + 1)]


def bernoulli_gradients(logits: Tensor, target: Tensor) -> list[Tensor]:
    return [torch.maximum(torch.sigmoid(logits), target), logits.abs()]


BOUNDS = (-1.5, 0.75)  # of log-variances, which the inputs exceed on both sides


def bounded_kl(soft: bool) -> Callable[..., Tensor]:
    def kl(mu: Tensor, logvar: Tensor, *, reduction: str = "event", **options: Any) -> Tensor:
        d = DiagonalGaussian(mu, logvar, bounds=BOUNDS, soft=soft, validate_args=False, **options)
        return d.kl(reduction=reduction)

    return kl


def bounded_kl_oracle(soft: bool) -> Callable[..., Tensor]:
    def kl(mu: Tensor, logvar: Tensor, **options: Any) -> Tensor:
        mu, logvar = torch.broadcast_tensors(mu, logvar)
        return reference.gaussian_kl(mu, reference.bounded(logvar, *BOUNDS, soft), **options)

    return kl


def bounded_kl_terms(soft: bool) -> Callable[..., Tensor]:
    """With what the rounding of the bounded log-variance does."""

    def terms(mu: Tensor, logvar: Tensor) -> Tensor:
        bounded = reference.bounded(logvar, *BOUNDS, soft)
        return reference.gaussian_kl(mu, bounded, reduction="none") + torch.expm1(bounded).abs()

    return terms


def bounded_kl_gradients(soft: bool) -> Callable[..., list[Tensor]]:
    def gradients(mu: Tensor, logvar: Tensor) -> list[Tensor]:
        bounded = reference.bounded(logvar, *BOUNDS, soft)
        low, high = BOUNDS
        slope = ((logvar >= low) & (logvar <= high)).double()
        if soft:
            half = 0.5 * (high - low)
            slope = 1 / torch.cosh((logvar - (low + half)) / half) ** 2
            slope = slope * (1 + logvar.abs())  # tanh is steep in relative terms far out
        return [mu.abs(), slope * (1 + bounded.exp())]

    return gradients


OPS = [
    *(
        Op(
            f"bounded_kl_{'soft' if soft else 'hard'}",
            bounded_kl(soft),
            bounded_kl_oracle(soft),
            lambda shape: [normal(*shape), 2 * normal(*shape)],
            bounded_kl_terms(soft),
            8,
            bounded_kl_gradients(soft),
        )
        for soft in (False, True)
    ),
    Op(
        "gaussian_kl",
        vae_ext.gaussian_kl,
        reference.gaussian_kl,
        lambda shape: [normal(*shape), normal(*shape)],
        lambda mu, logvar: reference.gaussian_kl(mu, logvar, reduction="none"),
        8,
        lambda mu, logvar: [mu.abs(), 0.5 * torch.expm1(logvar).abs()],
        4,
    ),
    Op(
        "gaussian_kl_prior",
        vae_ext.gaussian_kl,
        reference.gaussian_kl,
        lambda shape: [normal(*shape) for _ in range(4)],
        kl_prior_terms,
        8,
        kl_prior_gradients,
    ),
    Op(
        "bernoulli_log_likelihood",
        vae_ext.bernoulli_log_likelihood,
        reference.bernoulli_log_likelihood,
        lambda shape: [3 * normal(*shape), torch.rand(shape, dtype=torch.float64)],
        lambda x, t: reference.bernoulli_log_likelihood(x, t, reduction="none").abs(),
        8,
        bernoulli_gradients,
        8,
    ),
    Op(
        "gaussian_log_likelihood",
        vae_ext.gaussian_log_likelihood,
        reference.gaussian_log_likelihood,
        lambda shape: [normal(*shape) for _ in range(3)],
        gaussian_terms,
        8,
        gaussian_gradients,
    ),
]


def summed_magnitude(terms: Tensor, event_dims: int | None, reduction: str) -> Tensor:
    return reference.reduce(terms, event_dims, reduction, torch.float64)


# ---- Layouts -------------------------------------------------------------------------------------


def gapped(t: Tensor) -> Tensor:
    """Every second element of a tensor whose other elements are NaN."""
    wide = torch.full((*t.shape, 2), math.nan, dtype=t.dtype)
    wide[..., 0] = t
    return wide[..., 0]


def chunked(t: Tensor) -> Tensor:
    """A half of a packed tensor, as a model's moments come."""
    return torch.cat([t, torch.full_like(t, math.nan)], dim=min(1, t.ndim - 1)).chunk(
        2, min(1, t.ndim - 1)
    )[0]


def channels_last(t: Tensor) -> Tensor:
    return t.clone(memory_format=torch.channels_last) if t.ndim == 4 else t.clone()


def channels_last_chunk(t: Tensor) -> Tensor:
    if t.ndim != 4:
        return chunked(t)
    packed = torch.cat([t, torch.full_like(t, math.nan)], dim=1)
    return packed.contiguous(memory_format=torch.channels_last).chunk(2, dim=1)[0]


def transposed(t: Tensor) -> Tensor:
    return t.transpose(0, -1).contiguous().transpose(0, -1)


def offset(t: Tensor) -> Tensor:
    """Starting at an address that no vector load likes."""
    flat = torch.empty(t.numel() + 1, dtype=t.dtype)
    return flat[1:].copy_(t.reshape(-1)).reshape(t.shape)


LAYOUTS = [gapped, chunked, channels_last, channels_last_chunk, transposed, offset]
