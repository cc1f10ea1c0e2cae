"""The public functions in plain PyTorch: stable, on any device, differentiable any number of times.

They are the oracle of the tests, and they serve wherever there is no kernel: devices without one,
double backward, forward-mode differentiation and `torch.func` transforms. The formulas are those of
csrc/formulas.h; arguments are as in :mod:`vae_ext.functional`, which checks them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import philox

# (exp(d) − 1 − d) / 2 = Σ d^n / (2 n!) for n ≥ 2: enough terms for float64 at |d| ≤ 1.
SERIES = [0.5 / math.factorial(n) for n in range(2, 19)]


def arithmetic_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 if any tensor is, else float32: half-precision tensors are computed in float32."""
    double = any(t is not None and t.dtype == torch.float64 for t in tensors)
    return torch.float64 if double else torch.float32


def result_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype of elementwise results: torch's promotion among the floating-point inputs."""
    dtypes = [t.dtype for t in tensors if t is not None and t.is_floating_point()]
    result = dtypes[0]
    for dtype in dtypes[1:]:
        result = torch.promote_types(result, dtype)
    return result


def reduce(terms: Tensor, event_dims: int | None, reduction: str, dtype: torch.dtype) -> Tensor:
    """Elementwise terms in `dtype`, or their sums in the arithmetic dtype."""
    if reduction == "none":
        return terms.to(dtype)
    dims = max(terms.ndim - 1, 0) if event_dims is None else event_dims
    if reduction == "event":
        return terms.flatten(terms.ndim - dims).sum(-1) if dims > 0 else terms
    if reduction == "mean":
        return terms.mean()
    total = terms.sum()
    if reduction == "sum":
        return total
    n_events = math.prod(terms.shape[: terms.ndim - dims])
    return total / n_events


def cut(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """x between the bounds. Its derivative is 1 from bound to bound and 0 outside, where torch's
    clamp changed its mind in 2.14 about what it is on a bound."""
    return x.masked_fill(x < low, low).masked_fill(x > high, high)


def mul_exp(a: Tensor, y: Tensor) -> Tensor:
    """a·exp(y), finite wherever the product is."""
    # Where a = 0 the product is 0 however large y is, and infinite where a is, however small.
    limit = 300.0 if a.dtype == torch.float32 else 2400.0
    quarter = torch.exp(torch.where((a == 0) | a.isinf(), cut(y, -limit, limit), y) * 0.25)
    return a * quarter * quarter * quarter * quarter


def half_series(d: Tensor) -> Tensor:
    total = torch.full_like(d, SERIES[-1])
    for c in reversed(SERIES[:-1]):
        total = total * d + c
    return d * d * total


def split(d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where |d| < 1, and d with the other region masked: no gradient of an unused branch."""
    near = d.abs() < 1
    return near, d.masked_fill(~near, 0.0), d.masked_fill(near, 1.0)


def half_expm1_minus_x(d: Tensor) -> Tensor:
    """(exp(d) − 1 − d) / 2."""
    near, d_near, d_far = split(d)
    half = torch.full_like(d, 0.5)
    far = (mul_exp(half, d_far) - 0.5) - 0.5 * d_far.masked_fill(d_far > 1000.0, 1000.0)
    return torch.where(near, half_series(d_near), far)


def kl_elements(
    mu: Tensor, logvar: Tensor, prior_mu: Tensor | None, prior_logvar: Tensor | None
) -> Tensor:
    s = mu if prior_mu is None else mu - prior_mu
    d = logvar
    if prior_logvar is not None:
        s = mul_exp(s, -0.5 * prior_logvar)
        d = logvar - prior_logvar
    return (0.5 * s) * s + half_expm1_minus_x(d)


def gaussian_kl(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    *,
    event_dims: int | None = None,
    reduction: str = "event",
) -> Tensor:
    tensors = (mu, logvar, prior_mu, prior_logvar)
    dtype = arithmetic_dtype(*tensors)
    m, lv, pm, plv = (None if t is None else t.to(dtype) for t in tensors)
    assert m is not None
    assert lv is not None
    return reduce(kl_elements(m, lv, pm, plv), event_dims, reduction, result_dtype(*tensors))


def noise_of(
    shape: Sequence[int],
    seed: int | Tensor | None,
    stream: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    if seed is None:  # in a program for a runtime that draws its own
        return torch.randn(tuple(shape), device=device, dtype=dtype)
    return philox.standard_normal(tuple(shape), seed, stream, device, dtype)


def reparameterize(
    mu: Tensor,
    logvar: Tensor,
    *,
    n_samples: int | None = None,
    seed: int | Tensor | None = 0,
    noise: Tensor | None = None,
    stream: int = 0,
) -> Tensor:
    dtype = arithmetic_dtype(mu, logvar)
    shape = mu.shape if n_samples is None else (n_samples, *mu.shape)
    if noise is None:
        noise = noise_of(shape, seed, stream, mu.device, dtype)
    z = mu.to(dtype) + mul_exp(noise.to(dtype), 0.5 * logvar.to(dtype))
    return z.to(result_dtype(mu, logvar))


def reparameterize_with_kl(
    mu: Tensor,
    logvar: Tensor,
    *,
    n_samples: int | None = None,
    seed: int | Tensor | None = 0,
    noise: Tensor | None = None,
    stream: int = 0,
    event_dims: int | None = None,
    reduction: str = "event",
) -> tuple[Tensor, Tensor]:
    z = reparameterize(mu, logvar, n_samples=n_samples, seed=seed, noise=noise, stream=stream)
    if logvar.shape != mu.shape:
        logvar = logvar.expand(mu.shape)
    return z, gaussian_kl(mu, logvar, event_dims=event_dims, reduction=reduction)


def bounded(logvar: Tensor, low: float | Tensor, high: float | Tensor, soft: bool) -> Tensor:
    """Between the bounds, by a cut or by a tanh; the arithmetic dtype stays."""
    if not soft:
        return cut(logvar, low, high)
    half = 0.5 * (high - low)
    y = (logvar - (low + half)) / half
    # tanh from e = exp(-2 |y|): the derivatives of torch's tanh and expm1 lose their digits where
    # they are small. Not abs, whose derivative at 0 is 0.
    twice = torch.where(y < 0, 2 * y, -2 * y)
    e = torch.exp(twice)
    near = twice > -1
    t = torch.where(near, -torch.expm1(twice.masked_fill(~near, 0.0)), 1 - e) / (1 + e)
    return (low + half) + half * torch.where(y < 0, -t, t)


Z, KL = 1, 2  # bits of `outputs`


def latent(
    mu: Tensor,
    logvar: Tensor,
    *,
    bounds: tuple[float, float, bool] | None,
    outputs: int,
    n_samples: int | None = None,
    seed: int | Tensor | None = 0,
    noise: Tensor | None = None,
    stream: int = 0,
    event_dims: int | None = None,
    reduction: str = "event",
) -> tuple[Tensor | None, Tensor | None]:
    """z and the KL to N(0, I), as asked for by `outputs`."""
    dtype, result = arithmetic_dtype(mu, logvar), result_dtype(mu, logvar)
    m, lv = mu.to(dtype), logvar.to(dtype)
    if bounds is not None:
        lv = bounded(lv, *bounds)
    z = kl = None
    if outputs & Z:
        z = reparameterize(m, lv, n_samples=n_samples, seed=seed, noise=noise, stream=stream)
        z = z.to(result)
    if outputs & KL:
        terms = kl_elements(m, lv.expand(m.shape), None, None)
        kl = reduce(terms, event_dims, reduction, result)
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
    event_dims: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = arithmetic_dtype(mu, logvar)
    m, lv = mu.to(dtype), logvar.to(dtype)
    if noise is None:
        noise = noise_of((n_samples, *mu.shape), seed, stream, mu.device, dtype)
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
    constant = math.log(2 * math.pi)
    log_q = -(0.5 * s * s + 0.5 * (height + constant))
    log_p = -(0.5 * z * z + 0.5 * constant)
    dims = max(mu.ndim - 1, 0) if event_dims is None else event_dims
    sum_q, sum_p = (reduce(terms, dims, "event", dtype) for terms in (log_q, log_p))
    return z.to(result_dtype(mu, logvar)), sum_q, sum_p


def bernoulli_log_likelihood(
    logits: Tensor, target: Tensor, *, event_dims: int | None = None, reduction: str = "event"
) -> Tensor:
    dtype = arithmetic_dtype(logits, target)
    x, t = logits.to(dtype), target.to(dtype)
    # Where nobody can refuse a target that is no probability it becomes NaN.
    t = t.masked_fill((t < 0) | (t > 1), math.nan)
    # An infinite logit that agrees with its target would be inf · 0, whose limit is 0.
    agree = ((t == 1) & (x > 0)) | ((t == 0) & (x < 0))
    x = torch.where(agree, cut(x, -1e30, 1e30), x)
    # t x − softplus(x), on each side of 0 as a sum of two terms of one sign; the derivative by t
    # is x on both.
    above, below = x.masked_fill(~(x > 0), 0.0), x.masked_fill(x > 0, 0.0)
    softplus = torch.log1p(torch.exp(torch.where(x > 0, -x, x)))
    terms = torch.where(x > 0, (t - 1) * above, t * below) - softplus
    return reduce(terms, event_dims, reduction, result_dtype(logits, target))


def gaussian_log_likelihood(
    mean: Tensor,
    target: Tensor,
    logvar: float | Tensor = 0.0,
    *,
    event_dims: int | None = None,
    reduction: str = "event",
) -> Tensor:
    tensors = (mean, target, logvar if isinstance(logvar, Tensor) else None)
    dtype = arithmetic_dtype(*tensors)
    if isinstance(logvar, Tensor):
        lv = logvar.to(dtype)
    else:
        lv = torch.full((), logvar, dtype=dtype, device=mean.device)
    s = mul_exp(target.to(dtype) - mean.to(dtype), -0.5 * lv)
    # At logvar = −inf a target that is missed wins over the density's height.
    height = lv.expand_as(s).masked_fill((s != 0) & (lv < -1e30), -1e30)
    terms = -((0.5 * s) * s + 0.5 * (height + math.log(2 * math.pi)))
    return reduce(terms, event_dims, reduction, result_dtype(*tensors))
