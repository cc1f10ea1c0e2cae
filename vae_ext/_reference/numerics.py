"""Dtypes, reductions and stable building blocks: what every formula in plain PyTorch is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# (exp(d) − 1 − d) / 2 = Σ d^n / (2 n!) for n ≥ 2: enough terms for float64 at |d| ≤ 1.
SERIES = [0.5 / math.factorial(n) for n in range(2, 19)]
# log(1 + x) = 2 atanh(v), v = x / (2 + x): Σ v^(2k) / (2k + 1), beginning with k = 1.
ATANH = [1 / (2 * k + 1) for k in range(1, 21)]
# log(sinh(x / 2) / (x / 2)) = Σ B_2n x^2n / (2n (2n)!) for n ≥ 1, for float64 at |x| ≤ 1.
LOG_SINHC = [
    *(1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600, -691 / 15692092416000),
    *(9.558954664774771e-13, -2.1185501852016143e-14, 4.7700344757099136e-16),
    *(-1.0874343492790309e-17, 2.5040921947091952e-19),
]
# S of csrc/math/special.h by w = 1 / y ≤ 1: what lgamma(y) has beside its leading terms, over w.
STIRLING = [
    *(0.0833333333333333, 3.2302836091810566e-14, -0.0027777777829594394, 3.292305857250617e-10),
    *(0.0007936397603098573, 2.2491224817581712e-07, -0.0005982660032098553),
    *(2.8274855283877573e-05, 0.0006539066370335416, 0.0008886856605161269),
    *(-0.004791501118442647, 0.005313130817249451, 0.007183094947469427, -0.036300114897613575),
    *(0.07066055393153046, -0.0894648808197021, 0.08094702366876606, -0.05333706092061831),
    *(0.025190310297915346, -0.008117612393690323, 0.0016031253042551462),
    -0.00014662372361018463,
]
LOG_2PI = math.log(2 * math.pi)


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


def as_tensor(number: float, *like: Tensor) -> Tensor:
    """A number as a tensor, by a sum, which compilers do not compile again for each number."""
    zero = like[0].new_zeros((), dtype=arithmetic_dtype(*like))
    return zero + number


def divisor(shape: Sequence[int], event_dims: int, reduction: str) -> int:
    """What a mean is over: the elements for "mean", the events for "batchmean"."""
    return math.prod(shape if reduction == "mean" else shape[: len(shape) - event_dims])


def reduce(
    terms: Tensor,
    event_dims: int | None,
    reduction: str,
    dtype: torch.dtype,
    count: int | None = None,
) -> Tensor:
    """Elementwise terms in `dtype`, or their sums in the arithmetic dtype; a mean is over `count`,
    or over what there is."""
    if reduction == "none":
        return terms.to(dtype)
    dims = max(terms.ndim - 1, 0) if event_dims is None else event_dims
    if reduction == "event":
        return terms.flatten(terms.ndim - dims).sum(-1) if dims > 0 else terms
    if reduction == "mean" and count is None:
        return terms.mean()
    total = terms.sum()
    if reduction == "sum":
        return total
    return total / (divisor(terms.shape, dims, reduction) if count is None else count)


def cut(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """x between the bounds. Its derivative is 1 from bound to bound and 0 outside, where torch's
    clamp changed its mind in 2.14 about what it is on a bound."""
    return x.masked_fill(x < low, low).masked_fill(x > high, high)


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


def near_and_far(d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where |d| < 1, and d with the other region masked: no gradient of an unused branch."""
    near = d.abs() < 1
    return near, d.masked_fill(~near, 0.0), d.masked_fill(near, 1.0)


def half_expm1_minus_x(d: Tensor) -> Tensor:
    """(exp(d) − 1 − d) / 2."""
    near, d_near, d_far = near_and_far(d)
    half = torch.full_like(d, 0.5)
    far = (mul_exp(half, d_far) - 0.5) - 0.5 * d_far.masked_fill(d_far > 1000.0, 1000.0)
    return torch.where(near, half_series(d_near), far)


def polynomial(coefficients: list[float], x: Tensor) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def log_sinhc(x: Tensor) -> Tensor:
    """log(sinh(x / 2) / (x / 2)), |x| ≤ 1."""
    return x * x * polynomial(LOG_SINHC, x * x)


def log1p_minus_x(x: Tensor, one_plus_x: Tensor) -> Tensor:
    """log(1 + x) − x, without loss near 0."""
    near = (x > -0.5) & (x < 1)
    small = x.masked_fill(~near, 0.0)
    v = small / (2 + small)
    close = v * (2 * v * v * polynomial(ATANH, v * v) - small)
    return torch.where(near, close, torch.log(one_plus_x.masked_fill(near, 1.0)) - x)


def stirling_rest(y: Tensor) -> Tensor:
    """lgamma(y) − (y − ½) log y + y − ½ log 2π."""
    small = y < 1
    w = 1 / torch.where(small, y + 1, y)
    low = y.masked_fill(~small, 0.5)
    step = (low + 0.5) * torch.log((low + 1) / low) - 1
    return w * polynomial(STIRLING, w) + step.masked_fill(~small, 0.0)
