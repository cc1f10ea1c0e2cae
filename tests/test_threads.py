"""The same bits at every thread count, run after run, and from threads of Python."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import vae_ext

# Many small events, few large ones, and one of many units.
SHAPES = [(20_000, 10), (300, 1271), (2, 300_000), (1, 700_001)]


def everything(shape: tuple[int, int], reduction: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    mu, logvar, x = (torch.randn(shape, generator=generator).requires_grad_() for _ in range(3))
    target = torch.rand(shape, generator=generator)  # torch's own sigmoid depends on the threads
    z, kl = vae_ext.reparameterize_with_kl(mu, logvar, seed=2, reduction=reduction)
    ll = vae_ext.bernoulli_log_likelihood(x, target, reduction=reduction)
    g = vae_ext.gaussian_log_likelihood(x, mu, torch.tensor(0.3), reduction=reduction)
    draws = vae_ext.estimators.draw(mu, x, 3, seed=2)[:3]
    outs = [z, kl, ll, g, *draws]
    grads = torch.autograd.grad(sum(o.sum() for o in outs), (mu, logvar, x))
    return [o.detach() for o in outs] + list(grads)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "event", "sum", "mean"])
def test_thread_counts(shape: tuple[int, int], reduction: str, threads: None) -> None:
    torch.set_num_threads(1)
    want = everything(shape, reduction)
    for n in (2, 3, 7):
        torch.set_num_threads(n)
        for a, b in zip(want, everything(shape, reduction), strict=True):
            assert torch.equal(a, b)


def test_repetitions() -> None:
    want = everything((300, 1271), "sum")
    for _ in range(20):
        for a, b in zip(want, everything((300, 1271), "sum"), strict=True):
            assert torch.equal(a, b)


def test_python_threads() -> None:
    want = everything((64, 500), "event")
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: everything((64, 500), "event"), range(32)):
            for a, b in zip(want, result, strict=True):
                assert torch.equal(a, b)


def test_large_sums_do_not_drift() -> None:
    """1e7 equal terms: float32 accumulation is off in the third digit."""
    n = 10_000_000
    mu = torch.full((1, n), 0.1)
    kl = vae_ext.gaussian_kl(mu, torch.zeros(()))
    exact = n * 0.5 * float(mu[0, 0].double()) ** 2
    assert abs(float(kl) - exact) <= 5e-7 * exact
    half = mu.bfloat16()
    exact = n * 0.5 * float(half[0, 0].double()) ** 2
    kl = vae_ext.gaussian_kl(half, torch.zeros((), dtype=torch.bfloat16))
    assert kl.dtype == torch.float32
    assert abs(float(kl) - exact) <= 5e-7 * exact


def test_sums_are_rounded_once() -> None:
    """Float64 accumulators: a sum of float32 terms is the float32 nearest to it."""
    x, t = 3 * torch.randn(4000, 256), torch.rand(4000, 256)
    terms = vae_ext.bernoulli_log_likelihood(x, t, reduction="none").double()
    events = vae_ext.bernoulli_log_likelihood(x, t)
    exact = terms.sum(1)
    spacing = torch.exp2(torch.frexp(exact)[1].double() - 24)
    assert float(((events.double() - exact).abs() / spacing).max()) <= 0.50001
    total = vae_ext.bernoulli_log_likelihood(x, t, reduction="sum")
    assert abs(float(total) / float(terms.sum()) - 1) <= 2.0**-24
