"""What the errors are measured on: ordinary draws, sweeps, cancellations and special values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SPECIAL = [0.0, 1e-45, 1e-40, 1.0, 88.8, 104.0, 1e4, float(np.finfo(np.float32).max), math.inf]
SPECIAL = [sign * x for x in SPECIAL for sign in (1, -1)] + [math.nan]
FEW = [0.0, -0.0, 1e-40, -1.0, 88.8, -104.0, -1e4, 3e38, math.inf, -math.inf, math.nan]
TARGETS = [0.0, 1e-45, 1e-3, 0.5, 1.0]

Sets = dict[str, list[Tensor]]  # in float64, by name; they are then rounded to the dtype under test


class Draw:
    def __init__(self, n: int, seed: int = 0) -> None:
        self.n = n
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float = 0, high: float = 1) -> Tensor:
        u = torch.rand(self.n, dtype=torch.float64, generator=self.generator)
        return low + (high - low) * u

    def normal(self, scale: float = 1) -> Tensor:
        return scale * torch.randn(self.n, dtype=torch.float64, generator=self.generator)

    def log_uniform(self, low: float, high: float) -> Tensor:
        """Of either sign, every order of magnitude as often."""
        size = torch.exp(self.uniform(math.log(low), math.log(high)))
        return torch.where(self.uniform() < 0.5, -size, size)

    def positive(self, low: float, high: float) -> Tensor:
        return torch.exp(self.uniform(math.log(low), math.log(high)))

    def gamma(self, shape: Tensor) -> Tensor:
        return torch._standard_gamma(shape, generator=self.generator)

    def binary(self) -> Tensor:
        return (self.uniform() < 0.5).double()


def count_sets(d: Draw, more: int = 0) -> Sets:
    """A mean, a count of that law, a dispersion, and so many logits."""

    def of(mean: Tensor, theta: Tensor, largest: float) -> list[Tensor]:
        counts = torch.poisson(mean * d.gamma(theta) / theta, generator=d.generator)
        logits = [d.normal(4) for _ in range(more)]
        return [mean, counts.clamp(max=largest), theta, *logits]

    wide = d.positive(1e-4, 1e5), d.positive(1e-3, 1e6)
    mean = d.positive(0.5, 3e4)
    return {
        "ordinary": of(d.positive(0.01, 300), d.positive(0.05, 1e3), 6e4),
        "wide": of(*wide, 1e5),
        "far from the mean": [
            d.positive(1e-4, 6e4),
            d.positive(1, 6e4).floor(),
            d.positive(1e-3, 6e4),
            *(d.normal(10) for _ in range(more)),
        ],
        "at the mean": [
            mean,
            mean.round(),
            d.positive(1e-3, 6e4),
            *(d.normal() for _ in range(more)),
        ],
    }


def kl_sets(d: Draw) -> Sets:
    near = [d.log_uniform(1e-12, 0.1), d.log_uniform(1e-12, 0.1)]
    return {
        "ordinary": [d.normal(), d.normal()],
        "sweep": [d.log_uniform(1e-45, 1e6), d.log_uniform(1e-30, 88)],
        "near 0": near,
        "mu = 0": [torch.zeros(d.n, dtype=torch.float64), d.log_uniform(1e-12, 10)],
    }


def kl_prior_sets(d: Draw) -> Sets:
    mu, logvar = d.normal(), d.normal(3)
    near = [mu + d.log_uniform(1e-9, 0.1), logvar + d.log_uniform(1e-9, 0.1)]
    sweep = [d.log_uniform(1e-30, 1e3), d.normal(10), d.log_uniform(1e-30, 1e3), d.normal(10)]
    return {
        "ordinary": [d.normal() for _ in range(4)],
        "sweep": sweep,
        "near the prior": [mu, logvar, *near],
    }


def likelihood_sets(d: Draw) -> Sets:
    """Of a location, a target and the logarithm of a scale."""
    mean = d.normal()
    return {
        "ordinary": [d.normal(), d.normal(), d.normal()],
        "sweep": [d.log_uniform(1e-30, 1e3), d.log_uniform(1e-30, 1e3), d.normal(12)],
        "near the mean": [mean, mean + d.log_uniform(1e-9, 0.1), d.log_uniform(1e-30, 20)],
    }


def sampling_sets(d: Draw) -> Sets:
    return {
        "ordinary": [d.normal(), d.normal(), d.normal()],
        "sweep": [d.log_uniform(1e-45, 1e6), d.log_uniform(1e-30, 60), d.normal()],
    }


POSITIVE = [0.0, 1e-30, 1e-3, 1.0, 30.0, 1e4]
OF_COUNTS = {
    "target": [0.0, 1.0, 2.0, 100.0, 1e5],
    "dispersion": [1e-3, 0.5, 1.0, 1e3, 1e6],
    "logits": [-100.0, -20.0, 0.0, 3.0, 100.0],
}


def special_counts(arguments: Sequence[str]) -> list[Tensor]:
    values = [OF_COUNTS.get(name.split("_")[-1], POSITIVE) for name in arguments]
    table = torch.tensor(list(itertools.product(*values)), dtype=torch.float64)
    return list(table.unbind(1))


def special(arguments: int, targets: bool) -> list[Tensor]:
    """Every combination of the special values, for four arguments of fewer; with `targets` the
    second argument is a probability."""
    values = [FEW if arguments > 3 else SPECIAL] * arguments
    if targets:
        values[1] = TARGETS
    table = torch.tensor(list(itertools.product(*values)), dtype=torch.float64)
    return list(table.unbind(1))
