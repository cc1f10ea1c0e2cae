"""Noise on many processes: that it is the same where it must be, or that it differs.

What is drawn on one rank depends on nothing but seed, stream and element (:class:`vae_ext.Region`
says which elements a rank has, and a DTensor knows), so that nothing is ever sent for it. Loaded on
demand: ``import vae_ext.distributed``.
"""

from __future__ import annotations

import hashlib

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from . import _checks as checks

__all__ = ["check_seeds", "rank_stream"]


def state_of(device: torch.device, generator: torch.Generator | None) -> Tensor:
    """A generator's state as one number, which is drawn from nobody."""
    if generator is not None:
        state = generator.get_state()
    elif device.type == "cpu":
        state = torch.get_rng_state()
    else:
        state = torch.get_device_module(device).get_rng_state()
    digest = hashlib.sha256(bytes(state.cpu().tolist())).digest()
    return torch.tensor(int.from_bytes(digest[:8], "little", signed=True), device=device)


def gathered(number: Tensor, group: ProcessGroup | None) -> Tensor:
    """A number from each rank of the group, in their order."""
    found = [torch.empty_like(number) for _ in range(dist.get_world_size(group))]
    dist.all_gather(found, number, group=group)
    return torch.stack(found)


def check_seeds(
    mesh: DeviceMesh | ProcessGroup | None = None, *, generator: torch.Generator | None = None
) -> None:
    """Raises on every rank if torch's generators are not in one state on all of them.

    DTensors, and replicas that must stay alike, take their seeds from them: where they differ no
    error is seen, and models drift apart. One number goes from each rank to each other; nothing is
    drawn.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011: what ranks have
    to agree on is a key, and nothing else.

    Args:
        mesh: whose ranks; a process group, or None for all there are, whose generator is that of
            the accelerator for NCCL and the like and the CPU's for gloo.
        generator: one of one's own, instead of torch's for the device of the mesh.

    Raises:
        RuntimeError: states that differ, with the ranks.
        TypeError: something else than a mesh or a group.
    """
    if isinstance(mesh, DeviceMesh):
        groups: list[ProcessGroup | None] = [mesh.get_group(d) for d in range(mesh.ndim)]
        ranks = mesh.mesh.flatten().tolist()
        kind = mesh.device_type
    elif mesh is None or isinstance(mesh, ProcessGroup):
        groups = [mesh]
        ranks = dist.get_process_group_ranks(mesh)
        accelerator = torch.accelerator.current_accelerator()
        by_cpu = accelerator is None or dist.get_backend(mesh) in ("gloo", "mpi")
        kind = "cpu" if by_cpu or accelerator is None else accelerator.type
    else:
        raise TypeError(f"mesh was a {type(mesh).__name__}, expected a DeviceMesh or ProcessGroup")
    device = torch.device(kind)
    states = state_of(device, generator)
    for group in reversed(groups):  # the last dimension first, so that ranks come in order
        states = gathered(states.contiguous(), group)
    first, *others = states.flatten().tolist()
    different = [rank for rank, state in zip(ranks[1:], others, strict=True) if state != first]
    if different:
        raise RuntimeError(
            f"the generators of ranks {different} were in other states than that of rank "
            f"{ranks[0]}, expected one state on all: give torch.manual_seed one number on each of "
            "them and draw as often; or pass seed=, and stream=rank_stream() for noise that differs"
        )


def rank_stream(step: int = 0, group: ProcessGroup | None = None) -> int:
    """A stream that no other rank has, nor another step: step · ranks + rank, for `stream=`.

    Under data parallelism with one seed on all ranks, each then draws noise of its own; with
    ``seed=run, stream=rank_stream(step)`` a run that is resumed needs no state of a generator.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Args:
        step: of the training, 0 or more.
        group: whose ranks are counted; None: all. Without torch.distributed there is one.

    Raises:
        TypeError, ValueError: a step that is no int, or negative.
    """
    step = checks.integer("step", step)
    if step < 0:
        raise ValueError(f"step was {step}, expected 0 or more")
    if not (dist.is_available() and dist.is_initialized()):
        return step
    return step * dist.get_world_size(group) + dist.get_rank(group)
