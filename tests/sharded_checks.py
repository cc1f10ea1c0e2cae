"""What test_sharding.py runs on each rank: the public functions on DTensors against one process."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor import distribute_tensor as distribute
from torch.nn.utils.stateless import _reparametrize_module

import vae_ext
from tests.rows import ROWS, Row
from tests.sharded import REDUCED, Placed, close, leaf, meshes, normal, same, whole
from tests.sharded_comparisons import as_one_process
from vae_ext import estimators
from vae_ext.distributed import check_seeds, rank_stream

# ---- The table of all functions ------------------------------------------------------------------


def distributed_row(row: Row, mesh: DeviceMesh, dim: int) -> tuple[Tensor, list[Tensor]]:
    """Its value and gradients with all inputs that have that dimension in shards."""

    def place(t: Tensor) -> Tensor:
        if t.ndim == 0:
            return leaf(t) if t.requires_grad else t  # a plain scalar
        own = Shard(dim % t.ndim) if dim < 0 or t.shape[0] == 5 else Replicate()
        return distribute(t.detach(), mesh, [own]).requires_grad_(t.requires_grad)

    there = [place(t) for t in row.leaves(5)]
    context: Any = contextlib.nullcontext()
    if isinstance(row.module, nn.Module):
        tensors = [*row.module.named_parameters(), *row.module.named_buffers()]
        everywhere = {name: distribute(t.detach(), mesh, [Replicate()]) for name, t in tensors}
        context = _reparametrize_module(row.module, everywhere)
    with context:
        value = row(*there)
    assert isinstance(value, DTensor)
    wanted = [t for t in there if t.requires_grad]
    grads = torch.autograd.grad(value.sum().full_tensor(), wanted) if wanted else ()
    return value.full_tensor().detach(), [whole(g) for g in grads]


# DTensors of torch 2.10 have no rules for linear algebra, and no second derivatives.
OLD = torch.__version__.startswith("2.10.")
PLAIN = ["standard_normal", *["kl_multivariate_normal"] * OLD]  # the first takes no tensor


def every_function(rank: int, world: int) -> None:
    mesh = meshes(world)[0]
    for row in ROWS:
        if row.name in PLAIN:
            continue
        leaves = row.leaves(5)
        value = row(*leaves)
        wanted = [t for t in leaves if t.requires_grad]
        want = list(torch.autograd.grad(value.sum(), wanted)) if wanted else []
        for dim in (0, -1):
            try:
                found = distributed_row(row, mesh, dim)
                torch.testing.assert_close(found, (value.detach(), want))
            except Exception as error:
                raise AssertionError(f"{row.name}, dimension {dim}") from error


# ---- What is particular --------------------------------------------------------------------------


def other_placements(rank: int, world: int) -> None:
    """The first that is in shards decides; what is a sum over ranks is summed first."""
    mesh = meshes(world)[0]
    mu, logvar = normal((4, 6), (4, 6))
    z = vae_ext.reparameterize(mu, logvar, seed=3)
    a, b = distribute(mu, mesh, [Shard(0)]), distribute(logvar, mesh, [Shard(1)])
    got = vae_ext.reparameterize(a, b, seed=3)
    assert isinstance(got, DTensor)
    assert got.placements == (Shard(0),)
    same(got, z)
    partial = DTensor.from_local(mu / world, mesh, [Partial()])
    close(vae_ext.reparameterize(partial, b, seed=3), z, REDUCED)
    # torch's generator, in one state on all ranks.
    torch.manual_seed(5)
    got = vae_ext.reparameterize(a, a)
    torch.manual_seed(5)
    same(got, vae_ext.reparameterize(mu, mu))
    # A seed that is a tensor, plain or not, and noise that is given.
    seed = torch.tensor(3)
    for given in (seed, distribute(seed, mesh, [Replicate()])):
        same(vae_ext.reparameterize(a, b, seed=given), z)
    (noise,) = normal((2, 4, 6))
    want = vae_ext.reparameterize(mu, logvar, n_samples=2, noise=noise)
    for own in (Shard(0), Shard(1), Shard(2), Replicate()):
        eps = distribute(noise, mesh, [own]).requires_grad_()
        got = vae_ext.reparameterize(a, b, n_samples=2, noise=eps)
        same(got, want)
        (g,) = torch.autograd.grad(got.sum().full_tensor(), eps)
        close(g, (logvar / 2).exp().expand(2, 4, 6), REDUCED)
    # Ops that have no gradient by the noise themselves.
    for density in ("log_q", "log_p"):
        eps, there = leaf(noise), distribute(noise, mesh, [Shard(2)]).requires_grad_()
        one, got = (
            estimators.draw(*t, 2, noise=n) for t, n in (((mu, logvar), eps), ((a, b), there))
        )
        want, found = (
            torch.autograd.grad(whole(getattr(s, density).sum()), n)[0]
            for s, n in ((one, eps), (got, there))
        )
        close(found, want, REDUCED)


def regions(rank: int, world: int) -> None:
    """A DTensor that is itself a box of something larger: a micro-batch of a sharded latent."""
    mesh = meshes(world)[0]
    mu, logvar = normal((9, 6), (9, 6))
    for n in (None, 2):
        z = vae_ext.reparameterize(mu, logvar, seed=3, n_samples=n)
        for dim in (0, 1):
            a, b = (distribute(t[3:8, 1:], mesh, [Shard(dim)]) for t in (mu, logvar))
            region = vae_ext.Region((9, 6), (3, 1))
            got = vae_ext.reparameterize(a, b, seed=3, n_samples=n, region=region)
            same(got, z[..., 3:8, 1:])


def mistakes(rank: int, world: int) -> None:
    """A decoder in tensor parallel whose output is this rank's, and its like."""
    mesh = meshes(world)[0]
    (x,) = normal((4, 8))
    there = distribute(x, mesh, [Shard(1)])
    local = there.to_local()
    refused: list[Callable[[], object]] = [
        lambda: vae_ext.bernoulli_log_likelihood(there, local.sigmoid()),
        lambda: vae_ext.bernoulli_log_likelihood(local, there),
        lambda: vae_ext.gaussian_kl(there, x),
        lambda: vae_ext.gaussian_kl(there, there, x),
        lambda: vae_ext.reparameterize(x, there),
        lambda: vae_ext.reparameterize(there, there, noise=x),
        lambda: vae_ext.gaussian_log_likelihood(there, there, x),
        lambda: vae_ext.gaussian_kl(there, there, weights=x > 0),
        lambda: vae_ext.elbo_loss(there, x.sigmoid(), there, there),
        lambda: vae_ext.elbo_loss(there, local.sigmoid(), there, there),
        lambda: vae_ext.elbo_loss(there, there, x, x),
    ]
    for call in refused:
        with pytest.raises(
            ValueError, match=r"plain tensor and .* a DTensor, expected two DTensors"
        ):
            call()
    other = init_device_mesh("cpu", (1, world))
    with pytest.raises(ValueError, match="expected the mesh of the first one"):
        vae_ext.gaussian_kl(there, distribute(x, other, [Replicate(), Shard(1)]))


def cached() -> list[int]:
    """What DTensor remembers of shardings in Python, and what it did not find in C++."""
    propagator = DTensor._op_dispatcher.sharding_propagator
    counts = [propagator.propagate_op_sharding.cache_info().currsize]
    if hasattr(torch._C, "_get_DTensor_sharding_propagator_cache_stats"):
        _, misses = torch._C._get_DTensor_sharding_propagator_cache_stats()
        counts.append(misses)
    return counts


def many_seeds(rank: int, world: int) -> None:
    """A seed is no key of a cache."""
    mesh = meshes(world)[0]
    mu, logvar = (distribute(t, mesh, [Shard(1)]) for t in normal((4, 6), (4, 6)))
    vae_ext.reparameterize_with_kl(mu, logvar, seed=0)
    before = cached()
    for seed in range(1000):
        vae_ext.reparameterize_with_kl(mu, logvar, seed=seed)
    assert cached() == before


def second_derivatives(rank: int, world: int) -> None:
    mesh = meshes(world)[0]
    found = []
    for place in (leaf, Placed(mesh, [Shard(1)])):
        m, v = (place(t) for t in normal((4, 6), (4, 6)))
        z, kl = vae_ext.reparameterize_with_kl(m, v, seed=3)
        _, dv = torch.autograd.grad((z**2).sum() + kl.sum(), (m, v), create_graph=True)
        found.append(whole(torch.autograd.grad(whole((dv**2).sum()), v)[0]))
    close(found[1], found[0], REDUCED)


def compiled(rank: int, world: int) -> None:
    """Eager's bits, and two programs for any number of batch sizes."""
    mesh = meshes(world)[0]

    def step(m: Tensor, v: Tensor, x: Tensor, seed: int) -> Tensor:
        z, kl = vae_ext.reparameterize_with_kl(m, v, seed=seed, reduction="batchmean")
        ll = vae_ext.bernoulli_log_likelihood(z, x, reduction="batchmean")
        return kl - ll

    for dim in (0, 1):
        torch._dynamo.reset()
        graphs: list[int] = []
        inner = torch._dynamo.lookup_backend("aot_eager")

        def backend(graph: Any, inputs: Any, graphs: list[int] = graphs, inner: Any = inner) -> Any:
            graphs.append(1)
            return inner(graph, inputs)

        program = torch.compile(step, backend=backend, fullgraph=True)
        for batch in (4, 8, 12):
            found = []
            for call in (step, program):
                inputs = [
                    distribute(t, mesh, [Shard(dim)]).requires_grad_(i < 2)
                    for i, t in enumerate(normal((batch, 6, 4), (batch, 6, 4), (batch, 6, 4)))
                ]
                inputs[2] = inputs[2].sigmoid()
                value = call(*inputs, 7).full_tensor()
                found.append([value, *torch.autograd.grad(value, inputs[:2])])
            for a, b in zip(*found, strict=True):
                same(a, whole(b))
        assert len(graphs) <= 2


def agreement_on_seeds(rank: int, world: int) -> None:
    torch.manual_seed(1)
    for mesh in meshes(world):
        check_seeds(mesh)
        torch.rand(3)
        check_seeds(mesh)
    check_seeds()
    check_seeds(dist.group.WORLD)
    own = torch.Generator().manual_seed(rank)
    with pytest.raises(RuntimeError, match=r"ranks \[1.*\] were in other states than .* rank 0"):
        check_seeds(meshes(world)[-1], generator=own)
    if rank == world - 1:
        torch.rand(1)
    with pytest.raises(RuntimeError, match=rf"ranks \[{world - 1}\] were in other states"):
        check_seeds()
    with pytest.raises(TypeError, match="mesh was a int, expected a DeviceMesh or ProcessGroup"):
        check_seeds(3)  # type: ignore[arg-type]
    assert rank_stream() == rank
    assert rank_stream(7) == 7 * world + rank
    with pytest.raises(ValueError, match="step was -1, expected 0 or more"):
        rank_stream(-1)
    # One seed and a stream of one's own: noise that differs.
    z = vae_ext.standard_normal(100, seed=1, stream=rank_stream())
    both = [torch.empty_like(z) for _ in range(world)]
    dist.all_gather(both, z)
    correlation = torch.corrcoef(torch.stack(both))
    assert (correlation - torch.eye(world)).abs().max() < 4 / math.sqrt(100)


# ---- Training ------------------------------------------------------------------------------------

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples/distributed"))


def training(rank: int, world: int) -> None:
    """The examples, whose own limits these are: 1e-12 in float64, 1e-5 in float32."""
    import data_parallel
    import sharded_parameters
    import spatial

    for example in (data_parallel, spatial):
        for dtype in ("float64", "float32"):
            example.train(100, dtype)
    sharded_parameters.train(100, "float32")
    sharded_parameters.train(20, "bfloat16")


CHECKS = (
    every_function,
    other_placements,
    regions,
    mistakes,
    many_seeds,
    second_derivatives,
    compiled,
    agreement_on_seeds,
    as_one_process,
    training,
)


def run_kernels(rank: int, world: int) -> None:
    """What says something of kernels."""
    every_function(rank, world)
    as_one_process(rank, world)


def run(rank: int, world: int) -> None:
    for check in CHECKS if world > 1 else (training,):
        if not (OLD and check is second_derivatives):
            check(rank, world)
