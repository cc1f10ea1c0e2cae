"""Where a call's noise comes from: the seed op that torch's generators govern."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from . import native

# Opaque to compilers and tagged as random: compiled programs draw the seeds that eager ones do.
# `call` is a number that no other call has: where there is a backward pass torch's compiler makes
# one of two calls that are equal, whatever they are tagged as. Where it computes a checkpointed
# region again it looks for `device` among the keywords.
torch.library.define(
    "vae_ext::draw_seed",
    "(int call, *, Device device) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)
CALLS = itertools.count()


def call_number() -> int:
    return next(CALLS)


# What torch.compiler.assume_constant_result sets, which would import the compiler: the number is
# asked for when a program is traced, and is a constant in it.
call_number._dynamo_marked_constant = True  # type: ignore[attr-defined]


def draw(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """A 0-dimensional int64 tensor of 63 random bits, on `device`, with no synchronization."""
    return torch.empty((), dtype=torch.int64, device=device).random_(generator=generator)


@torch.library.impl("vae_ext::draw_seed", "CompositeExplicitAutograd")
def _(call: int, *, device: torch.device) -> Tensor:
    return draw(device)


@torch.library.register_fake("vae_ext::draw_seed")
def _(call: int, *, device: torch.device) -> Tensor:
    return torch.empty((), dtype=torch.int64, device=device)


def draw_seed(mu: Tensor) -> tuple[Tensor | None, int]:
    """A seed from torch's generator of mu's device: a tensor, or a number where that is None."""
    # Whoever traces must see an op, not a number that would become a constant.
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        return torch.ops.vae_ext.draw_seed(call_number(), device=mu.device), 0
    # vmap has its say on randomness: it must see torch's own op.
    if native.available and mu.is_cpu and not torch._C._are_functorch_transforms_active():
        return None, native.draw_cpu_seed()
    return draw(mu.device), 0
