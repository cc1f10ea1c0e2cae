"""The same loss twice: with vae_ext, and as it is usually written. Both take the noise by name."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

import vae_ext


class Parts(NamedTuple):
    reconstruction: Tensor  # log p(x|z), nats, mean over the batch
    kl: Tensor  # KL(q(z|x) ‖ N(0, I)), nats, mean over the batch


class Loss(Protocol):
    def __call__(
        self,
        decode: Callable[[Tensor], Tensor],
        x: Tensor,
        mu: Tensor,
        logvar: Tensor,
        likelihood: str,
        seed: int,
        step: int,
    ) -> Parts: ...


def ours(
    decode: Callable[[Tensor], Tensor],
    x: Tensor,
    mu: Tensor,
    logvar: Tensor,
    likelihood: str,
    seed: int,
    step: int,
) -> Parts:
    z, kl = vae_ext.reparameterize_with_kl(
        mu, logvar, seed=seed, stream=step, reduction="batchmean"
    )
    if likelihood == "bernoulli":
        ll = vae_ext.bernoulli_log_likelihood(decode(z), x, reduction="batchmean")
    else:
        ll = vae_ext.gaussian_log_likelihood(decode(z), x, OBS_LOGVAR, reduction="batchmean")
    return Parts(ll, kl)


def plain(
    decode: Callable[[Tensor], Tensor],
    x: Tensor,
    mu: Tensor,
    logvar: Tensor,
    likelihood: str,
    seed: int,
    step: int,
) -> Parts:
    eps = vae_ext.standard_normal(
        *mu.shape, seed=seed, stream=step, dtype=mu.dtype, device=mu.device
    )
    z = mu + torch.exp(0.5 * logvar) * eps
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    recon = decode(z)
    if likelihood == "bernoulli":
        ll = -F.binary_cross_entropy_with_logits(recon, x, reduction="none").sum(1).mean()
    else:
        square = (x - recon).pow(2) * math.exp(-OBS_LOGVAR)
        ll = -0.5 * (square + OBS_LOGVAR + math.log(2 * math.pi)).sum(1).mean()
    return Parts(ll, kl)


OBS_LOGVAR = -3.0  # log-variance of a pixel under the Gaussian likelihood


def loss_times(
    batch: int, latent: int, pixels: int, likelihood: str, dtype: torch.dtype, device: torch.device
) -> dict[str, float]:
    """Milliseconds of the loss part alone, forward and backward: medians of interleaved runs.

    The decoder is replaced by its output, a leaf, so that only the loss is timed.
    """

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype, device=device, requires_grad=True)

    mu, logvar, recon = leaf(batch, latent), leaf(batch, latent), leaf(batch, pixels)
    x = torch.rand(batch, pixels, device=device).to(dtype)
    grad_z = torch.randn(batch, latent, device=device).to(dtype)
    leaves = (mu, logvar, recon)
    contenders: dict[str, Loss] = {"vae_ext": ours, "plain": plain}
    times: dict[str, list[float]] = {name: [] for name in contenders}

    def step(loss: Loss, index: int) -> None:
        decoded: list[Tensor] = []

        def decode(z: Tensor) -> Tensor:
            decoded.append(z)
            return recon

        parts = loss(decode, x, mu, logvar, likelihood, 0, index)
        # What comes back from the decoder stands in for its gradient.
        torch.autograd.grad((parts.kl - parts.reconstruction, decoded[0]), leaves, (None, grad_z))
        if device.type == "cuda":
            torch.cuda.synchronize()

    inner = max(1, 20_000 // (batch * max(latent, pixels) // 64 + 1))  # long enough to time
    for repeat in range(25):
        for name, loss in contenders.items():
            start = time.perf_counter()
            for index in range(inner):
                step(loss, index)
            if repeat >= 3:  # the first warm up
                times[name].append((time.perf_counter() - start) / inner * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}
