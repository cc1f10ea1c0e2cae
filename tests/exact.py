"""The exact values, each formula written once.

A formula takes an arithmetic (of arithmetic.py) and the inputs, and returns the terms whose sum is
the value; the sum of their absolute values is its magnitude.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

Terms = Callable[..., tuple[Any, ...]]


def value(terms: Terms, m: Any, *inputs: Any) -> Any:
    return functools.reduce(lambda a, b: a + b, terms(m, *inputs))


def magnitude(terms: Terms, m: Any, *inputs: Any) -> Any:
    return functools.reduce(lambda a, b: a + b, (abs(t) for t in terms(m, *inputs)))


# ---- Divergences ---------------------------------------------------------------------------------


def kl(m: Any, mu: Any, logvar: Any) -> Any:
    return mu * mu / 2, m.half_expm1_minus_x(logvar)


def kl_dmu(m: Any, mu: Any, logvar: Any) -> Any:
    return (mu,)


def kl_dlogvar(m: Any, mu: Any, logvar: Any) -> Any:
    return (m.expm1(logvar) / 2,)


def score(m: Any, x: Any, mean: Any, logvar: Any) -> Any:
    return (x - mean) * m.exp(-logvar / 2)


def kl_prior(m: Any, mu: Any, logvar: Any, prior_mu: Any, prior_logvar: Any) -> Any:
    s = score(m, mu, prior_mu, prior_logvar)
    return s * s / 2, m.half_expm1_minus_x(logvar - prior_logvar)


def kl_prior_magnitude(m: Any, mu: Any, logvar: Any, prior_mu: Any, prior_logvar: Any) -> Any:
    s, d = score(m, mu, prior_mu, prior_logvar), logvar - prior_logvar
    # Sensitive to the rounding of d itself: (8 + 2 |d|) u.
    return ((s * s + m.exp(d) + 1 + m.abs(d)) / 2 * (1 + m.abs(d) / 4),)


def kl_prior_dmu(m: Any, mu: Any, logvar: Any, prior_mu: Any, prior_logvar: Any) -> Any:
    return (score(m, score(m, mu, prior_mu, prior_logvar), 0, prior_logvar),)


def kl_prior_dlogvar(m: Any, mu: Any, logvar: Any, prior_mu: Any, prior_logvar: Any) -> Any:
    return (m.expm1(logvar - prior_logvar) / 2,)


def growth(m: Any, d: Any) -> Any:
    return (m.exp(d) + 1) / 2 * (1 + m.abs(d) / 4)


def kl_prior_dlogvar_magnitude(
    m: Any, mu: Any, logvar: Any, prior_mu: Any, prior_logvar: Any
) -> Any:
    return (growth(m, logvar - prior_logvar),)


def kl_prior_dprior_logvar(m: Any, mu: Any, logvar: Any, prior_mu: Any, prior_logvar: Any) -> Any:
    s = score(m, mu, prior_mu, prior_logvar)
    return -s * s / 2, -m.expm1(logvar - prior_logvar) / 2


def kl_prior_dprior_logvar_magnitude(
    m: Any, mu: Any, logvar: Any, prior_mu: Any, prior_logvar: Any
) -> Any:
    s = score(m, mu, prior_mu, prior_logvar)
    return s * s / 2, growth(m, logvar - prior_logvar)


# ---- Likelihoods ---------------------------------------------------------------------------------


def bernoulli(m: Any, logit: Any, target: Any) -> Any:
    weight = m.where(logit > 0, 1 - target, target)
    return -weight * m.abs(logit), -m.log1p(m.exp(-m.abs(logit)))


def bernoulli_dlogit(m: Any, logit: Any, target: Any) -> Any:
    e = m.exp(-m.abs(logit))
    difference = m.where(logit > 0, 1 - target, target) - e / (1 + e)
    return (m.where(logit > 0, -difference, difference),)


def bernoulli_dlogit_magnitude(m: Any, logit: Any, target: Any) -> Any:
    e = m.exp(-m.abs(logit))
    sigmoid = m.where(logit > 0, 1 + 0 * e, e) / (1 + e)
    return (m.where(sigmoid > target, sigmoid, target + 0 * e),)


def bernoulli_dtarget(m: Any, logit: Any, target: Any) -> Any:
    return (logit,)


def continuous_bernoulli(m: Any, logit: Any, target: Any) -> Any:
    a = m.abs(logit)
    weight = m.where(logit > 0, 1 - target, target)
    far = m.where(a < 2, 2 + 0 * a, a)
    return (
        m.where(a < 2, (0.5 - weight) * a, -weight * a),
        m.where(a < 2, -m.log_sinhc(a), m.log(far / (1 - m.exp(-far)))),
    )


def continuous_bernoulli_dlogit(m: Any, logit: Any, target: Any) -> Any:
    a = m.abs(logit)
    weight = m.where(logit > 0, 1 - target, target)
    difference = (weight - 0.5) + m.log_sinhc_slope(a)
    return (m.where(logit > 0, -difference, difference),)


def continuous_bernoulli_dlogit_magnitude(m: Any, logit: Any, target: Any) -> Any:
    """Of the target and of the mean, between which the derivative cancels."""
    a = m.abs(logit)
    weight = m.where(logit > 0, 1 - target, target)
    mean = 0.5 - m.log_sinhc_slope(a)
    return (m.where(mean > weight, mean, weight),)


def gaussian(m: Any, mean: Any, target: Any, logvar: Any) -> Any:
    s = score(m, target, mean, logvar)
    return -s * s / 2, -logvar / 2, -m.log_2pi / 2


def gaussian_dmean(m: Any, mean: Any, target: Any, logvar: Any) -> Any:
    return (score(m, score(m, target, mean, logvar), 0, logvar),)


def gaussian_dlogvar(m: Any, mean: Any, target: Any, logvar: Any) -> Any:
    s = score(m, target, mean, logvar)
    return s * s / 2, -0.5


def laplace(m: Any, loc: Any, target: Any, log_scale: Any) -> Any:
    return -m.abs(target - loc) * m.exp(-log_scale), -log_scale, -m.log_2


def laplace_dloc(m: Any, loc: Any, target: Any, log_scale: Any) -> Any:
    return (m.sign(target - loc) * m.exp(-log_scale),)


def laplace_dlog_scale(m: Any, loc: Any, target: Any, log_scale: Any) -> Any:
    return m.abs(target - loc) * m.exp(-log_scale), -1


def student_t_parts(m: Any, loc: Any, target: Any, df: Any, log_scale: Any) -> tuple[Any, ...]:
    """df, which is NaN unless it is above 0, its inverse, s, q and q / (1 + q)."""
    df = m.where(df > 0, df, 0 * df + math.nan)
    s = (target - loc) * m.exp(-log_scale)
    q = s * s / df
    share = m.where(q > 1, 1 / (1 + 1 / m.where(q > 1, q, 1 + 0 * q)), q / (1 + q))
    return df, 1 / df, s, q, share


def student_t(m: Any, *inputs: Any) -> Any:
    df, w, _, q, _ = student_t_parts(m, *inputs)
    return (
        *(df / 2 * m.log1p_minus_x(w, 1 + w), m.stirling_rest((df + 1) / 2)),
        *(-m.stirling_rest(df / 2), -m.log_2pi / 2, -inputs[3], -(df + 1) / 2 * m.log1p(q)),
    )


def student_t_dloc(m: Any, *inputs: Any) -> Any:
    df, _, s, q, _ = student_t_parts(m, *inputs)
    return ((df + 1) / df * s * m.exp(-inputs[3]) / (1 + q),)


def student_t_dlog_scale(m: Any, *inputs: Any) -> Any:
    df, *_, share = student_t_parts(m, *inputs)
    return (df + 1) * share, -1


def student_t_ddf(m: Any, *inputs: Any) -> Any:
    df, w, _, q, share = student_t_parts(m, *inputs)
    near_w = m.log1p_minus_x(w, 1 + w), w * w / (1 + w)
    near_q = -m.log1p_minus_x(q, 1 + q), -q * share
    return (
        m.where(w > 1, m.log1p(w), near_w[0]) / 2,
        m.where(w > 1, -w / (1 + w), near_w[1]) / 2,
        *(m.digamma_rest((df + 1) / 2) / 2, -m.digamma_rest(df / 2) / 2),
        m.where(q > 1, -m.log1p(q), near_q[0]) / 2,
        m.where(q > 1, share, near_q[1]) / 2,
        w * share / 2,
    )


# ---- Samples -------------------------------------------------------------------------------------


def sample(m: Any, mu: Any, logvar: Any, noise: Any) -> Any:
    return mu, noise * m.exp(logvar / 2)


def sample_dlogvar(m: Any, mu: Any, logvar: Any, noise: Any) -> Any:
    return (noise * m.exp(logvar / 2) / 2,)


def log_q(m: Any, mu: Any, logvar: Any, noise: Any) -> Any:
    return -noise * noise / 2, -logvar / 2, -m.log_2pi / 2


def log_p(m: Any, mu: Any, logvar: Any, noise: Any) -> Any:
    z = value(sample, m, mu, logvar, noise)
    return -z * z / 2, -m.log_2pi / 2


def log_p_magnitude(m: Any, mu: Any, logvar: Any, noise: Any) -> Any:
    z = magnitude(sample, m, mu, logvar, noise)
    return z * z / 2, m.log_2pi / 2


def box_muller(m: Any, word_even: Any, word_odd: Any) -> tuple[Any, Any]:
    """The even and the odd normal variate of two 32-bit words."""
    radius = m.sqrt(-2 * m.log((word_even + 0.5) / 2**32))
    turn = 2 * m.pi * word_odd / 2**32
    return radius * m.cos(turn), radius * m.sin(turn)
