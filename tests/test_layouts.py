"""Strided inputs and gradients: read in place, with the bits of contiguous ones, sums nearly."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import vae_ext
from tests.cases import REDUCING, Case, wanted
from tests.devices import allocated_by, assert_same_sum
from tests.layouts import LAYOUTS

SHAPE = (2, 3, 5, 7)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", REDUCING, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_same_bits_as_contiguous(
    op: Case, layout: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    plain = [t.to(dtype).contiguous() for t in op.inputs(SHAPE)]
    strided = [layout(t) for t in plain]
    assert all(torch.equal(a, b) for a, b in zip(plain, strided, strict=True))
    for reduction in ("none", "event", "mean"):
        results = []
        for tensors in (plain, strided):
            leaves = op.leaves(tensors)
            out = op.function(*leaves, reduction=reduction)
            torch.manual_seed(1)
            grad = torch.randn(out.shape).to(out.dtype)
            results.append((out.detach(), *torch.autograd.grad(out, wanted(leaves), grad)))
        (a, *grads), (b, *others) = results
        assert reduction != "none" or torch.equal(a, b)
        assert_same_sum(a, b)
        assert all(torch.equal(a, b) for a, b in zip(grads, others, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_samples", [None, 3])
def test_sampling_from_strided_inputs(
    layout: Callable[[Tensor], Tensor], n_samples: int | None
) -> None:
    mu, logvar = torch.randn(SHAPE), torch.randn(SHAPE)
    results = []
    for pair in ((mu, logvar), (layout(mu), layout(logvar))):
        leaves = [t.detach().requires_grad_() for t in pair]
        z, kl = vae_ext.reparameterize_with_kl(*leaves, n_samples=n_samples, seed=7)
        torch.manual_seed(1)
        grads = torch.autograd.grad((z, kl), leaves, (torch.randn(z.shape), torch.randn(2)))
        only_z = vae_ext.reparameterize(*leaves, n_samples=n_samples, seed=7)
        assert torch.equal(z, only_z)
        results.append((z.detach(), kl.detach(), *grads))
    (z, kl, *grads), (z2, kl2, *others) = results
    assert_same_sum(kl, kl2)
    assert all(torch.equal(a, b) for a, b in zip((z, *grads), (z2, *others), strict=True))


@pytest.mark.parametrize("op", REDUCING, ids=repr)
def test_strided_incoming_gradients(op: Case) -> None:
    tensors = op.leaves(t.float() for t in op.inputs((6, 8)))
    leaves = wanted(tensors)
    for reduction, shape in (("none", (6, 8)), ("event", (6,))):
        out = op.function(*tensors, reduction=reduction)
        grad = torch.randn(shape)
        want = torch.autograd.grad(out, leaves, grad, retain_graph=True)
        wide = torch.full((*shape, 3), math.nan)
        wide[..., 1] = grad
        for other in (wide[..., 1], grad.t().contiguous().t()):
            got = torch.autograd.grad(out, leaves, other, retain_graph=True)
            assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
        # An expanded gradient, as that of out.sum().
        one = torch.autograd.grad(out.sum(), leaves, retain_graph=True)
        ones = torch.autograd.grad(out, leaves, torch.ones(shape))
        assert all(torch.equal(a, b) for a, b in zip(one, ones, strict=True))


def test_expanded_inputs() -> None:
    mu = torch.randn(1, 9).expand(4, 9).requires_grad_()
    logvar = torch.randn(4, 1).expand(4, 9).requires_grad_()
    kl = vae_ext.gaussian_kl(mu, logvar)
    same = vae_ext.gaussian_kl(mu.contiguous(), logvar.contiguous())
    assert_same_sum(kl, same)
    grads = torch.autograd.grad(kl.sum(), (mu, logvar))
    wants = torch.autograd.grad(same.sum(), (mu, logvar))
    assert all(torch.equal(a, b) for a, b in zip(grads, wants, strict=True))
    z = vae_ext.reparameterize(mu, logvar, seed=0)
    assert z.is_contiguous()
    assert torch.equal(z, vae_ext.reparameterize(mu.contiguous(), logvar.contiguous(), seed=0))


def test_results_keep_the_memory_format() -> None:
    """channels_last in, channels_last out, as torch's elementwise ops: also for half of a packed
    tensor, which is what the encoder of a latent-diffusion model returns."""
    packed = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    mu, logvar = packed.chunk(2, dim=1)
    like_torch = mu + torch.exp(0.5 * logvar)
    for z in (
        vae_ext.reparameterize(mu, logvar),
        vae_ext.gaussian_kl(mu, logvar, reduction="none"),
        vae_ext.gaussian_log_likelihood(mu, logvar, reduction="none"),
        vae_ext.bernoulli_log_likelihood(mu, logvar.sigmoid(), reduction="none"),
    ):
        assert z.stride() == like_torch.stride()


def test_packed_moments_are_not_copied() -> None:
    """A row-strided view is read where it is: no allocation beside the results."""
    mu, logvar = torch.randn(64, 2, 512).unbind(1)
    vae_ext.gaussian_kl(mu, logvar)
    allocated = allocated_by(lambda: vae_ext.gaussian_kl(mu, logvar))
    assert 64 * 4 <= allocated < 64 * 512


def test_inputs_are_not_modified() -> None:
    mu, logvar = torch.randn(3, 50, requires_grad=True), torch.randn(3, 50, requires_grad=True)
    before = mu.detach().clone(), logvar.detach().clone()
    z, kl = vae_ext.reparameterize_with_kl(mu, logvar)
    (z.sum() + kl.sum()).backward()
    assert torch.equal(mu.detach(), before[0])
    assert torch.equal(logvar.detach(), before[1])
