"""The exact value at infinite and NaN arguments: the limit, where there is one."""

from __future__ import annotations

import math
from typing import Any

import mpmath

from tests.arithmetic import LOG_2PI, Digits, to_long
from tests.cases import Case, Quantity
from tests.likelihood_cases import BINARY, STUDENT_T

inf, nan = math.inf, math.nan


def difference(a: float, b: float) -> float:
    """a − b, which is NaN where both are infinite and have one sign."""
    return a - b if math.isinf(a) or math.isinf(b) else float(mpmath.sign(mpmath.mpf(a) - b))


def kl(mu: float, logvar: float, prior_mu: float = 0, prior_logvar: float = 0) -> float:
    d = difference(mu, prior_mu), difference(logvar, prior_logvar)
    return nan if any(map(math.isnan, d)) else inf


def bernoulli(logit: float, target: float) -> float:
    return 0 if target == (logit > 0) else -inf


def location(center: float, target: float, log_scale: float = 0) -> float:
    """Of any density of (target − center) / scale."""
    d = difference(target, center)
    if math.isnan(d):
        return nan
    return inf if d == 0 and log_scale == -inf else -inf


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
    "mu + σ ε": sample,
    "log q(z)": log_q,
    "log p(z)": log_p,
    "∂KL/∂mu": lambda mu, _: mu,
    "∂KL/∂logvar": lambda _, v: inf if v == inf else to_long(mpmath.expm1(max(v, -1e9)) / 2),
}


# The inputs that a derivative depends on, where they are not all: by the case and the derivative.
DEPENDS = {
    ("gaussian_kl", 0): (0,),
    ("gaussian_kl", 1): (1,),
    ("gaussian_kl_prior", 0): (0, 2, 3),
    ("gaussian_kl_prior", 1): (1, 3),
    ("bernoulli_log_likelihood", 1): (0,),
    ("sample", 1): (1, 2),
    ("log_q", None): (1, 2),
}


def depends_on_nan(case: Case, by: int | None, row: list[float]) -> bool:
    inputs = DEPENDS.get((case.name, by), range(len(row)))
    return any(math.isnan(row[i]) for i in inputs)


def of_location(case: Case) -> bool:
    """A likelihood of a location: its targets are any numbers."""
    return case.likelihood and "target" not in case.makes


def excepted(case: Case, by: int | None, row: list[float], largest: float) -> bool:
    """Where the promises are not kept, as docs/accuracy.md says: a difference of two inputs that
    overflows counts as infinite, as does a σε that does, and noise whose square does;
    subnormal noise loses a bit."""
    if case.name == "log_q":
        return math.isinf(row[1]) and math.isfinite(row[2]) and abs(row[2]) > math.sqrt(largest)
    if not case.reduces:
        mu, logvar, noise = row
        overflows = noise != 0 and math.log(abs(noise)) + logvar / 2 > math.log(largest)
        subnormal = 0 < abs(noise) < 1.2e-38
        return (overflows and mu * noise < 0) or (by is not None and subnormal)
    if of_location(case):
        return math.isfinite(row[0] - row[1]) and abs(row[0] - row[1]) > largest
    return False


def value(case: Case, quantity: Quantity, by: int | None, row: list[float], largest: float) -> Any:
    """The exact value, or NaN where the limit is undefined; None where nothing is promised."""
    if quantity.sets == BINARY and row[1] not in (0, 1):
        return None
    if any(map(math.isnan, row)):
        return nan if depends_on_nan(case, by, row) else None
    if excepted(case, by, row, largest):
        return None
    if case is STUDENT_T:
        if not row[2] > 0:
            return nan
        if not 1e-37 < row[2] < 1e30:  # as docs/accuracy.md says
            return None
    if any(map(math.isinf, row)):
        rule = AT_INFINITY.get(quantity.name)
        if by is None and of_location(case):
            rule = location
            if case is STUDENT_T:
                row = [row[0], row[1], row[3]]
        return None if rule is None else rule(*row)
    try:
        return to_long(mpmath.mpf(quantity.value(Digits, *map(mpmath.mpf, row))))
    except ZeroDivisionError:  # a count above 0 whose mean is 0
        return None
