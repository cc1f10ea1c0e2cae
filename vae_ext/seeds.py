"""Where a call's noise comes from: the seed op that torch's generators govern."""

from __future__ import annotations

import torch
from torch import Tensor

# Opaque to compilers and tagged as random: compiled programs draw the seeds that eager ones do.
torch.library.define(
    "vae_ext::draw_seed", "(Device device) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,)
)


def draw(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """A 0-dimensional int64 tensor of 64 random bits, on `device`, with no synchronization."""
    return torch.randint(-(2**63), 2**63 - 1, (), device=device, generator=generator)


@torch.library.impl("vae_ext::draw_seed", "CompositeExplicitAutograd")
def _(device: torch.device) -> Tensor:
    return draw(device)


@torch.library.register_fake("vae_ext::draw_seed")
def _(device: torch.device) -> Tensor:
    return torch.empty((), dtype=torch.int64, device=device)


def draw_seed(device: torch.device, generator: torch.Generator | None) -> Tensor:
    if generator is None and torch.compiler.is_compiling():
        seed: Tensor = torch.ops.vae_ext.draw_seed(device)
        return seed
    return draw(device, generator)
