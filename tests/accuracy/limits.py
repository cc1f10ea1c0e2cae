"""The exact value at infinite and NaN arguments: the limit, where there is one."""

from __future__ import annotations

import math
from typing import Any

import mpmath

from .exact import LOG_2PI, Digits, to_long
from .quantities import BINARY, Quantity

inf, nan = math.inf, math.nan


def difference(a: float, b: float) -> float:
    """a − b, which is NaN where both are infinite and have one sign."""
    return a - b if math.isinf(a) or math.isinf(b) else float(mpmath.sign(mpmath.mpf(a) - b))


def kl(mu: float, logvar: float, prior_mu: float = 0, prior_logvar: float = 0) -> float:
    d = difference(mu, prior_mu), difference(logvar, prior_logvar)
    return nan if any(map(math.isnan, d)) else inf


def bernoulli(logit: float, target: float) -> float:
    return 0 if target == (logit > 0) else -inf


def gaussian(mean: float, target: float, logvar: float) -> float:
    d = difference(target, mean)
    if math.isnan(d):
        return nan
    return inf if d == 0 and logvar == -inf else -inf


def sample(mu: float, logvar: float, noise: float) -> float:
    if logvar == -inf:
        return nan if math.isinf(noise) else mu
    spread = math.copysign(inf, noise) if noise and max(logvar, abs(noise)) == inf else 0
    return mu + spread


def log_q(mu: float, logvar: float, noise: float) -> Any:
    if math.isinf(noise):
        return nan if logvar == -inf else -inf
    if math.isinf(logvar):
        return -logvar
    return to_long(-(mpmath.mpf(noise) ** 2 + logvar + LOG_2PI) / 2)


def log_p(mu: float, logvar: float, noise: float) -> Any:
    z = sample(mu, logvar, noise)
    return z if math.isnan(z) else to_long(-(mpmath.mpf(z) ** 2 + LOG_2PI) / 2)


AT_INFINITY = {
    "KL to N(0, I)": kl,
    "KL to a prior": kl,
    "Bernoulli": bernoulli,
    "Gaussian": gaussian,
    "mu + σ ε": sample,
    "log q(z)": log_q,
    "log p(z)": log_p,
    "∂KL/∂mu": lambda mu, _: mu,
    "∂KL/∂logvar": lambda _, v: inf if v == inf else to_long(mpmath.expm1(max(v, -1e9)) / 2),
}


# The inputs that a derivative depends on, where they are not all.
DEPENDS = {
    ("kl", 0): (0,),
    ("kl", 1): (1,),
    ("kl_prior", 0): (0, 2, 3),
    ("kl_prior", 1): (1, 3),
    ("sample", 1): (1, 2),
    ("log_q", None): (1, 2),
}


def depends_on_nan(quantity: Quantity, row: list[float]) -> bool:
    inputs = DEPENDS.get((quantity.op, quantity.by), range(len(row)))
    return any(math.isnan(row[i]) for i in inputs)


def excepted(quantity: Quantity, row: list[float], largest: float) -> bool:
    """Where the promises are not kept, as docs/accuracy.md says: a difference of two inputs that
    overflows counts as infinite, as does a σε that does, and noise whose square does;
    subnormal noise loses a bit."""
    if quantity.op == "gaussian":
        return math.isfinite(row[0] - row[1]) and abs(row[0] - row[1]) > largest
    if quantity.op == "log_q":
        return math.isinf(row[1]) and math.isfinite(row[2]) and abs(row[2]) > math.sqrt(largest)
    if quantity.op in ("sample", "log_p"):
        mu, logvar, noise = row
        overflows = noise != 0 and math.log(abs(noise)) + logvar / 2 > math.log(largest)
        subnormal = 0 < abs(noise) < 1.2e-38
        return (overflows and mu * noise < 0) or (quantity.by is not None and subnormal)
    return False


def value(quantity: Quantity, row: list[float], largest: float) -> Any:
    """The exact value, or NaN where the limit is undefined; None where nothing is promised."""
    if quantity.sets == BINARY and row[1] not in (0, 1):
        return None
    if any(map(math.isnan, row)):
        return nan if depends_on_nan(quantity, row) else None
    if excepted(quantity, row, largest):
        return None
    if any(map(math.isinf, row)):
        rule = AT_INFINITY.get(quantity.name)
        return None if rule is None else rule(*row)
    return to_long(quantity.exact(Digits, *map(mpmath.mpf, row)))
