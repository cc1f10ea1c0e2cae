"""Where a call's noise comes from: the seed op that torch's generators govern."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks as checks
from .. import _sample_checks as sample_checks
from .._region import Region, places
from . import library
from .dispatch import (
    DIRECT,
    REFERENCE,
    for_other_runtimes,
    is_dynamo_compiling,
    jit_tracing_state,
    tracing,
    transforming,
    within,
)

CALLS = itertools.count()


def call_number() -> int:
    return next(CALLS)


# What torch.compiler.assume_constant_result sets, which would import the compiler: the number is
# asked for when a program is traced, and is a constant in it.
call_number._dynamo_marked_constant = True  # type: ignore[attr-defined]


def new_seed_tensor(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """A 0-dimensional int64 tensor of 63 random bits, on `device`, with no synchronization."""
    return torch.empty((), dtype=torch.int64, device=device).random_(generator=generator)


def new_seed_for_vmap(device: torch.device) -> Tensor:
    """The same, not in place: vmap has its say on randomness, and may want one for each example."""
    return torch.randint(2**63 - 1, (), dtype=torch.int64, device=device)


# Opaque to compilers and tagged as random: compiled programs draw the seeds that eager ones do.
# `call` is a number that no other call has: where there is a backward pass torch's compiler makes
# one of two calls that are equal, whatever they are tagged as. Where it computes a checkpointed
# region again it looks for `device` among the keywords.
def register() -> None:
    torch.library.define(
        "vae_ext::new_seed",
        "(int call, *, Device device) -> Tensor",
        tags=(torch.Tag.nondeterministic_seeded,),
    )

    @torch.library.impl("vae_ext::new_seed", "CompositeExplicitAutograd")
    def _(call: int, *, device: torch.device) -> Tensor:
        return new_seed_tensor(device)

    @torch.library.register_fake("vae_ext::new_seed")
    def _(call: int, *, device: torch.device) -> Tensor:
        return torch.empty((), dtype=torch.int64, device=device)


if not hasattr(torch.ops.vae_ext, "new_seed"):
    register()


def new_seed(mu: Tensor, route: int) -> tuple[Tensor | None, int]:
    """A seed from torch's generator of mu's device: a tensor, or a number where that is None."""
    if route == DIRECT:
        return (None, library.new_cpu_seed()) if mu.is_cpu else (new_seed_tensor(mu.device), 0)
    if transforming():
        return (new_seed_for_vmap if within("Vmap") else new_seed_tensor)(mu.device), 0
    if jit_tracing_state() is not None:
        return new_seed_tensor(mu.device), 0  # torch.jit would fold an op of ours into a constant
    # Whoever traces must see an op, not a number that would become a constant.
    if tracing():
        return torch.ops.vae_ext.new_seed(call_number(), device=mu.device), 0
    return new_seed_tensor(mu.device), 0


class Drawing(NamedTuple):
    """What the functions that sample are asked for: see :func:`vae_ext.reparameterize`."""

    n_samples: int | None = None
    seed: int | Tensor | None = None
    generator: torch.Generator | None = None
    noise: Tensor | None = None
    stream: int = 0
    region: Region | None = None

    def arguments(self, mu: Tensor, way: int) -> tuple[tuple[Tensor | None, ...], tuple[Any, ...]]:
        """As the ops take them: tensors noise and seed; seed_value, stream, places, n_samples."""
        samples = sample_checks.n_samples(self.n_samples)
        found, value = resolve_seed(mu, way, samples, self.seed, self.generator, self.noise)
        stream = sample_checks.word64("stream", self.stream)
        if self.noise is not None and self.region is not None:
            raise ValueError("noise and region were given, expected at most one of them")
        of_stream = places(self.region, mu.shape, samples)
        if of_stream and jit_tracing_state() is not None:
            of_stream = [int(n) for n in of_stream]  # sizes are tensors there, and become constants
        return (self.noise, found), (value, stream, of_stream, samples)


NO_NOISE = ((None, None), (0, 0, None, 0))  # the same for who only wants a KL


def drawn_again() -> bool:
    """Within an activation checkpoint, whose backward pass calls what the forward pass called."""
    if is_dynamo_compiling():
        return False
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint":
        return True
    return torch._C._current_graph_task_id() != -1  # in a backward pass


def resolve_seed(
    mu: Tensor,
    way: int,
    n_samples: int,
    seed: int | Tensor | None,
    generator: torch.Generator | None,
    noise: Tensor | None,
) -> tuple[Tensor | None, int | None]:
    """The seed as the ops take it: a tensor, or a number where that is None; for a runtime without
    our ops neither."""
    if noise is None and seed is None and generator is None:
        if way == REFERENCE and for_other_runtimes():
            return None, None
        return new_seed(mu, way)
    sources = {"noise": noise, "seed": seed, "generator": generator}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} were given, expected at most one of them")
    if noise is not None:
        sample_checks.noise(noise, (n_samples, *mu.shape) if n_samples else mu.shape)
        checks.same_device("mu", mu, "noise", noise)
        return None, 0
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator was a {type(generator).__name__}, expected a torch.Generator"
            )
        if generator.device.type != mu.device.type:
            raise ValueError(
                f"generator was on {generator.device}, expected the device of mu, {mu.device}"
            )
        if drawn_again():
            raise ValueError(
                "generator was given within torch.utils.checkpoint, which draws again where it "
                "computes again, and restores no generators but torch's own: expected seed=, or "
                "neither"
            )
        return new_seed_tensor(mu.device, generator), 0
    if isinstance(seed, Tensor):
        sample_checks.seed_tensor(seed, mu.device)
        return seed, 0
    return None, sample_checks.word64("seed", seed)  # not None: one of the three is given
