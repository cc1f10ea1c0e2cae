"""Fit the float32 polynomials of csrc/math/elementary.h and print them with their errors, and
those that CUDA has beside the hardware's functions.

Each is the interpolant through Chebyshev nodes, computed with 40 digits and then rounded to
float32; its relative error (against the function that the caller needs) is printed beside it.

    python tools/fit_polynomials.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def fit(f: Callable[[Any], Any], low: float, high: float, degree: int) -> list[float]:
    """Coefficients (constant first) of the interpolant of f on [low, high], as float32."""
    n = degree + 1
    middle, half = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2
    nodes = [middle + half * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    vandermonde = mp.matrix(n, n)
    for i, x in enumerate(nodes):
        for j in range(n):
            vandermonde[i, j] = x**j
    solution = mp.lu_solve(vandermonde, mp.matrix([f(x) for x in nodes]))
    return [float(np.float32(float(c))) for c in solution]


def report(
    name: str,
    coefficients: list[float],
    whole: Callable[[Any, Any], Any],
    exact: Callable[[Any], Any],
    low: float,
    high: float,
) -> None:
    worst = mp.mpf(0)
    for x in np.linspace(low, high, 2001):
        x = mp.mpf(float(x))
        p = mp.polyval([mp.mpf(c) for c in reversed(coefficients)], x)
        value = exact(x)
        if value != 0:
            worst = max(worst, abs(whole(x, p) / value - 1))
    print(f"// {name}, relative error {float(worst):.1e}")
    print("  " + ", ".join(float.hex(c) + "f" for c in coefficients))


def main() -> None:
    # exp(r) = 1 + r + r^2 p(r), |r| <= ln2 / 2.
    edge = float(mp.log(2) / 2) * 1.0001

    def exp_series(r: Any) -> Any:
        if abs(r) < mp.mpf(10) ** -8:
            return mp.mpf(1) / 2 + r / 6
        return (mp.expm1(r) - r) / r**2

    c = fit(exp_series, -edge, edge, 4)
    report("exp", c, lambda r, p: 1 + r + r * r * p, mp.exp, -edge, edge)

    # exp(r) - 1 - r = r^2 p(r), to its own last place.
    c = fit(exp_series, -edge, edge, 5)
    whole: Callable[[Any], Any] = lambda r: r * r * exp_series(r)  # noqa: E731
    report("exp(r) - 1 - r", c, lambda r, p: r * r * p, whole, -edge, edge)

    # (exp(d) - 1 - d) / 2 = d^2 p(d), |d| <= 1.25.
    def half_series(d: Any) -> Any:
        if abs(d) < mp.mpf(10) ** -8:
            return mp.mpf(1) / 4 + d / 12
        return (mp.expm1(d) - d) / 2 / d**2

    c = fit(half_series, -1.25, 1.25, 8)
    report(
        "half_expm1_minus_x",
        c,
        lambda d, p: d * d * p,
        lambda d: d * d * half_series(d),
        -1.25,
        1.25,
    )

    # log(1 + f) = f - f^2/2 + f^3 p(f), sqrt(1/2) <= 1 + f <= sqrt(2).
    low, high = float(mp.sqrt(0.5)) - 1.0001, float(mp.sqrt(2)) - 0.9999

    def log_series(f: Any) -> Any:
        if abs(f) < mp.mpf(10) ** -8:
            return mp.mpf(1) / 3 - f / 4
        return (mp.log1p(f) - f + f * f / 2) / f**3

    c = fit(log_series, low, high, 7)
    report("log1p", c, lambda f, p: f - f * f / 2 + f**3 * p, mp.log1p, low, high)

    # log(1 + e) = 2 atanh(w) = 2 w (1 + z p(z)), w = e / (2 + e), z = w^2 <= 1/9. (The code has
    # 2 w for w, and divides coefficient k by 4^(k + 1).)
    def atanh_series(z: Any) -> Any:
        w = mp.sqrt(z)
        return (mp.atanh(w) / w - 1) / z if z > mp.mpf(10) ** -16 else mp.mpf(1) / 3

    c = fit(atanh_series, 0, 1 / 9, 4)
    report(
        "atanh(sqrt(z)) / sqrt(z)",
        c,
        lambda z, p: 1 + z * p,
        lambda z: mp.atanh(mp.sqrt(z)) / mp.sqrt(z) if z else mp.mpf(1),
        0,
        1 / 9,
    )

    # sin(pi/4 x) = x (pi/4 + x^2 p(x^2)), cos(pi/4 x) = 1 + x^2 q(x^2), |x| <= 1.
    quarter = mp.pi / 4

    def sine(z: Any) -> Any:
        x = mp.sqrt(z)
        return (mp.sin(quarter * x) / x - quarter) / z if z else -(quarter**3) / 6

    c = fit(sine, 0, 1, 3)
    report(
        "sin(pi/4 sqrt(z)) / sqrt(z)",
        c,
        lambda z, p: quarter + z * p,
        lambda z: mp.sin(quarter * mp.sqrt(z)) / mp.sqrt(z) if z else quarter,
        0,
        1,
    )

    def cosine(z: Any) -> Any:
        return (mp.cos(quarter * mp.sqrt(z)) - 1) / z if z else -(quarter**2) / 2

    c = fit(cosine, 0, 1, 3)
    report(
        "cos(pi/4 sqrt(z))",
        c,
        lambda z, p: 1 + z * p,
        lambda z: mp.cos(quarter * mp.sqrt(z)),
        0,
        1,
    )
    print("pi/4 high, low:", float.hex(float(np.float32(float(quarter)))), end=" ")
    print(float.hex(float(quarter - float(np.float32(float(quarter))))))
    ln2_high = float(np.float32(0.693359375))
    print("ln2 high, low:", float.hex(ln2_high), float.hex(float(mp.log(2) - ln2_high)))


def beside_hardware() -> None:
    # -2 log(1 + x) = x (-2 + x p(x)), -1/32 <= x < 0.
    def near_one(x: Any) -> Any:
        return (-2 * mp.log1p(x) / x + 2) / x if x else mp.mpf(1)

    c = fit(near_one, -1 / 32, 0, 1)
    whole: Callable[[Any], Any] = lambda x: -2 * mp.log1p(x)  # noqa: E731
    report("-2 log(1 + x)", c, lambda x, p: x * (-2 + x * p), whole, -1 / 32, 0)

    # sin(pi/2 y) = y p(y^2), cos(pi/2 y) = 1 + y^2 q(y^2), |y| <= 1.
    half = mp.pi / 2
    c = fit(lambda z: mp.sin(half * mp.sqrt(z)) / mp.sqrt(z) if z else half, 0, 1, 4)
    report(
        "sin(pi/2 y)",
        c,
        lambda z, p: mp.sqrt(z) * p,
        lambda z: mp.sin(half * mp.sqrt(z)),
        0,
        1,
    )
    c = fit(lambda z: (mp.cos(half * mp.sqrt(z)) - 1) / z if z else -(half**2) / 2, 0, 1, 4)
    # The largest error there is absolute: cos has a zero.
    report(
        "1 + cos(pi/2 y)",
        c,
        lambda z, p: 2 + z * p,
        lambda z: 1 + mp.cos(half * mp.sqrt(z)),
        0,
        1,
    )


if __name__ == "__main__":
    main()
    beside_hardware()
