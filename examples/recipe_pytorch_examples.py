"""The VAE of pytorch/examples, before and after: a decoder that returns logits, and two lines."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recipes import compare
from torch import Tensor, nn

import vae_ext


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 64)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def loss(self, x: Tensor) -> Tensor:
        mu, logvar = self.encode(x)
        recon = self.decode(self.reparameterize(mu, logvar))
        bce = F.binary_cross_entropy(recon, x, reduction="sum")
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return bce + kld


class After(Before):
    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        # `noise` only for the comparison: without it the kernel draws its own.
        return vae_ext.reparameterize(mu, logvar, noise=torch.randn_like(mu))

    def decode(self, z: Tensor) -> Tensor:
        logits: Tensor = self.fc4(F.relu(self.fc3(z)))  # probabilities: torch.sigmoid of them
        return logits

    def loss(self, x: Tensor) -> Tensor:
        mu, logvar = self.encode(x)
        recon = self.decode(self.reparameterize(mu, logvar))
        return vae_ext.elbo_loss(recon, x, mu, logvar, reduction="sum")


if __name__ == "__main__":
    torch.manual_seed(0)
    compare("pytorch/examples, nats per batch", Before(), After())
