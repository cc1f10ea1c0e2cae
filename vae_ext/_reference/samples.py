"""Samples in plain PyTorch: with their KL divergence, with bounds, with their log-densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import philox
from .formulas import LOGVAR, evaluate, kl_terms, times_sigma
from .numerics import LOG_2PI, arithmetic_dtype, bounded, mul_exp, reduce, result_dtype


def noise_of(
    shape: Sequence[int],
    seed: int | Tensor | None,
    stream: int,
    device: torch.device,
    dtype: torch.dtype,
    places: Sequence[int] | None,
) -> Tensor:
    if seed is None:  # in a program for a runtime that draws its own
        return torch.randn(tuple(shape), device=device, dtype=dtype)
    return philox.standard_normal(tuple(shape), seed, stream, device, dtype, places)


def reparameterize(
    mu: Tensor,
    scale: Tensor,
    *,
    form: int = LOGVAR,
    n_samples: int | None = None,
    seed: int | Tensor | None = 0,
    noise: Tensor | None = None,
    stream: int = 0,
    places: Sequence[int] | None = None,
) -> Tensor:
    dtype = arithmetic_dtype(mu, scale)
    shape = mu.shape if n_samples is None else (n_samples, *mu.shape)
    if noise is None:
        noise = noise_of(shape, seed, stream, mu.device, dtype, places)
    z = mu.to(dtype) + times_sigma(form, noise.to(dtype), scale.to(dtype))
    return z.to(result_dtype(mu, scale))


def reparameterize_with_kl(
    mu: Tensor,
    logvar: Tensor,
    *,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
    **noise: Any,
) -> tuple[Tensor, Tensor]:
    z = reparameterize(mu, logvar, **noise)
    if logvar.shape != mu.shape:
        logvar = logvar.expand(mu.shape)
    kl = evaluate(kl_terms, mu, logvar, event_dims=event_dims, reduction=reduction, count=count)
    return z, kl


Z, KL = 1, 2  # bits of `outputs`


def latent(
    mu: Tensor,
    scale: Tensor,
    *,
    form: int = LOGVAR,
    bounds: tuple[float, float, bool] | None,
    outputs: int,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
    **noise: Any,
) -> tuple[Tensor | None, Tensor | None]:
    """z and the KL to N(0, I), as asked for by `outputs`."""
    dtype, result = arithmetic_dtype(mu, scale), result_dtype(mu, scale)
    m, s = mu.to(dtype), scale.to(dtype)
    if bounds is not None:
        s = bounded(s, *bounds)
    z = kl = None
    if outputs & Z:
        z = reparameterize(m, s, form=form, **noise)
        z = z.to(result)
    if outputs & KL:
        terms = kl_terms(m, s.expand(m.shape), form=form)
        kl = reduce(terms, event_dims, reduction, result, count)
    return z, kl


def sample_with_log_densities(
    mu: Tensor,
    logvar: Tensor,
    *,
    n_samples: int,
    gradient: str,
    seed: int | Tensor | None = 0,
    noise: Tensor | None = None,
    stream: int = 0,
    places: Sequence[int] | None = None,
    event_dims: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = arithmetic_dtype(mu, logvar)
    m, lv = mu.to(dtype), logvar.to(dtype)
    if noise is None:
        noise = noise_of((n_samples, *mu.shape), seed, stream, mu.device, dtype, places)
    eps = noise.to(dtype)
    step = mul_exp(eps, 0.5 * lv)
    z = m + step
    # s is eps in value, and what of it has a gradient is what log q lets flow.
    s, height = eps, lv
    if gradient == "score":
        z, eps = z.detach(), eps.detach()
        s = mul_exp(step.detach() + (m.detach() - m), -0.5 * lv)
    elif gradient == "sticking-the-landing":
        height = lv.detach()
        s = mul_exp(step + (m - m.detach()), -0.5 * height)
    if s is not eps:
        s = eps.detach() + (s - s.detach()).masked_fill(~s.isfinite(), 0.0)
    log_q = -(0.5 * s * s + 0.5 * (height + LOG_2PI))
    log_p = -(0.5 * z * z + 0.5 * LOG_2PI)
    dims = max(mu.ndim - 1, 0) if event_dims is None else event_dims
    sum_q, sum_p = (reduce(terms, dims, "event", dtype) for terms in (log_q, log_p))
    return z.to(result_dtype(mu, logvar)), sum_q, sum_p
