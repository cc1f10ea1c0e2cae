"""The exact values of the likelihoods of counts, as exact.py has the others: terms whose sum is the
value, as the deviance from the mean has them, which are what the error is relative to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def parts(m: Any, mean: Any, x: Any, theta: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Whether the count is 0, and the count (1 there), with success, failure and their total."""
    zero = x == 0
    count = m.where(zero, x + 1, x)
    return zero, count, mean / (mean + theta), theta / (mean + theta), count + theta


def log_of_zero(m: Any, mean: Any, theta: Any) -> Any:
    return -theta * m.log1p(mean / theta)


def deviance(m: Any, mean: Any, x: Any, theta: Any) -> tuple[Any, Any]:
    zero, count, success, failure, whole = parts(m, mean, x, theta)
    u, d = (mean - count) / count * failure, (count - mean) / (mean + theta)
    by_u = count * m.log1p_minus_x(u, success * whole / count)
    by_d = theta * m.log1p_minus_x(d, whole / (mean + theta))
    return m.where(zero, log_of_zero(m, mean, theta), by_u), m.where(zero, 0 * d, by_d)


def deviance_size(m: Any, mean: Any, x: Any, theta: Any) -> Any:
    """Sensitive to the rounding of u and d themselves."""
    zero, count, _, failure, _ = parts(m, mean, x, theta)
    u, d = (mean - count) / count * failure, (count - mean) / (mean + theta)

    def sensitivity(x: Any) -> Any:
        return x * x / (1 + m.where(x < -0.65, -0.65 + 0 * x, x)) * 3 / 8

    spread = count * sensitivity(u) + theta * sensitivity(d)
    return size(deviance(m, mean, x, theta)) + m.where(zero, 0 * spread, spread)


def height(m: Any, x: Any, theta: Any) -> tuple[Any, ...]:
    zero, count, _, _, whole = parts(m, theta, x, theta)
    terms = (
        m.log(theta / whole / count) / 2,
        -m.log_2pi / 2 + 0 * count,
        m.stirling_rest(whole),
        -m.stirling_rest(theta),
        -m.stirling_rest(count),
    )
    return tuple(m.where(zero, 0 * t, t) for t in terms)


def poisson(m: Any, rate: Any, x: Any) -> Any:
    zero = x == 0
    count = m.where(zero, x + 1, x)
    terms = (
        count * m.log1p_minus_x((rate - count) / count, rate / count),
        -(m.log_2pi + m.log(count)) / 2,
        -m.stirling_rest(count),
    )
    return m.where(zero, -rate, terms[0]), *(m.where(zero, 0 * t, t) for t in terms[1:])


def poisson_magnitude(m: Any, rate: Any, x: Any) -> Any:
    # The deviance of a dispersion so large that it is gone.
    far = deviance_size(m, rate, x, rate * 0 + 1e12)
    return size(poisson(m, rate, x)), far


def poisson_drate(m: Any, rate: Any, x: Any) -> Any:
    zero = x == 0
    return (m.where(zero, -1 + 0 * rate, (x - rate) / m.where(zero, 1 + 0 * rate, rate)),)


def negative_binomial(m: Any, mean: Any, x: Any, theta: Any) -> Any:
    return *deviance(m, mean, x, theta), *height(m, x, theta)


def negative_binomial_magnitude(m: Any, mean: Any, x: Any, theta: Any) -> Any:
    return deviance_size(m, mean, x, theta), size(height(m, x, theta))


def negative_binomial_dmean(m: Any, mean: Any, x: Any, theta: Any) -> Any:
    zero = x == 0
    gap = m.where(zero, -1 + 0 * mean, (x - mean) / m.where(zero, 1 + 0 * mean, mean))
    return (gap * (theta / (mean + theta)),)


def negative_binomial_ddispersion(m: Any, mean: Any, x: Any, theta: Any) -> Any:
    zero, count, success, failure, whole = parts(m, mean, x, theta)
    d = m.where(zero, -success, (count - mean) / (mean + theta))
    bend = m.log1p_minus_x(d, m.where(zero, failure, whole / (mean + theta)))
    rest = count / whole / (2 * theta), m.digamma_rest(whole), -m.digamma_rest(theta)
    return bend, *(m.where(zero, 0 * t, t) for t in rest)


# ---- Mixtures ------------------------------------------------------------------------------------


def total(terms: tuple[Any, ...]) -> Any:
    return sum(terms[1:], terms[0])


def size(terms: tuple[Any, ...]) -> Any:
    return total(tuple(abs(t) for t in terms))


def sigmoid(m: Any, x: Any) -> Any:
    return 1 / (1 + m.exp(-x))


def log_mixture(m: Any, logits: Any, a: Any, b: Any) -> Any:
    """By what is missing to 1, which in these digits is exact enough near 1 and far from it."""
    missing = sigmoid(m, logits) * m.expm1(a) + sigmoid(m, -logits) * m.expm1(b)
    first, second = a - m.log1p(m.exp(-logits)), b - m.log1p(m.exp(logits))
    most = m.where(first > second, first, second)
    far = most + m.log1p(m.exp(-abs(first - second)))
    near = missing > -0.5
    return m.where(near, m.log1p(m.where(near, missing, 0 * missing)), far)


def weights(m: Any, logits: Any, a: Any, b: Any) -> tuple[Any, Any]:
    odds = a - b + logits
    return sigmoid(m, odds), sigmoid(m, -odds)


def mixture_magnitude(m: Any, logits: Any, a: Any, b: Any, sizes: Sequence[Any]) -> Any:
    """Sensitive to the rounding of the parts, each as far as it was likely."""
    by_a, by_b = weights(m, logits, a, b)
    far = m.where((a < -1) | (b < -1), m.log1p(m.exp(-abs(logits))), 0 * a)
    return abs(log_mixture(m, logits, a, b)) + by_a * sizes[0] + by_b * sizes[1] + far


def inflated_parts(m: Any, mean: Any, x: Any, theta: Any, logits: Any) -> tuple[Any, Any]:
    return 0 * (mean + logits), log_of_zero(m, mean, theta) + 0 * logits


def zero_inflated(m: Any, mean: Any, x: Any, theta: Any, logits: Any) -> Any:
    zero = x == 0
    none = log_mixture(m, logits, *inflated_parts(m, mean, x, theta, logits))
    positive = m.where(logits > 0, logits, 0 * logits)
    others = (-positive, -m.log1p(m.exp(-abs(logits))))
    above = negative_binomial(m, mean, x, theta)
    return m.where(zero, none, above[0]), *(
        m.where(zero, 0 * none, t + 0 * none) for t in (*above[1:], *others)
    )


def zero_inflated_magnitude(m: Any, mean: Any, x: Any, theta: Any, logits: Any) -> Any:
    a, b = inflated_parts(m, mean, x, theta, logits)
    none = mixture_magnitude(m, logits, a, b, (abs(a), abs(b)))
    terms = zero_inflated(m, mean, x, theta, logits)
    return (m.where(x == 0, none, size(terms) + deviance_size(m, mean, x, theta)),)


def inflated_weight(m: Any, mean: Any, x: Any, theta: Any, logits: Any) -> tuple[Any, Any]:
    """How likely a count came from the negative binomial, and the error of that in its logit."""
    a, b = inflated_parts(m, mean, x, theta, logits)
    _, weight = weights(m, logits, a, b)
    one = 1 + 0 * weight
    spread = 1 + abs(b) + abs(logits)
    return m.where(x == 0, weight, one), m.where(x == 0, spread, one)


def zero_inflated_dmean(m: Any, mean: Any, x: Any, theta: Any, logits: Any) -> Any:
    weight, _ = inflated_weight(m, mean, x, theta, logits)
    return tuple(weight * t for t in negative_binomial_dmean(m, mean, x, theta))


def zero_inflated_dmean_magnitude(m: Any, *inputs: Any) -> Any:
    return (size(zero_inflated_dmean(m, *inputs)) * inflated_weight(m, *inputs)[1],)


def zero_inflated_ddispersion(m: Any, mean: Any, x: Any, theta: Any, logits: Any) -> Any:
    weight, _ = inflated_weight(m, mean, x, theta, logits)
    return tuple(weight * t for t in negative_binomial_ddispersion(m, mean, x, theta))


def zero_inflated_ddispersion_magnitude(m: Any, *inputs: Any) -> Any:
    return (size(zero_inflated_ddispersion(m, *inputs)) * inflated_weight(m, *inputs)[1],)


def zero_inflated_dlogits(m: Any, mean: Any, x: Any, theta: Any, logits: Any) -> Any:
    a, b = inflated_parts(m, mean, x, theta, logits)
    by_a, _ = weights(m, logits, a, b)
    return (m.where(x == 0, -by_a * sigmoid(m, -logits) * m.expm1(b), -sigmoid(m, logits)),)


def zero_inflated_dlogits_magnitude(m: Any, *inputs: Any) -> Any:
    return (size(zero_inflated_dlogits(m, *inputs)) * inflated_weight(m, *inputs)[1],)


def mixture_parts(
    m: Any, mean1: Any, x: Any, mean2: Any, theta: Any, logits: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    level = height(m, x, theta)
    return (*deviance(m, mean1, x, theta), *level), (*deviance(m, mean2, x, theta), *level)


def mixture(m: Any, mean1: Any, x: Any, mean2: Any, theta: Any, logits: Any) -> Any:
    a, b = mixture_parts(m, mean1, x, mean2, theta, logits)
    return (log_mixture(m, logits, total(a), total(b)),)


def mixture_value_magnitude(m: Any, mean1: Any, x: Any, mean2: Any, theta: Any, logits: Any) -> Any:
    a, b = mixture_parts(m, mean1, x, mean2, theta, logits)
    sizes = [size(negative_binomial_magnitude(m, mean, x, theta)) for mean in (mean1, mean2)]
    return (mixture_magnitude(m, logits, total(a), total(b), sizes),)


def mixture_weights(m: Any, *inputs: Any) -> tuple[Any, Any, Any]:
    a, b = mixture_parts(m, *inputs)
    logits = inputs[-1]
    spread = 1 + size(a) + size(b) + abs(logits)
    return *weights(m, logits, total(a), total(b)), spread


def mixture_dmean1(m: Any, mean1: Any, x: Any, mean2: Any, theta: Any, logits: Any) -> Any:
    by_a, _, _ = mixture_weights(m, mean1, x, mean2, theta, logits)
    return tuple(by_a * t for t in negative_binomial_dmean(m, mean1, x, theta))


def mixture_dmean2(m: Any, mean1: Any, x: Any, mean2: Any, theta: Any, logits: Any) -> Any:
    _, by_b, _ = mixture_weights(m, mean1, x, mean2, theta, logits)
    return tuple(by_b * t for t in negative_binomial_dmean(m, mean2, x, theta))


def mixture_ddispersion(m: Any, mean1: Any, x: Any, mean2: Any, theta: Any, logits: Any) -> Any:
    by_a, by_b, _ = mixture_weights(m, mean1, x, mean2, theta, logits)
    return (
        *(by_a * t for t in negative_binomial_ddispersion(m, mean1, x, theta)),
        *(by_b * t for t in negative_binomial_ddispersion(m, mean2, x, theta)),
    )


def mixture_dlogits(m: Any, mean1: Any, x: Any, mean2: Any, theta: Any, logits: Any) -> Any:
    a, b = map(total, mixture_parts(m, mean1, x, mean2, theta, logits))
    by_a, by_b = weights(m, logits, a, b)
    difference = m.expm1(-abs(a - b))
    first = -by_a * sigmoid(m, -logits) * difference
    return (m.where(a > b, first, by_b * sigmoid(m, logits) * difference),)


def mixture_dlogits_magnitude(m: Any, *inputs: Any) -> Any:
    by_a, _, spread = mixture_weights(m, *inputs)
    a, b = map(total, mixture_parts(m, *inputs))
    logits = inputs[-1]
    first = by_a * sigmoid(m, -logits)
    second = (1 - by_a) * sigmoid(m, logits)
    return (m.where(a > b, first, second) * spread,)


def spread_of(terms: Any) -> Any:
    def magnitude(m: Any, *inputs: Any) -> Any:
        return (size(terms(m, *inputs)) * mixture_weights(m, *inputs)[2],)

    return magnitude
