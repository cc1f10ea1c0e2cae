"""What the three programs share: processes, images, and the comparison with one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

Step = Callable[[int], Tensor]  # one step of training: the loss before it


@contextmanager
def processes() -> Iterator[tuple[int, int]]:
    """This process's rank and how many there are, as torchrun says; one without it."""
    if "RANK" not in os.environ:
        os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def part(n: int) -> tuple[int, int]:
    """Which of n rows this rank has, first and last + 1. They need not divide evenly."""
    world, rank = dist.get_world_size(), dist.get_rank()
    size, more = divmod(n, world)
    first = rank * size + min(rank, more)
    return first, first + size + (rank < more)


def total(t: Tensor) -> Tensor:
    """The sum over the ranks."""
    t = t.detach().clone()
    dist.all_reduce(t)
    return t


def update(
    loss: Tensor, optimizer: torch.optim.Optimizer, parts: Iterable[nn.Parameter] = ()
) -> None:
    """A step of the optimizer; of `parts` each rank has a part of the gradient."""
    optimizer.zero_grad()
    loss.backward()
    for parameter in parts:
        dist.all_reduce(parameter.grad)
    optimizer.step()


def joined(rows: Tensor) -> Tensor:
    """All ranks' rows, in order."""
    parts: list[Tensor] = [torch.empty(0)] * dist.get_world_size()
    dist.all_gather_object(parts, rows.detach())
    return torch.cat(parts)


def images(*shape: int) -> Tensor:
    """Blobs of light, between 0 and 1: [batch, channels, height, width]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(*shape[:2], 3, 3, generator=generator)
    return torch.nn.functional.interpolate(coarse, shape[2:], mode="bicubic").mul(4).sigmoid()


def compare(name: str, many: Step, one: Step, steps: int, limit: float) -> float:
    """Both trained side by side; the largest relative difference of their losses."""
    rank, world = dist.get_rank(), dist.get_world_size()
    worst = 0.0
    if rank == 0:
        print(
            f"{name}\n{'step':>6} {f'{world} process(es)':>18} {'one process':>18} {'apart by':>10}"
        )
    for step in range(steps):
        a, b = many(step).item(), one(step).item()
        apart = abs(a - b) / abs(b)
        worst = max(worst, apart)
        if rank == 0 and (step % max(steps // 5, 1) == 0 or step == steps - 1):
            print(f"{step:>6} {a:>18.10f} {b:>18.10f} {apart:>10.1e}")
    if worst > limit:
        raise SystemExit(f"the losses were apart by {worst:.1e}, expected at most {limit:.0e}")
    return worst
