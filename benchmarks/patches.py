"""What the patches of other packages gain, and where they gain nothing: for docs/integrations.md.

    python -m benchmarks.patches --out out/patches.json

Forward and backward, without the patch and with it, in turn. scvi-tools is in scvi_step.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders import autoencoder_kl
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from vae_ext.integrations import diffusers as ours
from vae_ext.integrations import torch_distributions

from . import report
from .harness import Step
from .table import patch_row

Steps = dict[str, Step]


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [t.detach().requires_grad_() for t in tensors]


def with_normals(step: Callable[[], object]) -> Steps:
    """By torch's formulas for Normal, and by the patch's."""

    def patched() -> None:
        with torch_distributions.patch():
            step()

    return {"usual": step, "patched": patched}


def normal_kl() -> Steps:
    m, s, p, q = leaves(
        *(torch.randn(256, 4096) for _ in range(2)), torch.randn(4096), torch.ones(4096)
    )

    def step() -> None:
        kl = kl_divergence(
            Normal(m, s.exp(), validate_args=False), Normal(p, q, validate_args=False)
        )
        torch.autograd.grad(kl.sum(1).mean(), [m, s, p, q])

    return with_normals(step)


def normal_log_prob() -> Steps:
    m, s = leaves(torch.randn(256, 4096), torch.randn(256, 4096))
    x = torch.randn(256, 4096)

    def step() -> None:
        log_p = Normal(m, s.exp(), validate_args=False).log_prob(x)
        torch.autograd.grad(log_p.sum(1).mean(), [m, s])

    return with_normals(step)


def small_vae() -> Steps:
    """A VAE of 784-400-20, its KL and its likelihood by torch.distributions."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
    decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters)
    x = torch.rand(128, 784)

    def step() -> None:
        m, v = encoder(x).chunk(2, 1)
        q = Normal(m, (0.5 * v).exp())
        log_p = Normal(decoder(q.rsample()), 0.5).log_prob(x)
        kl = kl_divergence(q, Normal(torch.zeros_like(m), torch.ones_like(m)))
        optimizer.zero_grad()
        (kl.sum() - log_p.sum()).div(len(x)).backward()
        optimizer.step()

    return with_normals(step)


CLASSES = {
    "usual": ours.Original,
    "patched": ours.DiagonalGaussianDistribution,
    "patched, fused noise": ours.FusedNoiseDistribution,
}


def packed_latent() -> Steps:
    (parameters,) = leaves(torch.randn(16, 32, 64, 64))

    def of(distribution: type) -> Step:
        def step() -> None:
            q = distribution(parameters)
            loss = q.sample().square().mean() + 1e-6 * q.kl().mean()
            torch.autograd.grad(loss, parameters)

        return step

    return {name: of(c) for name, c in CLASSES.items()}


def autoencoder() -> Steps:
    torch.manual_seed(0)
    model: Any = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        latent_channels=4,
    )
    optimizer = torch.optim.Adam(model.parameters())
    images = torch.rand(2, 3, 64, 64)

    def of(distribution: type) -> Step:
        def step() -> None:
            vars(autoencoder_kl)["DiagonalGaussianDistribution"] = distribution
            posterior = model.encode(images).latent_dist
            recon = model.decode(posterior.sample()).sample
            loss = (recon - images).square().mean() + 1e-6 * posterior.kl().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    return {name: of(c) for name, c in CLASSES.items()}


CASES: dict[str, Callable[[], Steps]] = {
    "`kl_divergence(Normal, Normal)`, 256 × 4096": normal_kl,
    "`Normal.log_prob`, 256 × 4096": normal_log_prob,
    "a training step of a VAE of 784-400-20 with `Normal`, 128 images": small_vae,
    "`DiagonalGaussianDistribution`: sample and KL, 16 × 32 × 64 × 64": packed_latent,
    "a training step of a small `AutoencoderKL`, 2 images of 64 × 64": autoencoder,
}


if __name__ == "__main__":
    report.run(report.parse(__doc__), CASES, patch_row)
