"""The estimators under any prior: against PyTorch written out, and the evidence under a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import grad
from torch.distributions import Normal

import vae_ext
from tests.linear_gaussian import Encoder, Model, N, encoder, near_posterior, spread
from vae_ext import estimators as e


@pytest.fixture
def pair() -> tuple[Model, Encoder]:
    return Model(), encoder()


class Mixture:
    """A prior with parameters: Gaussians of variance 1, weighed."""

    def __init__(self) -> None:
        self.means = torch.tensor([[1.0, -0.5], [-1.5, 0.3]], dtype=torch.float64).requires_grad_()
        self.logits = torch.tensor([0.3, -0.4], dtype=torch.float64).requires_grad_()
        self.parameters = (self.means, self.logits)

    def log_prob(self, z: Tensor) -> Tensor:
        each = Normal(self.means, 1.0).log_prob(z.unsqueeze(-2)).sum(-1)
        return torch.logsumexp(each + self.logits.log_softmax(0), -1)

    def evidence(self, model: Model) -> Tensor:
        covariance = model.w @ model.w.T + model.log_s2.exp() * torch.eye(len(model.x))
        law = torch.distributions.MultivariateNormal(
            self.means @ model.w.T + model.b, covariance.expand(2, -1, -1)
        )
        return torch.logsumexp(law.log_prob(model.x) + self.logits.log_softmax(0), 0)


ESTIMATES: list[tuple[str, Callable[..., Tensor]]] = [
    ("reparameterized", e.sgvb_a),
    ("sticking-the-landing", e.sgvb_a),
    ("score", e.score_function),
    ("reparameterized", e.iwae),
    ("sticking-the-landing", e.iwae),
    ("sticking-the-landing", e.doubly_reparameterized_iwae),
]


@pytest.mark.parametrize(("gradient", "estimate"), ESTIMATES)
def test_the_usual_prior_given(
    pair: tuple[Model, Encoder], gradient: str, estimate: Callable[..., Tensor]
) -> None:
    """N(0, I) by a function of z is N(0, I): value and gradients."""
    model, q = pair
    found = []
    for how in ({}, {"log_prior": model.log_prior}):
        mu, logvar = spread(q, 3)
        s = e.draw(mu, logvar, 4, gradient=gradient, seed=2)
        value = estimate(model.log_likelihood(s.z), s, **how)
        found.append((value, *grad(value.sum(), (mu, logvar, *model.theta))))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("gradient", "estimate"), ESTIMATES)
def test_another_prior(
    pair: tuple[Model, Encoder], gradient: str, estimate: Callable[..., Tensor]
) -> None:
    """Values, and gradients by the prior's parameters and by φ, as they are written out."""
    (model, q), prior = pair, Mixture()
    mu, logvar = spread(q, 3)
    s = e.draw(mu, logvar, 4, gradient=gradient, seed=2)
    value = estimate(model.log_likelihood(s.z), s, log_prior=prior.log_prob)
    got = grad(value.sum(), (mu, logvar, *prior.parameters))

    sigma = torch.exp(0.5 * logvar)
    z = mu + sigma * vae_ext.standard_normal((4, *mu.shape), seed=2, dtype=torch.float64)
    fixed = (mu.detach(), sigma.detach())
    law = Normal(mu, sigma) if gradient == "reparameterized" else Normal(*fixed)
    log_q = law.log_prob(z).sum(-1)
    if gradient == "score":
        log_q = Normal(mu, sigma).log_prob(z.detach()).sum(-1)
        z = z.detach()
    w = model.log_likelihood(z) + prior.log_prob(z) - log_q
    mean = w.mean(0) if estimate in (e.sgvb_a, e.score_function) else w.logsumexp(0) - math.log(4)
    torch.testing.assert_close(value, mean)
    by_prior = grad(mean.sum(), prior.parameters, retain_graph=True)
    if estimate is e.score_function:
        signal = w.detach()
        signal = (signal - signal.mean(0)) * (4 / 3)
        by_phi = grad((signal * log_q).mean(0).sum(), (mu, logvar))
    elif estimate is e.doubly_reparameterized_iwae:
        by_phi = grad((w.detach().softmax(0) ** 2 * w).sum(), (mu, logvar))
    else:
        by_phi = grad(mean.sum(), (mu, logvar))
    for a, b in zip(got, (*by_phi, *by_prior), strict=True):
        torch.testing.assert_close(a, b)


def test_the_evidence_under_another_prior(pair: tuple[Model, Encoder]) -> None:
    model, prior = pair[0], Mixture()
    mu, logvar = (t.expand(3, N) for t in near_posterior(model, 1.5).phi)
    got = e.log_evidence(
        model.log_likelihood, mu, logvar, 40_000, chunk=5000, seed=1, log_prior=prior.log_prob
    )
    exact = prior.evidence(model).detach()
    assert abs(exact - model.evidence().detach()) > 0.1
    torch.testing.assert_close(got, exact.expand(3), atol=0.03, rtol=0)
