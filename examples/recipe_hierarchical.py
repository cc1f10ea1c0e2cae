"""A hierarchical VAE with a learned prior, in NVAE's manner, before and after.

The second group's prior comes from the first group's sample, as slices of a wider tensor; log σ is
kept within ±5 by 5 tanh(x / 5), which is ±10 on the log-variance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recipes import compare
from torch import Tensor, nn
from torch.distributions import kl_divergence

import vae_ext
from vae_ext.distributions import DiagonalGaussian

Z1, Z2, WIDTH = 4, 12, 128


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(64, WIDTH), nn.SiLU())
        self.q1 = nn.Linear(WIDTH, 2 * Z1)
        self.top_down = nn.Sequential(
            nn.Linear(Z1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 2 * Z2 + WIDTH)
        )
        self.q2 = nn.Linear(2 * WIDTH, 2 * Z2)
        self.decoder = nn.Sequential(nn.Linear(Z2 + WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 64))

    def group(self, q: Tensor, prior: Tensor | None) -> tuple[Tensor, Tensor]:
        """A sample, and the KL of each image; q and prior hold mu and log σ."""
        mu, sigma = self.parameters_of(q)
        p_mu, p_sigma = (0.0, torch.ones(())) if prior is None else self.parameters_of(prior)
        z = mu + sigma * torch.randn_like(mu)
        term1 = (mu - p_mu) / p_sigma
        term2 = sigma / p_sigma
        kl = 0.5 * (term1 * term1 + term2 * term2) - 0.5 - torch.log(term2)
        return z, kl.sum(1)

    def parameters_of(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_sigma = packed.chunk(2, dim=1)
        return mu, torch.exp(5 * torch.tanh(log_sigma / 5))

    def reconstruction(self, logits: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)

    def loss(self, x: Tensor) -> Tensor:
        h = self.features(x)
        z1, kl1 = self.group(self.q1(h), None)
        prior, context = self.top_down(z1).split([2 * Z2, WIDTH], dim=1)
        z2, kl2 = self.group(self.q2(torch.cat([h, context], 1)), prior)
        recon = self.reconstruction(self.decoder(torch.cat([z2, context], 1)), x)
        return (recon + kl1 + kl2).mean()


class After(Before):
    def gaussian(self, packed: Tensor) -> DiagonalGaussian:
        mu, log_sigma = packed.chunk(2, dim=1)
        return DiagonalGaussian(mu, log_std=log_sigma, bounds=(-10, 10), soft=True)

    def group(self, q: Tensor, prior: Tensor | None) -> tuple[Tensor, Tensor]:
        posterior = self.gaussian(q)
        # `noise` only for the comparison: without it the kernel draws its own.
        noise = torch.randn_like(posterior.mean)
        if prior is None:
            return posterior.rsample_with_kl(noise=noise)
        return posterior.rsample(noise=noise), kl_divergence(posterior, self.gaussian(prior))

    def reconstruction(self, logits: Tensor, x: Tensor) -> Tensor:
        return -vae_ext.bernoulli_log_likelihood(logits, x)


if __name__ == "__main__":
    torch.manual_seed(0)
    compare("hierarchical VAE, nats per image", Before(), After())
