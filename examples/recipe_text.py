"""A VAE of sequences with padding, before and after: cross-entropy of the words that are there.

The digits are read as texts of up to 64 words out of 17, of different lengths."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recipes import compare
from torch import Tensor, nn

import vae_ext

WORDS, LENGTH, PADDING = 17, 64, 0


def text_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Words, and a mask of those that are no padding."""
    words = (16 * x).round().long().view(-1, LENGTH)
    lengths = LENGTH // 2 + (words.sum(1) % (LENGTH // 2))
    there = torch.arange(LENGTH) < lengths[:, None]
    return words.masked_fill(~there, PADDING), there


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.encoder = nn.Sequential(nn.Linear(8 * LENGTH, 200), nn.ReLU(), nn.Linear(200, 20))
        self.decoder = nn.Sequential(nn.Linear(10, 200), nn.ReLU(), nn.Linear(200, LENGTH * WORDS))

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encoder(self.embedding(words).flatten(1)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z).view(-1, LENGTH, WORDS), mu, logvar

    def loss(self, x: Tensor) -> Tensor:
        words, there = text_of(x)
        logits, mu, logvar = self(words)
        target = words.masked_fill(~there, -100)  # which torch ignores
        reconstruction = F.cross_entropy(logits.transpose(1, 2), target, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return (reconstruction + kl) / len(x)


class After(Before):
    def loss(self, x: Tensor) -> Tensor:
        words, there = text_of(x)
        logits, mu, logvar = self(words)
        log_likelihood = vae_ext.categorical_log_likelihood(
            logits, words, dim=-1, weights=there, reduction="batchmean"
        )
        return vae_ext.gaussian_kl(mu, logvar, reduction="batchmean") - log_likelihood


if __name__ == "__main__":
    torch.manual_seed(0)
    compare("text with padding, nats", Before().double(), After().double(), 1e-6)
