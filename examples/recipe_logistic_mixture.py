"""The loss of PixelCNN++, NVAE and VDVAE, before and after: thirty lines become elbo_loss."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from recipes import compare
from torch import Tensor, nn

import vae_ext

MIXTURES = 5


def discretized_mix_logistic_loss(x: Tensor, parameters: Tensor) -> Tensor:
    """Of one channel, as it is usually written."""
    logits, means, log_scales = parameters.chunk(3, 1)
    log_scales = log_scales.clamp(min=-7.0)
    centered, inverse = x - means, torch.exp(-log_scales)
    plus, minus = inverse * (centered + 1 / 255), inverse * (centered - 1 / 255)
    log_plus, log_one_minus_minus = plus - F.softplus(plus), -F.softplus(minus)
    delta, middle = torch.sigmoid(plus) - torch.sigmoid(minus), inverse * centered
    log_density = middle - log_scales - 2 * F.softplus(middle) - math.log(127.5)
    # In float32 from 1e-5 on, where the difference has no digits left: the density is not the bin.
    inner = torch.where(delta > 1e-9, torch.log(delta.clamp(min=1e-12)), log_density)
    log_probs = torch.where(x > 0.999, log_one_minus_minus, inner)
    log_probs = torch.where(x < -0.999, log_plus, log_probs)
    return -torch.logsumexp(log_probs + F.log_softmax(logits, 1), 1).sum()


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 20))
        self.decoder = nn.Sequential(nn.Linear(10, 200), nn.ReLU(), nn.Linear(200, 192 * MIXTURES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z).view(-1, 3 * MIXTURES, 8, 8), mu, logvar

    def loss(self, x: Tensor) -> Tensor:
        x = x.double()  # for the comparison: in float32 the usual gradients have two digits
        parameters, mu, logvar = self(x)
        pixels = (255 * x).round().view(-1, 1, 8, 8)
        reconstruction = discretized_mix_logistic_loss(pixels / 127.5 - 1, parameters)
        return reconstruction - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


class After(Before):
    def loss(self, x: Tensor) -> Tensor:
        x = x.double()
        parameters, mu, logvar = self(x)
        pixels = (255 * x).round().view(-1, 1, 8, 8).byte()
        return vae_ext.elbo_loss(
            *(parameters, pixels, mu, logvar),
            likelihood="discretized_logistic_mixture",
            reduction="sum",
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    compare("logistic mixture, nats per batch", Before().double(), After().double(), 1e-6)
