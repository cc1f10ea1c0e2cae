"""Samples, estimates, sums and losses of DTensors in every placement, against one process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor import distribute_tensor as distribute

import vae_ext
from tests.sharded import ESTIMATE, IWAE, REDUCED, Placed, close, leaf, meshes, normal, same, whole
from vae_ext import estimators

SHAPES = [(4, 6, 4, 4), (5, 3, 7, 6), (1, 2, 3, 9), (8, 10)]  # uneven, and with empty shards
REDUCTIONS = ("none", "event", "sum", "mean", "batchmean")


def samples(placed: Placed, shape: Sequence[int]) -> None:
    mu, logvar, weights = normal(shape, shape, shape)
    for n in (None, 3):
        by = weights if n is None else weights.expand(n, *shape).contiguous()
        m, v = leaf(mu), leaf(logvar)
        z, kl = vae_ext.reparameterize_with_kl(m, v, seed=9, n_samples=n)
        want = torch.autograd.grad((z * by).sum() + kl.sum(), (m, v))
        a, b = placed(mu), placed(logvar)
        got_z, got_kl = vae_ext.reparameterize_with_kl(a, b, seed=9, n_samples=n)
        assert got_z.stride() == z.stride()
        loss = (got_z * placed(by, n is not None)).sum().full_tensor() + got_kl.sum().full_tensor()
        got = torch.autograd.grad(loss, (a, b))
        same(got_z, z)
        close(got_kl, kl, REDUCED)
        for g, w in zip(got, want, strict=True):
            assert isinstance(g, DTensor)
            assert list(g.placements) == placed.placements
            same(g, w)


def importance_weights(placed: Placed, shape: Sequence[int]) -> None:
    mu, logvar = normal(shape, shape)
    for gradient in ("reparameterized", "sticking-the-landing"):
        found = []
        for m, v in ((leaf(mu), leaf(logvar)), (placed(mu), placed(logvar))):
            s = estimators.draw(m, v, 3, seed=4, gradient=gradient)
            estimate = estimators.iwae
            if gradient != "reparameterized":
                estimate = estimators.doubly_reparameterized_iwae
            ll = 0.1 * s.z.flatten(2).sum(-1) if not isinstance(m, DTensor) else None
            if ll is None:
                ll = 0.1 * s.z.sum(tuple(range(2, s.z.ndim)))
            value = estimate(ll, s)
            grads = torch.autograd.grad(whole(value.sum()), (m, v))
            found.append((s, value, grads))
        (one, value, grads), (s, got, got_grads) = found
        same(s.z, one.z)
        for density in ("log_q", "log_p"):
            close(getattr(s, density), getattr(one, density), REDUCED)
        close(got, value, ESTIMATE)
        for g, w in zip(got_grads, grads, strict=True):
            close(g, w, IWAE)


def reductions(placed: Placed, shape: Sequence[int]) -> None:
    mu, logvar, x, mean = normal(shape, shape, shape, shape)
    (prior,) = normal((shape[1],) + (1,) * (len(shape) - 2))
    target = x.sigmoid()
    mesh = placed.mesh
    replicas = [Replicate()] * mesh.ndim
    for reduction, dims in itertools.product(REDUCTIONS, (None, 1, 0)):
        options: dict[str, Any] = {"event_dims": dims, "reduction": reduction}
        exact = 0.0 if reduction == "none" else REDUCED
        # A prior that is broadcast: each rank has a part of its gradient.
        inputs = leaf(mu), leaf(logvar), leaf(prior)
        there = placed(mu), placed(logvar), distribute(prior, mesh, replicas).requires_grad_()
        kl, got = (vae_ext.gaussian_kl(*t, **options) for t in (inputs, there))
        close(got, kl, exact)
        want = torch.autograd.grad(kl.sum(), inputs)
        found = placed.gradients(got, there)
        same(found[0], want[0])
        same(found[1], want[1])
        close(found[2], want[2], REDUCED)
        # Value and gradients in one pass.
        logits, dlogits = leaf(x), placed(x)
        ll = vae_ext.bernoulli_log_likelihood(logits, target, **options)
        got = vae_ext.bernoulli_log_likelihood(dlogits, placed(target).detach(), **options)
        close(got, ll, exact)
        same(placed.gradients(-got, [dlogits])[0], torch.autograd.grad(-ll.sum(), [logits])[0])
        # A plain scalar parameter.
        scalars = [torch.tensor(0.3, requires_grad=True) for _ in range(2)]
        predicted, dpredicted = leaf(mean), placed(mean)
        ll = vae_ext.gaussian_log_likelihood(predicted, x, scalars[0], **options)
        got = vae_ext.gaussian_log_likelihood(dpredicted, placed(x), scalars[1], **options)
        close(got, ll, exact)
        want = torch.autograd.grad(-ll.sum(), (predicted, scalars[0]))
        found = placed.gradients(-got, (dpredicted, scalars[1]))
        same(found[0], want[0])
        close(found[1], want[1], REDUCED)


def loss(placed: Placed, shape: Sequence[int]) -> None:
    x, mu, logvar = normal(shape, shape, shape)
    target = x.sigmoid()
    weights = (x > -1).float()
    for more in ({}, {"weights": weights, "beta": torch.tensor(0.5), "reduction": "event"}):
        there = {k: placed(v).detach() if k == "weights" else v for k, v in more.items()}
        inputs, placed_inputs = ([f(t) for t in (x, mu, logvar)] for f in (leaf, placed))
        value = vae_ext.elbo_loss(inputs[0], target, *inputs[1:], **more)
        d_target = placed(target).detach()
        got = vae_ext.elbo_loss(placed_inputs[0], d_target, *placed_inputs[1:], **there)
        close(got, value, REDUCED)
        want = torch.autograd.grad(value.sum(), inputs)
        for g, w in zip(placed.gradients(got, placed_inputs), want, strict=True):
            same(g, w)


def placements(shape: Sequence[int], mesh: DeviceMesh) -> Iterator[tuple[Placement, ...]]:
    one: list[Placement] = [Replicate(), *(Shard(d) for d in range(len(shape)))]
    yield from itertools.product(one, repeat=mesh.ndim)


def as_one_process(rank: int, world: int) -> None:
    for mesh in meshes(world):
        for shape in SHAPES if mesh.ndim == 1 else SHAPES[1:3]:
            # Sums take long: on four processes of the uneven shapes, in squares of one of them.
            summed = SHAPES if world == 2 else SHAPES[1:3] if mesh.ndim == 1 else SHAPES[1:2]
            sums = (importance_weights, reductions) if shape in summed else ()
            for own in placements(shape, mesh):
                placed = Placed(mesh, own)
                for check in (samples, loss, *sums):
                    check(placed, shape)
