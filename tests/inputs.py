"""What the errors are measured on: ordinary draws, sweeps, cancellations and special values."""

from __future__ import annotations

import itertools
import math

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

    def binary(self) -> Tensor:
        return (self.uniform() < 0.5).double()


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


def special(arguments: int, targets: bool) -> list[Tensor]:
    """Every combination of the special values, for four arguments of fewer; with `targets` the
    second argument is a probability."""
    values = [FEW if arguments > 3 else SPECIAL] * arguments
    if targets:
        values[1] = TARGETS
    table = torch.tensor(list(itertools.product(*values)), dtype=torch.float64)
    return list(table.unbind(1))
