"""What is compared: each op, forward and backward, as usually written and with vae_ext."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

import vae_ext

Function = Callable[..., tuple[Tensor, ...]]


def eager_sample_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    std = torch.exp(0.5 * logvar)
    z = mu + std * torch.randn_like(std)
    return z, -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)


def eager_bernoulli(logits: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return (-F.binary_cross_entropy_with_logits(logits, target),)


def eager_gaussian(mean: Tensor, target: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    ll = -0.5 * (math.log(2 * math.pi) + logvar + (target - mean).pow(2) * torch.exp(-logvar))
    return (ll.mean(),)


def ours_bernoulli(logits: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return (vae_ext.bernoulli_log_likelihood(logits, target, reduction="mean"),)


def ours_gaussian(mean: Tensor, target: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    return (vae_ext.gaussian_log_likelihood(mean, target, logvar, reduction="mean"),)


# The usual code, ours, and which inputs need gradients.
OPS: dict[str, tuple[Function, Function, tuple[bool, ...]]] = {
    "sample_kl": (eager_sample_kl, vae_ext.reparameterize_with_kl, (True, True)),
    "bernoulli": (eager_bernoulli, ours_bernoulli, (True, False)),
    "gaussian": (eager_gaussian, ours_gaussian, (True, False, True)),
}


def steps(
    op: str, shape: tuple[int, int], dtype: torch.dtype, compiled: bool
) -> dict[str, Callable[[], object]]:
    """Forward and backward of each contender on the same inputs."""
    eager, ours, needs_grad = OPS[op]
    inputs = [
        (torch.rand(shape) if op == "bernoulli" and i == 1 else torch.randn(shape))
        .to(dtype)
        .requires_grad_(needed)
        for i, needed in enumerate(needs_grad)
    ]
    leaves = [t for t in inputs if t.requires_grad]
    grads = [torch.randn(o.shape).to(o.dtype) for o in eager(*inputs)]

    def step(function: Function) -> Callable[[], object]:
        def run() -> None:
            for leaf in leaves:
                leaf.grad = None
            outs = function(*inputs)
            torch.autograd.backward(outs, [g.to(o.dtype) for g, o in zip(grads, outs, strict=True)])

        return run

    found = {"eager": step(eager), "vae_ext": step(ours)}
    if compiled:
        torch._dynamo.reset()
        found["compile"] = step(torch.compile(eager, fullgraph=True, dynamic=False))
    return found
