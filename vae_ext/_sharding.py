"""The ops on DTensors: each rank's part goes through the ordinary op, and the results are DTensors.

This happens between the checks of the arguments and the autograd Functions, by the public interface
of DTensor alone: a rule for the op itself (`register_sharding`) has the same arguments on every
rank, and so could give each shard neither its own noise nor a count that is everybody's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from ._checks import GRADIENTS, MEANS, REDUCTIONS
from ._formulas import ALL
from ._native.dispatch import REFERENCE, route, route_by_noise
from ._ops import run
from ._reference import KL, REDUCTION_NAMES, Z
from ._reference.numerics import divisor
from ._reference.ops import OPTION_NAMES
from ._weighting import with_weights

Maybe = Tensor | None
NONE, EVENT = REDUCTIONS["none"], REDUCTIONS["event"]
WITHOUT_NOISE_GRADIENT = ("latent", "sample_with_log_densities")
FORMULA = {f.op: f for f in ALL}
STICKING_THE_LANDING = GRADIENTS.index("sticking-the-landing")


def dim_of(placement: Placement) -> int | None:
    """The dimension that lies in shards, one rank's after another's; None where none does."""
    if isinstance(placement, Shard) and not isinstance(placement, _StridedShard):
        return placement.dim
    return None


def replicated(t: Tensor) -> Tensor:
    """With its sums over the ranks done, for what is not linear in them."""
    if not isinstance(t, DTensor) or not any(isinstance(p, Partial) for p in t.placements):
        return t
    done = [Replicate() if isinstance(p, Partial) else p for p in t.placements]
    return t.redistribute(t.device_mesh, done)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


class Work:
    """One placement for the tensors of a call, which broadcast to `shape`; `start` and `sizes` are
    the box of this rank.

    On each dimension of the mesh the first tensor decides that has a whole dimension in shards.
    """

    def __init__(self, tensors: Sequence[Maybe], shape: Sequence[int]) -> None:
        given = [t for t in tensors if isinstance(t, DTensor)]
        self.mesh, self.shape = given[0].device_mesh, shape
        for t in given:
            if t.device_mesh != self.mesh:
                raise ValueError(
                    f"a tensor was on {t.device_mesh}, expected the mesh of the first one, "
                    f"{self.mesh}"
                )
        self.placements = [self.placement(given, m) for m in range(self.mesh.ndim)]
        self.sizes, self.start = list(shape), [0] * len(shape)
        for m, p in enumerate(self.placements):
            if isinstance(p, Shard):  # in chunks as torch.chunk makes them, of what is left
                n = self.sizes[p.dim]
                size = -(-n // self.mesh.size(m))
                first = min(self.mesh.get_local_rank(m) * size, n)
                self.start[p.dim] += first
                self.sizes[p.dim] = min(size, n - first)

    def placement(self, tensors: Sequence[DTensor], mesh_dim: int) -> Placement:
        for t in tensors:
            own = dim_of(t.placements[mesh_dim])
            if own is not None:
                dim = own % t.ndim + len(self.shape) - t.ndim
                if dim >= 0 and t.shape[own] == self.shape[dim]:
                    return Shard(dim)
        return Replicate()

    def local(self, t: Maybe) -> Maybe:
        """This rank's part of a tensor that has the last dimensions of the work, or more before
        them. Of what is broadcast over shards each rank has a part of the gradient."""
        if t is None:
            return None
        if not isinstance(t, DTensor):  # one element, as the checks have seen to
            replicas = [Replicate()] * self.mesh.ndim
            t = DTensor.from_local(t, self.mesh, replicas, run_check=False)
        placements: list[Placement] = []
        gradients: list[Placement] = []
        for p in self.placements:
            own: Placement = Replicate()
            gradient: Placement = Replicate()
            if isinstance(p, Shard):
                dim = p.dim + t.ndim - len(self.shape)
                if dim >= 0 and t.shape[dim] == self.shape[p.dim]:
                    own = gradient = Shard(dim)
                else:
                    gradient = Partial("sum")
            placements.append(own)
            gradients.append(gradient)
        if placements != list(t.placements):
            t = t.redistribute(self.mesh, placements)
        found: Tensor = t.to_local(grad_placements=gradients)
        return found

    def whole(
        self, local: Tensor, kept: int, lead: Sequence[int] = (), like: Maybe = None
    ) -> Tensor:
        """A result as a DTensor: of the first `kept` dimensions of the work, over whose others it
        was summed, after those of `lead`; laid out as `like`, if that has its shape."""
        shape = (*lead, *self.shape[:kept])
        placements: list[Placement] = []
        for p in self.placements:
            if not isinstance(p, Shard):
                placements.append(Replicate())
            elif p.dim < kept:
                placements.append(Shard(p.dim + len(lead)))
            else:
                placements.append(Partial("sum"))
        if like is not None and tuple(like.shape) == shape:
            stride = like.stride()
        else:
            stride = contiguous(shape)
        return DTensor.from_local(
            local, self.mesh, placements, run_check=False, shape=torch.Size(shape), stride=stride
        )

    def places(self, of_whole: Sequence[int] | None, n_samples: int) -> Sequence[int] | None:
        """Where in the stream this rank's part of the noise is, as the ops take it."""
        if not any(isinstance(p, Shard) for p in self.placements):
            return of_whole
        lead = [n_samples] if n_samples else []
        shape, sizes, start = (
            [*lead, *self.shape],
            [*lead, *self.sizes],
            [*(0 for _ in lead), *self.start],
        )
        offset, strides = 0, list(contiguous(shape))
        if of_whole is not None:  # a box itself
            offset, strides = of_whole[0], list(of_whole[2::2])
        offset += sum(first * stride for first, stride in zip(start, strides, strict=True))
        return [offset, *(n for pair in zip(sizes, strides, strict=True) for n in pair)]

    def divide(self, named: dict[str, Any]) -> None:
        """Makes a mean one over what all ranks have."""
        name = REDUCTION_NAMES[named.get("reduction", NONE)]
        if name in MEANS and named["count"] is None:
            named["count"] = divisor(self.shape, named["event_dims"], name)

    def reduced(self, local: Tensor, named: dict[str, Any], like: Maybe) -> Tensor:
        """An op's terms, or their sums."""
        ndim, reduction = len(self.shape), named["reduction"]
        if reduction == NONE:
            return self.whole(local, ndim, like=like)
        return self.whole(local, ndim - named["event_dims"] if reduction == EVENT else 0)


def run_sharded(
    name: str,
    tensors: tuple[Maybe, ...],
    options: tuple[Any, ...],
    expected: float | None = None,
) -> Any:
    """An op as :func:`run` takes it, of DTensors."""
    if name == "mixture_log_density":
        return run_mixture(tensors)
    named = dict(zip(OPTION_NAMES[name], options, strict=True))
    if "n_samples" in named:
        return run_samples(name, tensors, named)
    work = Work(tensors, FORMULA[name].shape(tensors))
    work.divide(named)
    local = tuple(work.local(t) for t in tensors)
    found = run(route_of(local), name, local, tuple(named.values()), expected)
    return work.reduced(found, named, tensors[0])


def whole_events(t: Tensor, lead: int = 1) -> Tensor:
    """With shards of its first `lead` dimensions alone."""
    if not isinstance(t, DTensor):
        return t
    kept = [p if dim_of(p) in range(lead) else Replicate() for p in t.placements]
    return t.redistribute(t.device_mesh, kept) if kept != list(t.placements) else t


def everywhere(t: Tensor) -> Tensor:
    """The same on every rank."""
    return whole_events(t, 0)


def run_mixture(tensors: tuple[Maybe, ...]) -> tuple[DTensor, None]:
    """Each rank's events under all of the components."""
    z, means, logvars, log_weights = tensors
    assert z is not None
    assert log_weights is not None
    z = whole_events(z)
    assert isinstance(z, DTensor)
    mesh, by_row = z.device_mesh, list(z.placements)
    whole: list[Placement] = [Replicate() for _ in by_row]
    parts = [Partial("sum") if isinstance(p, Shard) else Replicate() for p in by_row]
    own_weights = log_weights.shape[0] != 1

    def local(t: Maybe, by_rows: bool = False) -> Tensor:
        assert t is not None
        if not isinstance(t, DTensor):  # the same on every rank
            t = DTensor.from_local(t, mesh, whole, run_check=False)
        there = t.redistribute(mesh, by_row if by_rows else whole)
        found: Tensor = there.to_local(grad_placements=by_row if by_rows else parts)
        return found

    mine = (local(z, True), local(means), local(logvars), local(log_weights, own_weights))
    value = run(route_of(mine), "mixture_log_density", mine, ())[0]
    shape = torch.Size(z.shape[:2])
    found = DTensor.from_local(
        value, mesh, by_row, run_check=False, shape=shape, stride=contiguous(shape)
    )
    return found, None


def route_of(local: Sequence[Maybe]) -> int:
    assert local[0] is not None
    return route(local[0])


def run_samples(name: str, tensors: tuple[Maybe, ...], named: dict[str, Any]) -> Any:
    mu, scale, noise, seed = tensors
    assert mu is not None
    work, n = Work((mu, scale), mu.shape), named["n_samples"]
    work.divide(named)
    if noise is None:
        named["places"] = work.places(named["places"], n)
    if isinstance(seed, DTensor):
        seed = seed.full_tensor()
    local = (work.local(mu), work.local(scale), work.local(noise), seed)
    way = route_of(local)
    if name in WITHOUT_NOISE_GRADIENT:
        way = route_by_noise(way, local[2])
    found = run(way, name, local, tuple(named.values()))
    ndim, lead = len(work.shape), (n,) if n else ()
    if name == "reparameterize":
        return work.whole(found, ndim, lead, mu)
    if name != "sample_with_log_densities":
        z, kl = found
        outputs = named.get("outputs", Z | KL)
        if outputs & Z:
            z = work.whole(z, ndim, lead, mu)
        return z, work.reduced(kl, named, mu) if outputs & KL else kl
    z, *densities = found
    weighted = named["gradient"] == STICKING_THE_LANDING
    if way == REFERENCE and weighted:
        z, densities[2] = with_weights(z, densities[0])
    kept = ndim - named["event_dims"]
    of_events = [
        work.whole(t, kept, lead) if t is not None and (i < 2 or weighted) else t
        for i, t in enumerate(densities)
    ]
    return work.whole(z, ndim, lead, mu), *of_events
