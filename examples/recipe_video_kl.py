"""Open-Sora's KL of a video's latent, before and after: summed over [1, 3, 4], one for each frame.

The digits are read as videos of 4 frames."""

from __future__ import annotations

import torch
from recipes import compare
from torch import Tensor, nn

import vae_ext


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv3d(1, 8, 3, padding=1)
        self.decoder = nn.Conv3d(4, 1, 3, padding=1)

    def kl(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """[batch, frames]"""
        return 0.5 * torch.sum(mu.pow(2) + logvar.exp() - 1.0 - logvar, dim=[1, 3, 4])

    def loss(self, x: Tensor) -> Tensor:
        video = x.double().view(-1, 1, 4, 4, 4)  # [batch, channels, frames, height, width]
        mu, logvar = self.encoder(video).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        square = (self.decoder(z) - video).square().sum((1, 3, 4))
        loss: Tensor = (square + 0.1 * self.kl(mu, logvar)).mean()
        return loss


class After(Before):
    def kl(self, mu: Tensor, logvar: Tensor) -> Tensor:
        # Frames before channels: an event is a frame, and strides of any kind are read in place.
        return vae_ext.gaussian_kl(mu.transpose(1, 2), logvar.transpose(1, 2), event_dims=3)


if __name__ == "__main__":
    torch.manual_seed(0)
    compare("Open-Sora's KL, per frame", Before().double(), After().double(), 1e-6)
