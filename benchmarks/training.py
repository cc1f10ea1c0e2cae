"""What a user feels: whole training steps, with the usual loss, with ours, and with next to none.

The share of the loss is what a step loses when sampling, KL and likelihood are left out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import vae_ext

from .harness import NoLoss, interleave, summarize
from .memory import peak_bytes


@dataclass(frozen=True)
class Loss:
    """sample(mu, logvar), kl(mu, logvar, prior_mu, prior_logvar) and the two log-likelihoods; all
    but the sample are sums over everything."""

    sample: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    sample_prior: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    bernoulli: Callable[[Tensor, Tensor], Tensor]
    gaussian: Callable[[Tensor, Tensor, Tensor], Tensor]


def eager_noise(mu: Tensor, logvar: Tensor) -> Tensor:
    std = torch.exp(0.5 * logvar)
    return mu + std * torch.randn_like(std)


def eager_gaussian(mean: Tensor, x: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (math.log(2 * math.pi) + logvar + (x - mean).pow(2) * torch.exp(-logvar)).sum()


EAGER = Loss(
    lambda m, v: (eager_noise(m, v), -0.5 * torch.sum(1 + v - m.pow(2) - v.exp())),
    lambda m, v, pm, pv: (
        eager_noise(m, v),
        0.5 * torch.sum(pv - v - 1 + (v - pv).exp() + (m - pm).pow(2) * torch.exp(-pv)),
    ),
    lambda x, t: -F.binary_cross_entropy_with_logits(x, t, reduction="sum"),
    eager_gaussian,
)
OURS = Loss(
    lambda m, v: vae_ext.reparameterize_with_kl(m, v, reduction="sum"),
    lambda m, v, pm, pv: (
        vae_ext.reparameterize(m, v),
        vae_ext.gaussian_kl(m, v, pm, pv, reduction="sum"),
    ),
    lambda x, t: vae_ext.bernoulli_log_likelihood(x, t, reduction="sum"),
    lambda m, x, v: vae_ext.gaussian_log_likelihood(m, x, v, reduction="sum"),
)


def touch(*tensors: Tensor) -> Tensor:
    value: Tensor = NoLoss.apply(*tensors)
    return value.sum()


NONE = Loss(
    lambda m, v: (m, touch(m, v)),
    lambda m, v, pm, pv: (m, touch(m, v, pm, pv)),
    lambda x, _: touch(x),
    lambda m, _, v: touch(m, v),
)


class Dense(nn.Module):
    """That of the demo, for 28 x 28 images: Bernoulli pixels, 20 latents."""

    example = (128, 784)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def forward(self, x: Tensor, loss: Loss) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z, kl = loss.sample(mu, logvar)
        return (kl - loss.bernoulli(self.decoder(z), x)) / x.shape[0]


class Convolutional(nn.Module):
    """An autoencoder for latent diffusion in small: 4 x 32 x 32 latents of 3 x 128 x 128 images,
    one learned variance."""

    example = (4, 3, 128, 128)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 8, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(4, 32, 3, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1),
        )
        self.obs_logvar = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, loss: Loss) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z, kl = loss.sample(mu, logvar)
        return (1e-6 * kl - loss.gaussian(self.decoder(z), x, self.obs_logvar)) / x.shape[0]


class Hierarchical(nn.Module):
    """Two levels of latents, 32 x 64 x 64 of them with a learned prior, and a variance for each
    pixel."""

    example = (4, 3, 64, 64)

    def __init__(self) -> None:
        super().__init__()
        self.bottom_up = nn.Conv2d(3, 32, 3, padding=1)
        self.top = nn.Conv2d(32, 64, 3, stride=4, padding=1)
        self.prior = nn.ConvTranspose2d(32, 64, 4, stride=4)
        self.posterior = nn.Conv2d(32, 64, 1)
        self.decoder = nn.Conv2d(32, 6, 3, padding=1)

    def forward(self, x: Tensor, loss: Loss) -> Tensor:
        features = F.silu(self.bottom_up(x))
        top, kl_top = loss.sample(*self.top(features).chunk(2, dim=1))
        prior_mu, prior_logvar = self.prior(top).chunk(2, dim=1)
        mu, logvar = self.posterior(features).chunk(2, dim=1)
        z, kl = loss.sample_prior(mu, logvar, prior_mu, prior_logvar)
        mean, obs_logvar = self.decoder(z).chunk(2, dim=1)
        return (kl_top + kl - loss.gaussian(mean, x, obs_logvar)) / x.shape[0]


MODELS: dict[str, type[Dense | Convolutional | Hierarchical]] = {
    "dense": Dense,
    "convolutional": Convolutional,
    "hierarchical": Hierarchical,
}


def training_step(model: nn.Module, x: Tensor, loss: Loss) -> Callable[[], object]:
    model = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(x, loss).backward()
        optimizer.step()

    return step


def measure(device: torch.device, rounds: int, console: Console) -> list[dict[str, object]]:
    table = Table(title="training steps, float32", box=SIMPLE, title_justify="left")
    columns = ["model", "usual loss, ms", "vae_ext, ms", "no loss, ms", "share of the loss"]
    for column in (*columns, "usual / vae_ext", "peak MB, usual", "peak MB, vae_ext"):
        table.add_column(column, justify="right")
    results: list[dict[str, object]] = []
    for name, kind in MODELS.items():
        torch.manual_seed(0)
        model = kind().to(device)
        x = torch.rand(kind.example, device=device)
        losses = {"eager": EAGER, "vae_ext": OURS, "none": NONE}
        steps = {label: training_step(model, x, loss) for label, loss in losses.items()}
        samples = list(
            track(
                interleave(steps, rounds, device),
                f"training, {name}",
                total=rounds,
                console=console,
                transient=True,
            )
        )
        times = summarize(samples)
        peak = {label: peak_bytes(step, device) for label, step in steps.items()}
        eager, ours, none = (times[label].p50 for label in ("eager", "vae_ext", "none"))
        table.add_row(
            name,
            *[f"{times[n].p50:.2f} ({times[n].p20:.2f}–{times[n].p80:.2f})" for n in times],
            f"{100 * (eager - none) / eager:.0f} %",
            f"{eager / ours:.2f}",
            *[f"{peak[label] / 1e6:.1f}" for label in ("eager", "vae_ext")],
        )
        results.append(
            {
                "model": name,
                "device": device.type,
                "times": {label: vars(t) for label, t in times.items()},
                "peak_bytes": peak,
            }
        )
    console.print(table)
    return results
