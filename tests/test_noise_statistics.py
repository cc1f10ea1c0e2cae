"""The short form of the statistical battery (tools/rng_battery.py has the long one): 2^24 normal
variates of each order in which they are used. Seeds are fixed, so a failure is a change."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special, stats

import vae_ext

N = 1 << 24
Array = np.ndarray


def draw(*size: int, seed: int, stream: int = 0) -> Array:
    return vae_ext.standard_normal(*size, seed=seed, stream=stream).numpy()


def one_stream() -> Array:
    return draw(N, seed=101)


def across_seeds() -> Array:
    """Element by element over consecutive seeds."""
    return np.stack([draw(N >> 12, seed=s) for s in range(1 << 12)]).T.reshape(-1)


def across_streams() -> Array:
    return np.stack([draw(N >> 12, seed=7, stream=s) for s in range(1 << 12)]).T.reshape(-1)


def across_samples() -> Array:
    """The samples of one latent element, one after the other."""
    return np.ascontiguousarray(draw(1 << 10, N >> 10, seed=55).T).reshape(-1)


def high_seeds() -> Array:
    """Seeds that differ in their high half, which is the other half of the key."""
    return np.concatenate([draw(N >> 6, seed=s << 40) for s in range(64)])


ORDERS = [one_stream, across_seeds, across_streams, across_samples, high_seeds]


@pytest.fixture(scope="module", params=ORDERS, ids=lambda f: f.__name__)
def variates(request: pytest.FixtureRequest) -> Array:
    function: Callable[[], Array] = request.param
    return function().astype(np.float64)


def test_distribution(variates: Array) -> None:
    """Kolmogorov–Smirnov and Anderson–Darling against N(0, 1)."""
    x = np.sort(variates)
    log_below, log_above = special.log_ndtr(x), special.log_ndtr(-x)
    cdf = np.exp(log_below)
    i = np.arange(N)
    distance = max(float((cdf - i / N).max()), float(((i + 1) / N - cdf).max()))
    assert stats.kstwobign.sf(distance * math.sqrt(N)) > 1e-3
    a2 = -N - float(((2 * i + 1) / N * (log_below + log_above[::-1])).sum())
    assert a2 < 6.0  # 0.1 % of samples exceed it (Marsaglia and Marsaglia, 2004)


def test_moments(variates: Array) -> None:
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        z = (float((variates**power).mean()) - mean) / math.sqrt(variance / N)
        assert abs(z) < 4, (power, z)


def test_tails(variates: Array) -> None:
    """As many beyond each bound as there should be, out to 5.5σ."""
    for bound in (3, 3.5, 4, 4.5, 5, 5.5):
        expected = 2 * N * stats.norm.sf(bound)
        count = int((np.abs(variates) > bound).sum())
        low, high = stats.poisson.ppf([1e-4, 1 - 1e-4], expected)
        assert low <= count <= high, (bound, count, expected)
    # 32-bit words reach 6.66 and no further.
    assert float(np.abs(variates).max()) <= math.sqrt(2 * math.log(2**33))


def test_correlations(variates: Array) -> None:
    """Of the values, and of their squares, at lags 1 to 64."""
    squares = (variates * variates - 1) / math.sqrt(2)
    for series in (variates, squares):
        for lag in range(1, 65):
            z = float(series[lag:] @ series[:-lag]) / math.sqrt(N)
            assert abs(z) < 4.5, (lag, z)


def test_neighbouring_calls() -> None:
    """No element of a call says anything of the same element under the next seed or stream."""
    x = np.stack([draw(1 << 20, seed=s, stream=t) for s in (0, 1, 2, -1) for t in (0, 1, 2)])
    correlation = x @ x.T / (1 << 20) - np.eye(len(x))
    assert float(np.abs(correlation).max()) * (1 << 10) < 5


def test_the_test_sees_a_bad_generator() -> None:
    """Uniform words from a counter, Box-Muller as ours: the correlations give it away."""
    counter = (np.arange(1 << 20, dtype=np.uint64) * 2654435761 % 2**32 + 0.5) / 2**32
    x = np.sqrt(-2 * np.log(counter[0::2])) * np.cos(2 * np.pi * counter[1::2])
    lagged = [abs(float(x[k:] @ x[:-k])) / math.sqrt(len(x)) for k in range(1, 65)]
    assert max(lagged) > 4.5
