"""VITS' KL of a sample under a prior with a mask, before and after.

The digits are read as utterances of 8 frames, of different lengths, with 4 latents a frame."""

from __future__ import annotations

import math

import torch
from recipes import compare
from torch import Tensor, nn

import vae_ext


def kl_loss(z_p: Tensor, logs_q: Tensor, m_p: Tensor, logs_p: Tensor, z_mask: Tensor) -> Tensor:
    """As VITS has it."""
    kl = logs_p - logs_q - 0.5
    kl += 0.5 * ((z_p - m_p) ** 2) * torch.exp(-2.0 * logs_p)
    return torch.sum(kl * z_mask) / torch.sum(z_mask)


class Before(nn.Module):
    """Frames [batch, 8, 8] to latents [batch, 4, 8], by convolutions over time."""

    def __init__(self) -> None:
        super().__init__()
        self.posterior = nn.Conv1d(8, 8, 3, padding=1)
        self.prior = nn.Conv1d(1, 8, 3, padding=1)  # of the loudness of each frame
        self.decoder = nn.Conv1d(4, 8, 3, padding=1)

    def kl(self, z: Tensor, logs_q: Tensor, m_p: Tensor, logs_p: Tensor, mask: Tensor) -> Tensor:
        return kl_loss(z, logs_q, m_p, logs_p, mask)

    def loss(self, x: Tensor) -> Tensor:
        frames = x.double().view(-1, 8, 8)
        lengths = 4 + (frames.sum((1, 2)).round().long() % 5)
        mask = (torch.arange(8) < lengths[:, None]).double()[:, None]
        m_q, logs_q = (self.posterior(frames) * mask).chunk(2, 1)
        m_p, logs_p = (self.prior(frames.mean(1, keepdim=True)) * mask).chunk(2, 1)
        z = (m_q + torch.randn_like(m_q) * torch.exp(logs_q)) * mask
        square = ((self.decoder(z) - frames) * mask).square().sum() / mask.sum()
        loss: Tensor = square + self.kl(z, logs_q, m_p, logs_p, mask)
        return loss


class After(Before):
    def kl(self, z: Tensor, logs_q: Tensor, m_p: Tensor, logs_p: Tensor, mask: Tensor) -> Tensor:
        log_p = vae_ext.gaussian_log_likelihood(
            m_p, z, log_std=logs_p, weights=mask, reduction="sum"
        )
        # The entropy of q in closed form; VITS takes the mean over frames, not over latents.
        entropy = ((logs_q + 0.5 + 0.5 * math.log(2 * math.pi)) * mask).sum()
        return -(log_p + entropy) / mask.sum()


if __name__ == "__main__":
    torch.manual_seed(0)
    compare("VITS' KL, nats per frame", Before().double(), After().double(), 1e-6)
