"""Schedules, capacity, free bits, balancing and diagnostics, against their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vae_ext
from vae_ext import objectives as o

steps = st.floats(0, 1e6)


@given(step=steps, n=st.floats(1, 1e5), start=st.floats(0, 1), end=st.floats(1, 4))
def test_warmups(step: float, n: float, start: float, end: float) -> None:
    for warmup in (o.linear_warmup, o.cosine_warmup):
        assert warmup(0, n, start, end) == start
        assert warmup(n, n, start, end) == pytest.approx(end)
        assert warmup(n + step, n, start, end) == pytest.approx(end)
        assert start <= warmup(step, n, start, end) <= end + 1e-9
        assert warmup(step, n, start, end) <= warmup(step + 1, n, start, end) + 1e-9
        assert warmup(n / 2, n, start, end) == pytest.approx((start + end) / 2)


def test_cyclical_warmup() -> None:
    values = [o.cyclical_warmup(s, 100, ramp=0.25) for s in range(300)]
    assert values[:100] == values[100:200] == values[200:]
    assert values[0] == 0
    assert values[10] == pytest.approx(0.4)
    assert values[25:100] == [1.0] * 75


def test_capacity() -> None:
    kl = torch.tensor([1.0, 4.0], requires_grad=True)
    value = o.capacity(kl, target=4.0, gamma=10.0)
    assert value.item() == 15
    (g,) = torch.autograd.grad(value, kl)
    assert g.tolist() == [-5, -5]  # below the target it is raised


def kl_of(*shape: int) -> torch.Tensor:
    return vae_ext.gaussian_kl(torch.randn(shape), torch.randn(shape), reduction="none")


def test_free_bits_by_the_definition() -> None:
    kl = kl_of(6, 3, 4, 5)
    for dims in ((), (2, 3), (-1, -2), (1, 2, 3)):
        total = 0.0
        groups = kl.double()
        for d in sorted((d % 4 for d in dims), reverse=True):
            groups = groups.sum(d)
        for mean in groups.mean(0).reshape(-1).tolist():
            total += max(0.7, mean)
        assert o.free_bits(kl, 0.7, group_dims=dims).item() == pytest.approx(total, rel=1e-6)
    torch.testing.assert_close(o.free_bits(kl, 0.0), kl.sum() / 6)
    half = kl.bfloat16()
    assert o.free_bits(half, 0.1).dtype == torch.float32


def test_free_bits_gradient() -> None:
    """None for what is below the minimum in the mean over the batch, whole for the rest."""
    mu = torch.tensor([[0.1, 2.0], [3.0, 2.0], [0.2, 0.1], [0.1, 0.1]], requires_grad=True)
    mu = mu.detach() * torch.tensor([0.1, 1.0])
    mu.requires_grad_()
    kl = vae_ext.gaussian_kl(mu, torch.zeros(()), reduction="none")
    (g,) = torch.autograd.grad(o.free_bits(kl, 0.5), mu)
    assert torch.equal(g[:, 0], torch.zeros(4))
    torch.testing.assert_close(g[:, 1], mu[:, 1].detach() / 4)


def test_balanced_kl() -> None:
    tensors = [torch.randn(4, 6, requires_grad=True) for _ in range(4)]
    plain = vae_ext.gaussian_kl(*tensors)
    balanced = o.balanced_kl(*tensors, alpha=0.8)
    torch.testing.assert_close(balanced, plain)
    want = torch.autograd.grad(plain.sum(), tensors)
    got = torch.autograd.grad(balanced.sum(), tensors)
    for i, share in enumerate((0.2, 0.2, 0.8, 0.8)):
        torch.testing.assert_close(got[i], share * want[i])


def test_balanced_sum() -> None:
    kls = [torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([6.0, 8.0])]
    value = o.balanced_sum(kls)
    shares = torch.tensor([2.01, 7.01])
    gamma = shares / shares.mean()
    torch.testing.assert_close(value, gamma[0] * kls[0] + gamma[1] * kls[1])
    (g,) = torch.autograd.grad(value.sum(), kls[0])
    torch.testing.assert_close(g, gamma[0].expand(2))
    same = o.balanced_sum([kls[0], kls[0]], sizes=[1, 1])
    torch.testing.assert_close(same, 2 * kls[0])
    sized = o.balanced_sum([kls[0], kls[0]], sizes=[1, 3])
    torch.testing.assert_close(sized, 2 * kls[0])  # shares 1.5 and 0.5


def test_diagnostics() -> None:
    kl = kl_of(8, 5)
    torch.testing.assert_close(o.kl_per_dimension(kl), kl.mean(0))
    torch.manual_seed(0)
    mu = torch.randn(1000, 4) * torch.tensor([1.0, 0.05, 0.2, 0.0]) + 3
    assert o.active_units(mu).tolist() == [True, False, True, False]
    assert o.active_units(mu.view(1000, 2, 2)).shape == (2, 2)
    assert not o.kl_per_dimension(kl.requires_grad_()).requires_grad


def test_in_a_training_step() -> None:
    """β, free bits and a prior in one loss; under torch.compile, too."""

    def loss(mu: torch.Tensor, logvar: torch.Tensor, beta: float) -> torch.Tensor:
        kl = vae_ext.gaussian_kl(mu, logvar, reduction="none")
        return beta * o.free_bits(kl, 0.05)

    mu, logvar = (torch.randn(16, 8, requires_grad=True) for _ in range(2))
    beta = o.linear_warmup(3, 10)
    want = torch.autograd.grad(loss(mu, logvar, beta), (mu, logvar))
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    got = torch.autograd.grad(compiled(mu, logvar, beta), (mu, logvar))
    for a, b in zip(want, got, strict=True):
        torch.testing.assert_close(a, b)
    assert math.isclose(beta, 0.3)


def test_derivatives_where_a_term_turns() -> None:
    """In our own terms, whatever torch makes of clamp and abs: 1 on the floor, 0 at the target."""
    kl = torch.tensor([0.25, 0.75], requires_grad=True)
    (grad,) = torch.autograd.grad(o.free_bits(kl[:, None], 0.5), kl)
    assert grad.tolist() == [0.5, 0.5]
    (grad,) = torch.autograd.grad(o.capacity(kl, 0.5), kl)
    assert grad.tolist() == [0.0, 0.0]


def test_numpy_numbers() -> None:
    assert o.linear_warmup(np.int64(3), np.float32(10)) == pytest.approx(0.3)
    assert float(o.capacity(torch.ones(3), np.float64(0.5))) == 0.5


ONE = torch.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: o.linear_warmup(-1, 5), ValueError, "step was -1"),
        (lambda: o.cosine_warmup(1, 0), ValueError, "n_steps was 0"),
        (lambda: o.cyclical_warmup(1, 0), ValueError, "period was 0"),
        (lambda: o.cyclical_warmup(1, 5, ramp=0), ValueError, "ramp was 0"),
        (lambda: o.capacity(torch.ones(2, 2), 1.0), ValueError, r"kl had shape \[2, 2\]"),
        (lambda: o.capacity([1.0], 1.0), TypeError, "kl was a list"),
        (lambda: o.free_bits(ONE, -1.0), ValueError, "minimum was -1.0"),
        (lambda: o.free_bits(ONE, 1.0, group_dims=(0,)), ValueError, r"group_dims was \(0,\)"),
        (lambda: o.free_bits(ONE, 1.0, group_dims=(1,)), ValueError, r"group_dims was \(1,\)"),
        (lambda: o.free_bits(torch.tensor(1.0), 1.0), ValueError, r"expected \[batch"),
        (lambda: o.balanced_kl(ONE, ONE, ONE, ONE, alpha=2), ValueError, "alpha was 2"),
        (lambda: o.balanced_sum([]), ValueError, "kls was empty"),
        (lambda: o.balanced_sum([ONE, ONE[:2]]), ValueError, r"kls\[1\] had shape \[2\]"),
        (lambda: o.balanced_sum([ONE], sizes=[1, 2]), ValueError, "sizes had 2 numbers"),
        (lambda: o.balanced_sum([ONE, ONE], sizes=[1, 0]), ValueError, r"sizes\[1\] was 0"),
        (lambda: o.balanced_sum([ONE], sizes=["a"]), TypeError, r"sizes\[0\] was 'a'"),
        (lambda: o.capacity(ONE, math.nan), ValueError, "target was nan"),
        (lambda: o.capacity(ONE, "a"), TypeError, "target was 'a'"),
        (lambda: o.capacity(ONE, 1.0, gamma=-1), ValueError, "gamma was -1"),
        (lambda: o.free_bits(ONE, None), TypeError, "minimum was None"),
        (lambda: o.linear_warmup("a", 5), TypeError, "step was 'a'"),
        (lambda: o.linear_warmup(math.nan, 5), ValueError, "step was nan"),
        (lambda: o.active_units(ONE, -1.0), ValueError, "threshold was -1"),
        (lambda: o.active_units(ONE[:1]), ValueError, "at least two points"),
        (lambda: o.kl_per_dimension(3.0), TypeError, "kl was a float"),
    ],
)
def test_errors(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_names() -> None:
    assert vae_ext.objectives is o
    for name in o.__all__:
        assert getattr(o, name).__doc__
