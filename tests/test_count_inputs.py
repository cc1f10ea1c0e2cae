"""Counts as they are read, what stands beside them, and what is refused."""

from __future__ import annotations

import pytest
import torch

from tests import devices
from vae_ext import negative_binomial_log_likelihood as nb
from vae_ext import zero_inflated_negative_binomial_log_likelihood as zinb

INTEGERS = [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_counts_are_read_as_they_are(dtype: torch.dtype) -> None:
    x = torch.randint(0, 250, (7, 300))
    mean, theta = 100 * torch.rand(7, 300), torch.rand(300)
    counts = x.to(dtype)
    want = nb(mean, x.float(), theta)
    assert torch.equal(nb(mean, counts, theta), want)
    assert torch.equal(
        nb(mean, counts[:, ::3].repeat_interleave(3, 1), theta),
        nb(mean, x[:, ::3].repeat_interleave(3, 1).float(), theta),
    )
    half = nb(mean.bfloat16(), counts, theta.bfloat16())
    torch.testing.assert_close(half, nb(mean.bfloat16().float(), counts, theta.bfloat16().float()))


@pytest.mark.parametrize("zeros", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_zeros_do_not_matter_to_their_neighbours(zeros: float, simd: str) -> None:
    """A count has the same bits whatever is beside it."""
    mean, theta = torch.rand(3, 700), torch.rand(3, 700)
    x = torch.poisson(3 * mean) * (torch.rand(3, 700) >= zeros)
    order = torch.randperm(700)
    logits = torch.randn(3, 700)
    for function, more in ((nb, ()), (zinb, (logits,))):
        leaves = [t.clone().requires_grad_() for t in (mean, theta, *more)]
        value = function(leaves[0], x, *leaves[1:], reduction="none")
        grads = torch.autograd.grad(value.sum(), leaves)
        moved = [t.detach()[:, order].requires_grad_() for t in leaves]
        other = function(moved[0], x[:, order], *moved[1:], reduction="none")
        others = torch.autograd.grad(other.sum(), moved)
        assert torch.equal(value[:, order], other)
        for a, b in zip(grads, others, strict=True):
            assert torch.equal(a[:, order], b)


@pytest.mark.parametrize(("rows", "genes"), [(130, 2000), (700, 20), (5000, 3), (3, 5000)])
def test_a_dispersion_for_each_gene(rows: int, genes: int) -> None:
    """Its gradient is summed in the kernel: as one for each element is, in no more memory, and in
    one order at every thread count."""
    mean, x = torch.rand(rows, genes), torch.poisson(torch.rand(rows, genes))
    theta = (torch.rand(genes) + 0.1).requires_grad_()
    wide = theta.detach().double().expand(rows, genes).clone().requires_grad_()
    (full,) = torch.autograd.grad(nb(mean.double(), x, wide).sum(), wide)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            out = nb(mean, x, theta)
            ones = torch.ones_like(out)
            (grad,) = torch.autograd.grad(out, theta, ones, retain_graph=True)
        finally:
            torch.set_num_threads(2)
        found.append(grad)
    assert all(torch.equal(found[0], g) for g in found)
    size = full.abs().sum(0).float()
    assert bool(((found[0] - full.sum(0)).abs() <= 1e-6 * (size + 1)).all())
    used = devices.allocated_by(lambda: torch.autograd.grad(out, theta, ones))
    # CUDA's has sums in double for rows of blocks, too: for few rows, as many as for every second.
    assert used <= 4 * genes + (4 * genes * rows + 1024 if devices.cuda_kernels else 64)


def test_what_is_refused() -> None:
    m, x = torch.rand(2, 3), torch.ones(2, 3)
    if devices.device().type == "cpu":  # values on a GPU would have to be waited for
        with pytest.raises(ValueError, match="target had the value -1, expected values of at lea"):
            nb(m, -x, m)
    with pytest.raises(ValueError, match="target required a gradient, expected counts"):
        nb(m, x.clone().requires_grad_(), m)
    with pytest.raises(RuntimeError, match="target required a gradient"):
        torch.ops.vae_ext.poisson_log_likelihood(m, x.clone().requires_grad_(), None, 0, None, 1, 1)
    with pytest.raises(TypeError, match=r"arguments given were \(mean\), expected \(mean, disp"):
        nb(m, x)
    with pytest.raises(TypeError, match=r"given were \(mean, dispersion, log_dispersion\), exp"):
        nb(m, x, m, log_dispersion=m)
    with pytest.raises(TypeError, match="target was a NoneType"):
        nb(m, dispersion=m)
    with pytest.raises(RuntimeError, match="unknown form"):
        torch.ops.vae_ext.poisson_log_likelihood(m, x, None, 2, None, 1, 1)
