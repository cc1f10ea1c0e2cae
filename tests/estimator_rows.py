"""The rows of the estimators, for the table in rows.py: under N(0, I), and under a prior with a
parameter."""

from __future__ import annotations

import math

from torch import Tensor

from tests.row import D, Row, normal, two
from vae_ext import estimators as e


def decoded(z: Tensor) -> Tensor:
    """A log-likelihood log p(x|z), one for each sample and event."""
    return -(z - 0.3).square().sum(-1)


class Prior:
    """A Gaussian with a mean of its own, in operations that every kind of tensor has: a law of
    ``torch.distributions`` makes plain tensors of its numbers, which DTensors do not mix with."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * ((z - self.mean).square() + math.log(2 * math.pi)).sum(-1)


def estimate_rows(estimate: str, gradient: str = "reparameterized") -> list[Row]:
    def function(mu: Tensor, logvar: Tensor, seed: int | None) -> Tensor:
        s = e.draw(mu, logvar, 4, gradient=gradient, seed=seed, event_dims=1)
        value: Tensor = getattr(e, estimate)(decoded(s.z), s)
        return value

    def under_a_prior(mu: Tensor, logvar: Tensor, mean: Tensor, seed: int | None) -> Tensor:
        s = e.draw(mu, logvar, 4, gradient=gradient, seed=seed, event_dims=1)
        log_prior = Prior(mean).log_prob
        value: Tensor = getattr(e, estimate)(decoded(s.z), s, log_prior=log_prior)
        return value

    name = f"{estimate}, {gradient}"
    covers = [f"estimators.{estimate}", "estimators.draw", "estimators.Samples"]
    return [
        Row(name, covers, function, two, samples=True),
        Row(f"{name}, prior", covers, under_a_prior, with_a_mean, samples=True),
    ]


def with_a_mean(b: int) -> list[Tensor]:
    return normal((b, D), (b, D), (D,))


ESTIMATOR_ROWS = [
    *estimate_rows("sgvb_a"),
    *estimate_rows("iwae"),
    *estimate_rows("iwae", "sticking-the-landing"),
    *estimate_rows("doubly_reparameterized_iwae", "sticking-the-landing"),
    *estimate_rows("score_function", "score"),
    Row(
        "sgvb_b",
        ["estimators.sgvb_b"],
        lambda ll, kl: e.sgvb_b(ll, kl),
        lambda b: normal((5, b), (b,)),
    ),
    Row(
        "log_evidence",
        ["estimators.log_evidence"],
        lambda m, v, seed: e.log_evidence(decoded, m, v, 6, chunk=4, seed=seed, event_dims=1),
        two,
        samples=True,
        fixed=(0, 1),
    ),
    Row(
        "log_evidence, prior",
        ["estimators.log_evidence"],
        lambda m, v, p, seed: e.log_evidence(
            decoded, m, v, 6, chunk=4, seed=seed, event_dims=1, log_prior=Prior(p).log_prob
        ),
        with_a_mean,
        samples=True,
        fixed=(0, 1, 2),
    ),
]
