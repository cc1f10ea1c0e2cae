"""What the formulas of exact.py are computed in: 80-bit numbers (Bulk) for millions of elements, 50
digits (Digits) for the difficult ones, and float64 tensors (Tensors) where only a magnitude is
asked for. All have the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import torch

mpmath.mp.dps = 50
LONG = np.longdouble
# 64 bits of mantissa: not everywhere (on Arm, and with MSVC, long double is something else).
HAS_LONG = np.finfo(LONG).nmant >= 63

LOG_2PI = mpmath.log(2 * mpmath.pi)
SERIES = [1 / (2 * mpmath.factorial(n)) for n in range(2, 26)]


# Of the asymptotic series of lgamma and digamma, by odd and by even powers of 1 / y.
BERNOULLI_NUMBERS = [mpmath.bernoulli(2 * k) / (2 * k * (2 * k - 1)) for k in range(1, 13)]
DIGAMMA = [mpmath.bernoulli(2 * k) / (2 * k) for k in range(1, 13)]


# Of log(sinh(x / 2) / (x / 2)), by powers of x^2, the first of which is x^2.
LOG_SINHC = [mpmath.bernoulli(2 * n) / (2 * n * mpmath.factorial(2 * n)) for n in range(1, 16)]


def series(coefficients: list[Any], w: Any) -> Any:
    """w (c0 + c1 w^2 + ...)"""
    total = np.zeros_like(w)
    for c in reversed(coefficients):
        total = total * w * w + to_long(c)
    return total * w


def to_long(x: Any) -> Any:
    """An mpmath number in 80 bits, without a stop at 64."""
    if not mpmath.isfinite(x):
        return LONG(float(x))
    mantissa, exponent = mpmath.frexp(x)
    high = float(mantissa)
    with np.errstate(over="ignore", under="ignore"):  # beyond 16 bits of exponent: inf or 0
        exponent = max(min(exponent, 99999), -99999)
        return np.ldexp(LONG(high) + LONG(float(mantissa - high)), int(exponent))


TOP = 12  # from which the asymptotic series have 80 bits


def climb(y: Any, step: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The steps from each y to what is at least TOP, summed, and where they end."""
    up, total = np.array(y), np.zeros_like(y)
    while (low := up < TOP).any():
        at = up[low]
        total[low] += step(at)
        up[low] = at + 1
    return total, up


class Bulk:
    """Arrays of long doubles."""

    log_2pi, log_2, pi = map(to_long, (LOG_2PI, mpmath.log(2), mpmath.pi))
    exp, log, log1p, expm1, sqrt = np.exp, np.log, np.log1p, np.expm1, np.sqrt
    sin, cos = np.sin, np.cos
    abs, sign, where = np.abs, np.sign, np.where

    @staticmethod
    def half_expm1_minus_x(d: Any) -> Any:
        near = np.abs(d) < 0.5
        small = np.where(near, d, 0)
        total = np.zeros_like(d)
        for c in reversed(SERIES):
            total = total * small + to_long(c)
        return np.where(near, small * small * total, (np.expm1(d) - d) / 2)

    @staticmethod
    def log1p_minus_x(x: Any, one_plus_x: Any) -> Any:
        near = np.abs(x) < 0.3
        v = np.where(near, x, 0) / (2 + np.where(near, x, 0))
        total = np.zeros_like(v)
        for k in range(15, 0, -1):
            total = total * v * v + to_long(mpmath.mpf(1) / (2 * k + 1))
        return np.where(near, v * (2 * v * v * total - (2 + x) * v), np.log(one_plus_x) - x)

    @staticmethod
    def log_sinhc(a: Any) -> Any:
        """log(sinh(a / 2) / (a / 2)), a >= 0."""
        near = a < 1
        far = np.where(near, 1, a)
        total = series(LOG_SINHC, np.where(near, a, 0)) * np.where(near, a, 0)
        return np.where(near, total, far / 2 + np.log((1 - np.exp(-far)) / far))

    @staticmethod
    def log_sinhc_slope(a: Any) -> Any:
        near = a < 1
        far = np.where(near, 1, a)
        total = series([2 * n * c for n, c in enumerate(LOG_SINHC, 1)], np.where(near, a, 0))
        e = np.exp(-far)
        return np.where(near, total, LONG(0.5) + e / (1 - e) - 1 / far)

    @staticmethod
    def stirling_rest(y: Any) -> Any:
        """Binet's function, from TOP down by its recurrence."""
        total, up = climb(y, Bulk.binet_step)
        return total + series(BERNOULLI_NUMBERS, 1 / up)

    @staticmethod
    def binet_step(y: Any) -> Any:
        """(y + 1/2) log(1 + 1/y) - 1"""
        far = (y + LONG(0.5)) * Bulk.log1p_minus_x(1 / y, 1 + 1 / y) + 1 / (2 * y)
        return np.where(y < 1, (y + LONG(0.5)) * np.log1p(1 / y) - 1, far)

    @staticmethod
    def digamma_rest(y: Any) -> Any:
        def step(y: Any) -> Any:
            """log(1 + 1/y) - (1/y + 1/(y + 1)) / 2"""
            return Bulk.log1p_minus_x(1 / y, 1 + 1 / y) + 1 / (2 * y * (y + 1))

        total, up = climb(y, step)
        return total - series(DIGAMMA, 1 / up) / up


class Digits:
    """One mpmath number at a time."""

    log_2pi, log_2, pi = LOG_2PI, mpmath.log(2), mpmath.pi
    exp, log, log1p, expm1, sqrt = (
        mpmath.exp,
        mpmath.log,
        mpmath.log1p,
        mpmath.expm1,
        mpmath.sqrt,
    )
    sin, cos = mpmath.sin, mpmath.cos
    abs, sign = staticmethod(abs), mpmath.sign

    @staticmethod
    def where(condition: bool, a: Any, b: Any) -> Any:
        return a if condition else b

    @staticmethod
    def half_expm1_minus_x(d: Any) -> Any:
        if abs(d) < mpmath.mpf(10) ** -9:
            return d * d / 4 + d**3 / 12 + d**4 / 48 + d**5 / 240
        return (mpmath.expm1(d) - d) / 2

    @staticmethod
    def log1p_minus_x(x: Any, one_plus_x: Any) -> Any:
        with mpmath.workdps(100):
            return mpmath.log(one_plus_x) - x if abs(x) > 0.3 else mpmath.log1p(x) - x

    @staticmethod
    def log_sinhc(a: Any) -> Any:
        with mpmath.workdps(100):
            if a < mpmath.mpf(10) ** -20:
                return mpmath.mpf(a) ** 2 / 24
            return mpmath.mpf(a) / 2 + mpmath.log(-mpmath.expm1(-mpmath.mpf(a)) / a)

    @staticmethod
    def log_sinhc_slope(a: Any) -> Any:
        with mpmath.workdps(100):
            if a < mpmath.mpf(10) ** -20:
                return mpmath.mpf(a) / 12
            a = mpmath.mpf(a)
            return mpmath.coth(a / 2) / 2 - 1 / a

    @staticmethod
    def stirling_rest(y: Any) -> Any:
        with mpmath.workdps(100):
            y = mpmath.mpf(y)
            leading = (y - mpmath.mpf(1) / 2) * mpmath.log(y) - y
            return mpmath.loggamma(y) - leading - mpmath.log(2 * mpmath.pi) / 2

    @staticmethod
    def digamma_rest(y: Any) -> Any:
        with mpmath.workdps(100):
            return mpmath.digamma(y) - mpmath.log(y) + 1 / (2 * mpmath.mpf(y))


class Tensors:
    """float64 tensors."""

    log_2pi, log_2 = float(LOG_2PI), float(mpmath.log(2))
    exp, log, log1p, expm1, sqrt = torch.exp, torch.log, torch.log1p, torch.expm1, torch.sqrt
    abs, sign, where = torch.abs, torch.sign, torch.where

    @staticmethod
    def half_expm1_minus_x(d: Any) -> Any:
        near = d.abs() < 1e-3  # enough for a magnitude
        return torch.where(near, d * d / 4 * (1 + d / 3), (torch.expm1(d) - d) / 2)

    @staticmethod
    def log1p_minus_x(x: Any, one_plus_x: Any) -> Any:
        return torch.where(x.abs() < 1e-3, -x * x / 2 * (1 - x / 1.5), torch.log(one_plus_x) - x)

    @staticmethod
    def log_sinhc(a: Any) -> Any:
        far = a / 2 + torch.log(-torch.expm1(-a) / a)
        return torch.where(a < 1e-3, a * a / 24, far)

    @staticmethod
    def log_sinhc_slope(a: Any) -> Any:
        return torch.where(a < 1e-3, a / 12, 0.5 / torch.tanh(a / 2) - 1 / a)

    @staticmethod
    def stirling_rest(y: Any) -> Any:
        far = torch.lgamma(y) - (y - 0.5) * torch.log(y) + y - float(LOG_2PI) / 2
        return torch.where(y > 1e3, 1 / (12 * y), far)

    @staticmethod
    def digamma_rest(y: Any) -> Any:
        far = torch.digamma(y) - torch.log(y) + 1 / (2 * y)
        return torch.where(y > 1e3, -1 / (12 * y * y), far)
