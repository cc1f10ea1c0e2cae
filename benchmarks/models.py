"""Whole training steps of an importance-weighted autoencoder and of a VAE of texts.

    python -m benchmarks.models --out out/models.json

Beside ours what people write, and that compiled; "none" is a step in which sampling and loss cost
next to nothing, so that their share is what is left out there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vae_ext

from . import report
from .harness import NoLoss, Step

LOG_2PI = math.log(2 * math.pi)
SAMPLES = 50  # of the importance-weighted bound
WORDS, LENGTH = 10_000, 30


@dataclass(frozen=True)
class Loss:
    """sample(mu, logvar) is z and what the loss wants of the draw; loss(logits, target, drawn)."""

    sample: Callable[[Tensor, Tensor], tuple[Tensor, object]]
    loss: Callable[[Tensor, Tensor, object], Tensor]

    def compiled(self) -> Loss:
        return Loss(torch.compile(self.sample), torch.compile(self.loss))


# ---- The importance-weighted bound ---------------------------------------------------------------


def usual_samples(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """z and log p(z) − log q(z|x)."""
    eps = torch.randn(SAMPLES, *mu.shape, device=mu.device)
    z = mu + eps * torch.exp(0.5 * logvar)
    log_q = -0.5 * (LOG_2PI + logvar + eps.pow(2)).sum(-1)
    return z, -0.5 * (LOG_2PI + z.pow(2)).sum(-1) - log_q


def usual_bound(logits: Tensor, x: Tensor, ratio: object) -> Tensor:
    assert isinstance(ratio, Tensor)
    target = x.expand_as(logits)
    log_p = -F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
    return math.log(SAMPLES) - torch.logsumexp(log_p + ratio, 0).mean()


def our_samples(mu: Tensor, logvar: Tensor) -> tuple[Tensor, vae_ext.estimators.Samples]:
    samples = vae_ext.estimators.draw(mu, logvar, SAMPLES)
    return samples.z, samples


def our_bound(logits: Tensor, x: Tensor, samples: object) -> Tensor:
    assert isinstance(samples, vae_ext.estimators.Samples)
    log_p = vae_ext.bernoulli_log_likelihood(logits, x.expand_as(logits), event_dims=1)
    return -vae_ext.estimators.iwae(log_p, samples).mean()


class DenseVAE(nn.Module):
    """Of 784 pixels, as in the paper: two hidden layers of 200, a latent of 50."""

    def __init__(self) -> None:
        super().__init__()
        hidden = (nn.Linear(200, 200), nn.Tanh())
        self.encoder = nn.Sequential(
            nn.Linear(784, 200), nn.Tanh(), *hidden, nn.Linear(200, 2 * 50)
        )
        self.decoder = nn.Sequential(
            nn.Linear(50, 200), nn.Tanh(), *copy.deepcopy(hidden), nn.Linear(200, 784)
        )

    def forward(self, x: Tensor, loss: Loss) -> Tensor:
        z, drawn = loss.sample(*self.encoder(x).chunk(2, 1))
        return loss.loss(self.decoder(z), x, drawn)


# ---- Texts with padding --------------------------------------------------------------------------


def usual_sample(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
    return z, -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(mu)


def usual_words(logits: Tensor, words: Tensor, kl: object) -> Tensor:
    """Padding is word 0."""
    entropy = F.cross_entropy(
        logits.flatten(0, 1), words.flatten(), ignore_index=0, reduction="sum"
    )
    return entropy / len(words) + kl  # type: ignore[operator]


def our_sample(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return vae_ext.reparameterize_with_kl(mu, logvar, reduction="batchmean")


def our_words(logits: Tensor, words: Tensor, kl: object) -> Tensor:
    log_p = vae_ext.categorical_log_likelihood(
        logits, words, dim=-1, weights=words > 0, reduction="batchmean"
    )
    return kl - log_p  # type: ignore[operator]


class TextVAE(nn.Module):
    """A GRU on either side, teacher forced, with 10,000 words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 128)
        self.encoder = nn.GRU(128, 256, batch_first=True)
        self.moments = nn.Linear(256, 2 * 32)
        self.start = nn.Linear(32, 256)
        self.decoder = nn.GRU(128, 256, batch_first=True)
        self.logits = nn.Linear(256, WORDS)

    def forward(self, words: Tensor, loss: Loss) -> Tensor:
        embedded = self.embedding(words)
        _, state = self.encoder(embedded)
        z, kl = loss.sample(*self.moments(state[0]).chunk(2, 1))
        out, _ = self.decoder(F.pad(embedded[:, :-1], (0, 0, 1, 0)), self.start(z)[None])
        return loss.loss(self.logits(out), words, kl)


# ---- Steps ---------------------------------------------------------------------------------------


def no_samples(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    value: Tensor = NoLoss.apply(mu, logvar)
    return mu.expand(SAMPLES, *mu.shape), value.sum()


def no_sample(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    value: Tensor = NoLoss.apply(mu, logvar)
    return mu, value.sum()


def no_loss(logits: Tensor, _: Tensor, kl: object) -> Tensor:
    value: Tensor = NoLoss.apply(logits)
    return value.sum() + kl  # type: ignore[operator]


def steps(model: nn.Module, data: Tensor, usual: Loss, ours: Loss, none: Loss) -> dict[str, Step]:
    def of(loss: Loss) -> Step:
        own = copy.deepcopy(model)
        optimizer = torch.optim.Adam(own.parameters())

        def step() -> None:
            optimizer.zero_grad()
            own(data, loss).backward()
            optimizer.step()

        return step

    every = {"eager": usual, "compile": usual.compiled(), "vae_ext": ours, "none": none}
    return {name: of(loss) for name, loss in every.items()}


def importance_weighted() -> dict[str, Step]:
    usual, ours = Loss(usual_samples, usual_bound), Loss(our_samples, our_bound)
    return steps(DenseVAE(), torch.rand(64, 784), usual, ours, Loss(no_samples, no_loss))


def texts() -> dict[str, Step]:
    words = torch.randint(1, WORDS, (16, LENGTH))
    words[torch.arange(LENGTH) >= torch.randint(LENGTH // 2, LENGTH + 1, (16, 1))] = 0
    usual, ours = Loss(usual_sample, usual_words), Loss(our_sample, our_words)
    return steps(TextVAE(), words, usual, ours, Loss(no_sample, no_loss))


def main() -> None:
    print("milliseconds | " + report.BESIDE)
    report.run(
        report.parse(__doc__),
        {
            f"IWAE of {SAMPLES} samples, a training step of 64": importance_weighted,
            f"texts of {LENGTH} of {WORDS:,} words, a training step of 16": texts,
        },
        report.beside,
    )


if __name__ == "__main__":
    main()
