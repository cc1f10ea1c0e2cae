"""Pixels as 256 classes, before and after: cross-entropy and a KL become elbo_loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recipes import compare
from torch import Tensor, nn

import vae_ext


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 20))
        self.decoder = nn.Sequential(nn.Linear(10, 50), nn.ReLU(), nn.Linear(50, 256 * 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z).view(-1, 256, 64), mu, logvar

    def loss(self, x: Tensor) -> Tensor:
        x = x.double()  # for the comparison: training amplifies what rounding differs by
        logits, mu, logvar = self(x)
        pixels = (255 * x).round().long()
        reconstruction = F.cross_entropy(logits, pixels, reduction="sum")
        return reconstruction - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


class After(Before):
    def loss(self, x: Tensor) -> Tensor:
        x = x.double()
        logits, mu, logvar = self(x)
        pixels = (255 * x).round().byte()  # no int64 is needed
        return vae_ext.elbo_loss(
            logits, pixels, mu, logvar, likelihood="categorical", reduction="sum"
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    compare("256 classes, nats per batch", Before().double(), After().double(), 1e-6)
