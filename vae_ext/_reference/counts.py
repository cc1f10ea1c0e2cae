"""The log-likelihoods of counts in plain PyTorch: the formulas of csrc/math/counts.h, as
_reference/formulas.py has the others. `form` says how the parameters are given."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .numerics import LOG_2PI, cut, log1p_minus_x, mul_exp, stirling_rest

LOG_RATE = 1  # of a Poisson's forms
LOG_DISPERSION, TOTAL_COUNT = 1, 2  # of those of negative binomials


def softplus(x: Tensor) -> Tensor:
    return x.masked_fill(~(x > 0), 0.0) + torch.log1p(torch.exp(torch.where(x > 0, -x, x)))


def at_least_0(x: Tensor) -> Tensor:
    """Where nobody can refuse a number that makes no sense it becomes NaN."""
    return x.masked_fill(x < 0, math.nan)


def poisson_terms(rate: Tensor, x: Tensor, form: int = 0) -> Tensor:
    x, log_rate = at_least_0(x), rate
    rate = mul_exp(torch.ones_like(rate), rate) if form == LOG_RATE else at_least_0(rate)
    rate, log_rate, x = torch.broadcast_tensors(rate, log_rate, x)
    zero = x == 0
    count, mean = x.masked_fill(zero, 1.0), rate.masked_fill(zero, 1.0)
    # Far out the logarithm itself, where the rate has underflowed.
    u = (mean - count) / count
    if form == LOG_RATE:
        far = log_rate < -80
        u = u.masked_fill(far, 0.0)
        deviance = count * log1p_minus_x(u, mean.masked_fill(far, 1.0) / count)
        under = count * (log_rate.masked_fill(~far, 0.0) - torch.log(count)) + count
        deviance = torch.where(far, under, deviance)
    else:
        deviance = count * log1p_minus_x(u, mean / count)
    above = deviance - 0.5 * (LOG_2PI + torch.log(count)) - stirling_rest(count)
    return torch.where(zero, -rate, above)


class Law(NamedTuple):
    """A negative binomial: mean and dispersion, or logits where there are any."""

    mean: Tensor
    theta: Tensor
    logits: Tensor | None


def law_of(mean: Tensor, dispersion: Tensor, form: int) -> Law:
    if form == TOTAL_COUNT:
        return Law(mean, at_least_0(dispersion), mean)
    if form == LOG_DISPERSION:
        return Law(at_least_0(mean), mul_exp(torch.ones_like(dispersion), dispersion), None)
    return Law(at_least_0(mean), at_least_0(dispersion), None)


def log_of_zero(law: Law) -> Tensor:
    """log P(0)."""
    if law.logits is not None:
        return -law.theta * softplus(law.logits)
    # At theta = 0, whose limit is 0, the quotient would be infinite.
    none = law.theta == 0
    theta = law.theta.masked_fill(none, 1.0)
    log_p = -theta * torch.log1p(law.mean / theta)
    return log_p.masked_fill(none & ~law.mean.isnan(), 0.0)


def deviance(law: Law, x: Tensor) -> Tensor:
    """log P(x), x > 0, less what it is where count and mean agree."""
    total = x + law.theta
    if law.logits is None:
        scale = law.mean + law.theta
        u = (law.mean - x) / x * (law.theta / scale)
        d = (x - law.mean) / scale
        ratio = total / scale
        return x * log1p_minus_x(u, law.mean / x * ratio) + law.theta * log1p_minus_x(d, ratio)
    success, failure = torch.sigmoid(law.logits), torch.sigmoid(-law.logits)
    gap = law.theta * success - x * failure
    # Where a probability has underflowed its logarithm is the logit itself.
    low, high = law.logits < -80, law.logits > 80
    u = (gap / x).masked_fill(low, 0.0)
    by_success = log1p_minus_x(u, success.masked_fill(low, 1.0) * total / x)
    far = law.logits.masked_fill(~low, 0.0) + torch.log(total / x) + 1
    by_success = torch.where(low, far, by_success)
    d = (-gap / law.theta).masked_fill(high, 0.0)
    by_failure = log1p_minus_x(d, failure.masked_fill(high, 1.0) * total / law.theta)
    far = torch.log(total / law.theta) - law.logits.masked_fill(~high, 0.0) + 1
    return x * by_success + law.theta * torch.where(high, far, by_failure)


def height(theta: Tensor, x: Tensor) -> Tensor:
    total = x + theta
    rests = stirling_rest(total) - stirling_rest(theta) - stirling_rest(x)
    return 0.5 * (torch.log(theta / total / x) - LOG_2PI) + rests


def split(x: Tensor, *means: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Where the count is 0; the count and the means with 1 in its place, so that no derivative of
    what is not chosen is infinite."""
    zero = x == 0
    return zero, [t.masked_fill(zero, 1.0) for t in torch.broadcast_tensors(x, *means)]


def negative_binomial_terms(mean: Tensor, x: Tensor, dispersion: Tensor, form: int = 0) -> Tensor:
    mean, x, dispersion = torch.broadcast_tensors(mean, at_least_0(x), dispersion)
    zero, (count, safe) = split(x, mean)
    law = law_of(safe, dispersion, form)
    above = deviance(law, count) + height(law.theta, count)
    return torch.where(zero, log_of_zero(law_of(mean, dispersion, form)), above)


def log_mixture(logits: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """log(σ(logits) exp(a) + σ(−logits) exp(b)) of two log-probabilities."""
    logits, a, b = torch.broadcast_tensors(logits, a, b)
    near = (a > -1) & (b > -1)
    # Near 0 by what is missing to 1, which has one sign.
    close_a, close_b = a.masked_fill(~near, 0.0), b.masked_fill(~near, 0.0)
    missing = torch.sigmoid(logits) * torch.expm1(close_a)
    missing = missing + torch.sigmoid(-logits) * torch.expm1(close_b)
    low, high = softplus(-logits), softplus(logits)
    far = torch.logaddexp(cut(a, -1e30, 0.0) - low, cut(b, -1e30, 0.0) - high)
    never = (a - low == -math.inf) & (b - high == -math.inf)
    far = far.masked_fill(never, -math.inf)
    return torch.where(near, torch.log1p(missing), far)


def zero_inflated_negative_binomial_terms(
    mean: Tensor, x: Tensor, dispersion: Tensor, zero_logits: Tensor, form: int = 0
) -> Tensor:
    mean, x, dispersion, zero_logits = torch.broadcast_tensors(
        mean, at_least_0(x), dispersion, zero_logits
    )
    zero, (count, safe) = split(x, mean)
    law = law_of(safe, dispersion, form)
    above = deviance(law, count) + height(law.theta, count) - softplus(zero_logits)
    none = log_of_zero(law_of(mean, dispersion, form))
    return torch.where(zero, log_mixture(zero_logits, torch.zeros_like(none), none), above)


def negative_binomial_mixture_terms(
    mean1: Tensor, x: Tensor, mean2: Tensor, dispersion: Tensor, logits: Tensor, form: int = 0
) -> Tensor:
    mean1, x, mean2, dispersion, logits = torch.broadcast_tensors(
        mean1, at_least_0(x), mean2, dispersion, logits
    )
    zero, (count, *safe) = split(x, mean1, mean2)
    laws = [law_of(mean, dispersion, form) for mean in safe]
    level = height(laws[0].theta, count)
    above = log_mixture(logits, *[deviance(law, count) + level for law in laws])
    none = [log_of_zero(law_of(mean, dispersion, form)) for mean in (mean1, mean2)]
    return torch.where(zero, log_mixture(logits, *none), above)
