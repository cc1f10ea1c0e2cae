"""What the checks on several processes share: tensors in one placement, and how near is near."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Placement, Shard
from torch.distributed.tensor import distribute_tensor as distribute


def whole(t: Tensor) -> Tensor:
    return t.full_tensor() if isinstance(t, DTensor) else t


def normal(*shapes: Sequence[int], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tuple(s), generator=generator) for s in shapes]


def leaf(t: Tensor) -> Tensor:
    return t.detach().clone().requires_grad_()


def close(got: Tensor, want: Tensor, limit: float) -> None:
    """By the largest of the values."""
    got, want = whole(got).detach(), want.detach()
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if got.numel():
        scale = want.abs().max().clamp(min=1e-30)
        error = ((got - want).abs().max() / scale).item()
        assert error <= limit, error


def same(got: Tensor, want: Tensor) -> None:
    close(got, want, 0.0)


# Limits of sums in another order; of what is made of several; of gradients by importance weights.
REDUCED, ESTIMATE, IWAE = 3e-7, 1e-6, 2e-5


class Placed:
    """Tensors of one placement, and the results that the ordinary ones give."""

    def __init__(self, mesh: DeviceMesh, placements: Sequence[Placement]) -> None:
        self.mesh, self.placements = mesh, list(placements)

    def __call__(self, t: Tensor, lead: int = 0) -> Tensor:
        own = [Shard(p.dim + lead) if isinstance(p, Shard) else p for p in self.placements]
        return distribute(t, self.mesh, own).requires_grad_()

    def gradients(self, value: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(value.sum().full_tensor(), inputs)


def meshes(world: int) -> list[DeviceMesh]:
    flat = init_device_mesh("cpu", (world,))
    return [flat, init_device_mesh("cpu", (2, 2))] if world == 4 else [flat]
