"""Where a call's noise comes from: the seed op that torch's generators govern."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from . import native
from .dispatch import DIRECT, tracing, transforming, within

CALLS = itertools.count()


def call_number() -> int:
    return next(CALLS)


# What torch.compiler.assume_constant_result sets, which would import the compiler: the number is
# asked for when a program is traced, and is a constant in it.
call_number._dynamo_marked_constant = True  # type: ignore[attr-defined]


def draw(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """A 0-dimensional int64 tensor of 63 random bits, on `device`, with no synchronization."""
    return torch.empty((), dtype=torch.int64, device=device).random_(generator=generator)


def draw_for_vmap(device: torch.device) -> Tensor:
    """The same, not in place: vmap has its say on randomness, and may want one for each example."""
    return torch.randint(2**63 - 1, (), dtype=torch.int64, device=device)


# Opaque to compilers and tagged as random: compiled programs draw the seeds that eager ones do.
# `call` is a number that no other call has: where there is a backward pass torch's compiler makes
# one of two calls that are equal, whatever they are tagged as. Where it computes a checkpointed
# region again it looks for `device` among the keywords.
def register() -> None:
    torch.library.define(
        "vae_ext::draw_seed",
        "(int call, *, Device device) -> Tensor",
        tags=(torch.Tag.nondeterministic_seeded,),
    )

    @torch.library.impl("vae_ext::draw_seed", "CompositeExplicitAutograd")
    def _(call: int, *, device: torch.device) -> Tensor:
        return draw(device)

    @torch.library.register_fake("vae_ext::draw_seed")
    def _(call: int, *, device: torch.device) -> Tensor:
        return torch.empty((), dtype=torch.int64, device=device)


if not hasattr(torch.ops.vae_ext, "draw_seed"):
    register()


def draw_seed(mu: Tensor, route: int) -> tuple[Tensor | None, int]:
    """A seed from torch's generator of mu's device: a tensor, or a number where that is None."""
    if route == DIRECT:
        return (None, native.draw_cpu_seed()) if mu.is_cpu else (draw(mu.device), 0)
    if transforming():
        return (draw_for_vmap if within("Vmap") else draw)(mu.device), 0
    if torch._C._get_tracing_state() is not None:
        return draw(mu.device), 0  # torch.jit would fold an op of ours into a constant
    # Whoever traces must see an op, not a number that would become a constant.
    if tracing():
        return torch.ops.vae_ext.draw_seed(call_number(), device=mu.device), 0
    return draw(mu.device), 0
