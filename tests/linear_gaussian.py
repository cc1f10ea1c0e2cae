"""A model whose evidence and posterior are known: z ~ N(0, I), x|z ~ N(W z + b, s² I).

E_q is taken by Gauss–Hermite quadrature, which is exact for the polynomials that the logarithms of
Gaussian densities are; so equations hold to the rounding of float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import vae_ext
from tests import devices

D, N = 5, 2  # of x and of z


class Model:
    def __init__(self, seed: int = 0) -> None:
        g = devices.generator().manual_seed(seed)
        self.w = torch.randn(D, N, dtype=torch.float64, generator=g).requires_grad_()
        self.b = torch.randn(D, dtype=torch.float64, generator=g).requires_grad_()
        self.log_s2 = torch.tensor(-0.4, dtype=torch.float64).requires_grad_()
        self.x = torch.randn(D, dtype=torch.float64, generator=g)

    @property
    def theta(self) -> tuple[Tensor, ...]:
        return self.w, self.b, self.log_s2

    # ---- Densities at z [..., N], by the library ----

    def log_likelihood(self, z: Tensor) -> Tensor:
        """log p(x|z)"""
        mean = z @ self.w.T + self.b
        return vae_ext.gaussian_log_likelihood(
            mean, self.x.expand_as(mean), self.log_s2, event_dims=1
        )

    def log_prior(self, z: Tensor) -> Tensor:
        return vae_ext.gaussian_log_likelihood(torch.zeros_like(z), z, 0.0, event_dims=1)

    def log_joint(self, z: Tensor) -> Tensor:
        return self.log_likelihood(z) + self.log_prior(z)

    # ---- What is known exactly, by torch.distributions ----

    def evidence(self) -> Tensor:
        covariance = self.w @ self.w.T + self.log_s2.exp() * torch.eye(D, dtype=torch.float64)
        p = torch.distributions.MultivariateNormal(self.b, covariance)
        return p.log_prob(self.x)  # type: ignore[no-any-return]

    def posterior(self) -> torch.distributions.MultivariateNormal:
        precision = torch.eye(N, dtype=torch.float64) + self.w.T @ self.w / self.log_s2.exp()
        covariance = torch.linalg.inv(precision)
        mean = covariance @ self.w.T @ (self.x - self.b) / self.log_s2.exp()
        return torch.distributions.MultivariateNormal(mean, (covariance + covariance.T) / 2)


class Encoder:
    """q(z|x) = N(mu, diag(exp(logvar)))"""

    def __init__(self, mu: Tensor, logvar: Tensor) -> None:
        self.mu, self.logvar = mu, logvar

    @property
    def phi(self) -> tuple[Tensor, Tensor]:
        return self.mu, self.logvar

    def log_prob(self, z: Tensor) -> Tensor:
        return vae_ext.gaussian_log_likelihood(self.mu.expand_as(z), z, self.logvar, event_dims=1)

    def nodes(self, order: int = 6) -> tuple[Tensor, Tensor]:
        """Points ε [K, N] and weights [K] of N(0, I)."""
        x, w = np.polynomial.hermite_e.hermegauss(order)
        grid = np.stack(np.meshgrid(*[x] * N, indexing="ij"), -1).reshape(-1, N)
        weights = np.stack(np.meshgrid(*[w / math.sqrt(2 * math.pi)] * N, indexing="ij"), -1)
        return torch.tensor(grid), torch.tensor(weights.reshape(-1, N).prod(1))

    def sample_at(self, eps: Tensor) -> Tensor:
        """z = mu + σ ε, by the library."""
        mu, logvar = (t.expand_as(eps) for t in self.phi)
        return vae_ext.reparameterize(mu, logvar, noise=eps)

    def expectation(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """E_q[f(z)], differentiable in phi through z (reparameterized)."""
        eps, weights = self.nodes()
        return weights @ f(self.sample_at(eps))

    def integral(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """∫ f(z) q(z|x) dz at points that do not move with phi: differentiable through q alone."""
        eps, weights = self.nodes()
        z = self.sample_at(eps).detach()
        log_q = self.log_prob(z)
        return weights @ (f(z) * torch.exp(log_q - log_q.detach()))


def encoder(seed: int = 1) -> Encoder:
    g = devices.generator().manual_seed(seed)
    mu, logvar = (torch.randn(N, dtype=torch.float64, generator=g) for _ in range(2))
    return Encoder(mu.requires_grad_(), logvar.requires_grad_())


def near_posterior(model: Model, scale: float = 1.2) -> Encoder:
    """A diagonal q somewhat wider than the posterior."""
    p = model.posterior()
    variance = p.covariance_matrix.diagonal().detach() * scale**2
    return Encoder(p.loc.detach().requires_grad_(), variance.log().requires_grad_())


def spread(q: Encoder, repeats: int) -> tuple[Tensor, Tensor]:
    """q, many times over, as leaves: one independent estimate of each."""
    mu, logvar = (t.detach().expand(repeats, N).clone().requires_grad_() for t in q.phi)
    return mu, logvar
