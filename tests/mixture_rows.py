"""The rows of mixtures of Gaussians, as densities and as priors, for the table in rows.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import vae_ext
from tests.row import D, Row, module_row, normal, two
from vae_ext import objectives as o

MIXTURE = "mixture_log_density"


def prior() -> nn.Module:
    with torch.random.fork_rng(()):
        torch.manual_seed(2)
        return vae_ext.nn.MixturePrior(4, D)


class Model(nn.Module):
    """An encoder and a prior of what it makes of pseudo-inputs."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(()):
            torch.manual_seed(3)
            self.encoder = nn.Linear(5, 2 * D)
            self.prior = vae_ext.nn.VampPrior(
                self.encode, torch.rand(4, 5), bounds=(0, 1), learned_weights=True
            )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, 1)
        return mu, logvar

    def forward(self, z: Tensor) -> Tensor:
        return log_prob(self.prior, z)


def log_prob(module: nn.Module, z: Tensor) -> Tensor:
    found: Tensor = module(z)
    return found


MIXTURE_ROWS = [
    Row(
        MIXTURE,
        [MIXTURE],
        vae_ext.mixture_log_density,
        lambda b: normal((b, D), (5, D), (5, D), (5,)),
    ),
    Row(
        f"{MIXTURE}, samples, equal weights, one variance",
        [MIXTURE],
        lambda z, m, v: vae_ext.mixture_log_density(z, m, v),
        lambda b: normal((2, b, 2, D), (20, 2, D), (1,)),
    ),
    module_row("MixturePrior", prior, log_prob, lambda b: normal((b, D))),
    module_row("VampPrior", Model, log_prob, lambda b: normal((b, D)), covers=["nn.VampPrior"]),
    Row(
        "kl_parts",
        ["objectives.kl_parts", "objectives.KLParts"],
        lambda z, m, v: torch.stack(list(o.kl_parts(z, m, v, n_data=100))).square().sum(0),
        lambda b: normal((b + 1, D), (b + 1, D), (b + 1, D)),  # two at least
    ),
    Row(
        "beta_tcvae",
        ["objectives.beta_tcvae"],
        lambda m, v: o.beta_tcvae(m + 0.1, m, v, beta=4, n_data=100, estimator="weighted"),
        two,
    ),
]
