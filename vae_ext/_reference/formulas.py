"""The formulas of csrc/math in plain PyTorch: elementwise terms of tensors that broadcast with each
other, all in one dtype, float32 or float64. Stable, and differentiable any number of times."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .numerics import (
    LOG_2PI,
    arithmetic_dtype,
    cut,
    half_expm1_minus_x,
    log1p_minus_x,
    log_sinhc,
    mul_exp,
    near_and_far,
    reduce,
    result_dtype,
    stirling_rest,
)

Terms = Callable[..., Tensor]
# By their codes: the Reduction of csrc/ops/tensors.h.
REDUCTION_NAMES = dict(enumerate(("none", "event", "sum", "mean", "batchmean")))


def evaluate(
    terms: Terms,
    *inputs: Tensor | float | None,
    event_dims: int | None,
    reduction: str,
    weights: Tensor | None = None,
    count: int | None = None,
) -> Tensor:
    """A formula of tensors in any dtypes, of numbers, and of None for what is absent, reduced. An
    element of weight 0 is left out, whatever it holds."""
    tensors = [t for t in inputs if isinstance(t, Tensor)]
    dtype = arithmetic_dtype(*tensors)

    def wide(x: Tensor | float | None) -> Tensor | None:
        if x is None or isinstance(x, Tensor):
            return x if x is None else x.to(dtype)
        return torch.full((), x, dtype=dtype, device=tensors[0].device)

    values = [wide(x) for x in inputs]
    if weights is not None:
        weights = weights.to(dtype)
        out = weights == 0
        # 1 is within the range of every input, so that no derivative of it is inf or NaN.
        values = [None if x is None else torch.where(out, 1.0, x) for x in values]
    found = terms(*values)
    if weights is not None:
        found = (found * weights).masked_fill(out, 0.0)
    return reduce(found, event_dims, reduction, result_dtype(*tensors), count)


# The forms of a Gaussian's scale: ScaleForm of csrc/math/scale.h.
LOGVAR, LOG_STD, STD = range(3)
SCALES = ("logvar", "log_std", "std")


def times_sigma(form: int, a: Tensor, scale: Tensor) -> Tensor:
    if form == STD:
        return a * scale
    return mul_exp(a, scale if form == LOG_STD else 0.5 * scale)


def over_sigma(form: int, a: Tensor, scale: Tensor) -> Tensor:
    if form == STD:
        return a / torch.where((a == 0) & (scale == 0), 1.0, scale)
    return mul_exp(a, -scale if form == LOG_STD else -0.5 * scale)


def logvar_of(form: int, scale: Tensor) -> Tensor:
    if form == STD:
        return 2 * torch.log(scale)
    return 2 * scale if form == LOG_STD else scale


def kl_of_ratio(r: Tensor, u: Tensor) -> Tensor:
    """(r² − 1 − log r²) / 2 of a ratio of standard deviations, u = r − 1."""
    far = u > 1e10  # where the logarithm is nothing beside the square
    rest = log1p_minus_x(u.masked_fill(far, 0.0), r.masked_fill(far, 1.0))
    return (0.5 * u) * u - rest + u.masked_fill(~far, 0.0)


def kl_terms(
    mu: Tensor,
    scale: Tensor,
    prior_mu: Tensor | None = None,
    prior_scale: Tensor | None = None,
    form: int = LOGVAR,
) -> Tensor:
    s = mu if prior_mu is None else mu - prior_mu
    if prior_scale is not None:
        s = over_sigma(form, s, prior_scale)
    square = (0.5 * s) * s
    if form == STD:
        p = torch.ones_like(scale) if prior_scale is None else prior_scale
        return square + kl_of_ratio(scale / p, (scale - p) / p)
    d = scale if prior_scale is None else scale - prior_scale
    return square + half_expm1_minus_x(logvar_of(form, d))


def bernoulli_terms(x: Tensor, t: Tensor) -> Tensor:
    # Where nobody can refuse a target that is no probability it becomes NaN.
    t = t.masked_fill((t < 0) | (t > 1), math.nan)
    # An infinite logit that agrees with its target would be inf · 0, whose limit is 0.
    agree = ((t == 1) & (x > 0)) | ((t == 0) & (x < 0))
    x = torch.where(agree, cut(x, -1e30, 1e30), x)
    # t x − softplus(x), on each side of 0 as a sum of two terms of one sign; the derivative by t
    # is x on both.
    above, below = x.masked_fill(~(x > 0), 0.0), x.masked_fill(x > 0, 0.0)
    softplus = torch.log1p(torch.exp(torch.where(x > 0, -x, x)))
    return torch.where(x > 0, (t - 1) * above, t * below) - softplus


def continuous_bernoulli_terms(x: Tensor, t: Tensor) -> Tensor:
    t = t.masked_fill((t < 0) | (t > 1), math.nan)
    agree = ((t == 1) & (x > 0)) | ((t == 0) & (x < 0))
    # On each side of 0: −w |x| − log((1 − exp(−|x|)) / |x|), w = t or 1 − t; near 0 by a series in
    # x², which has no sides.
    near, small, far = near_and_far(x)
    above, below = far.masked_fill(~(far > 0), 0.0), far.masked_fill(far > 0, 0.0)
    # An infinite logit that agrees with its target: the product is 0, and the density infinite.
    linear = (t - 1) * cut(above, 0.0, 1e30) + t * cut(below, -1e30, 0.0)
    linear = torch.where(agree, linear, (t - 1) * above + t * below)
    a = torch.where(far > 0, far, -far)
    height = torch.log(a.masked_fill(~agree & a.isinf(), 1.0)) - torch.log1p(-torch.exp(-a))
    return torch.where(near, (t - 0.5) * small - log_sinhc(small), linear + height)


def height(log_scale: Tensor, s: Tensor) -> Tensor:
    """log_scale, except that at −inf a target that is missed (s ≠ 0) wins over the density's
    height: the difference of two infinities would be NaN where the limit is −inf."""
    return log_scale.expand_as(s).masked_fill((s != 0) & (log_scale < -1e30), -1e30)


def gaussian_terms(mean: Tensor, target: Tensor, scale: Tensor, form: int = LOGVAR) -> Tensor:
    s = over_sigma(form, target - mean, scale)
    return -((0.5 * s) * s + 0.5 * (height(logvar_of(form, scale), s) + LOG_2PI))


def laplace_terms(loc: Tensor, target: Tensor, log_scale: Tensor) -> Tensor:
    s = mul_exp((target - loc).abs(), -log_scale)
    return -(s + (height(log_scale, s) + math.log(2)))


def student_t_terms(loc: Tensor, target: Tensor, df: Tensor, log_scale: Tensor) -> Tensor:
    n = cut(df.masked_fill(~(df > 1e-37), math.nan), 0.0, 1e30)
    w = 1 / n
    half = 0.5 * n
    d = target - loc
    scaled = d * torch.sqrt(w)
    r = mul_exp(scaled, -log_scale)
    far = r.abs() > 1e9  # q = r² from the logarithms of its parts, which do not overflow
    apart = torch.where(far, scaled, 1.0)
    log_q = 2 * (torch.log(torch.where(apart > 0, apart, -apart)) - cut(log_scale, -math.inf, 1e30))
    log1p_q = torch.where(far, log_q, torch.log1p(r.masked_fill(far, 0.0).square()))
    top = half * log1p_minus_x(w, 1 + w) + (stirling_rest(half + 0.5) - stirling_rest(half))
    return top - 0.5 * LOG_2PI - height(log_scale, d) - (half + 0.5) * log1p_q
