"""The loss: its definition, its samples, and a training loop that only swaps its loss lines."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import vae_ext
from tests.devices import device


def test_is_the_negative_elbo() -> None:
    recon, mu, logvar = torch.randn(5, 7), torch.randn(5, 3), torch.randn(5, 3)
    x = torch.rand(5, 7)
    bce = F.binary_cross_entropy_with_logits(recon, x, reduction="none").sum(1)
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
    for beta in (0.0, 1.0, 4.0):
        torch.testing.assert_close(
            vae_ext.elbo_loss(recon, x, mu, logvar, beta=beta, reduction="event"), bce + beta * kl
        )
        torch.testing.assert_close(
            vae_ext.elbo_loss(recon, x, mu, logvar, beta=beta, reduction="sum"),
            (bce + beta * kl).sum(),
        )
        torch.testing.assert_close(
            vae_ext.elbo_loss(recon, x, mu, logvar, beta=torch.tensor(beta)),
            (bce + beta * kl).mean(),
        )
    normal = torch.distributions.Normal(recon, torch.tensor(-0.3).exp())
    torch.testing.assert_close(
        vae_ext.elbo_loss(recon, x, mu, logvar, likelihood="gaussian", obs_logvar=-0.6),
        (kl - normal.log_prob(x).sum(1)).mean(),
    )


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("reduction", ["event", "sum", "batchmean"])
def test_samples_are_averaged(likelihood: str, reduction: str) -> None:
    recon, x = torch.randn(6, 4, 2, 3, 3), torch.rand(4, 2, 3, 3)
    mu, logvar = torch.randn(4, 5, 2, 2), torch.randn(4, 5, 2, 2)

    def loss(r: Tensor) -> Tensor:
        return vae_ext.elbo_loss(r, x, mu, logvar, likelihood=likelihood, reduction=reduction)

    torch.testing.assert_close(loss(recon), torch.stack([loss(r) for r in recon]).mean(0))


def test_event_dims_and_binary_targets() -> None:
    recon, mu, logvar = torch.randn(2, 3, 8), torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    x = torch.rand(2, 3, 8) < 0.5
    loss = vae_ext.elbo_loss(recon, x, mu, logvar, event_dims=1, reduction="event")
    assert loss.shape == (2, 3)
    mean = vae_ext.elbo_loss(recon, x, mu, logvar, event_dims=1)
    torch.testing.assert_close(mean, loss.mean())


class Tutorial(nn.Module):
    """The VAE of the PyTorch examples, returning logits."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 40)
        self.fc21 = nn.Linear(40, 8)
        self.fc22 = nn.Linear(40, 8)
        self.fc3 = nn.Linear(8, 40)
        self.fc4 = nn.Linear(40, 64)

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc1(x))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + torch.exp(0.5 * logvar) * eps
        return self.fc4(F.relu(self.fc3(z))), mu, logvar


def tutorial_loss(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


def our_loss(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return vae_ext.elbo_loss(logits, x, mu, logvar, reduction="sum")


def train(model: Tutorial, loss_function: Callable[..., Tensor], seed: int) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator(device()).manual_seed(1)
    factors, loadings = (torch.randn(s, generator=generator) for s in ((256, 2), (2, 64)))
    data = torch.sigmoid(2 * factors @ loadings)  # something to learn
    losses = []
    for epoch in range(4):
        for i, x in enumerate(data.split(32)):
            eps = vae_ext.standard_normal(32, 8, seed=seed, stream=100 * epoch + i)
            optimizer.zero_grad()
            logits, mu, logvar = model(x, eps)
            loss = loss_function(logits, x, mu, logvar)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def test_tutorial_loop_gives_the_same_losses() -> None:
    model = Tutorial()
    twin = copy.deepcopy(model)
    want = train(model, tutorial_loss, 3)
    got = train(twin, our_loss, 3)
    assert want[-1] < 0.95 * want[0]
    assert got == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("weight", [-1.0, 1.0, -0.25, 3.7, 0.0, float("nan")])
def test_gradients_of_scalar_likelihoods_take_any_weight(weight: float) -> None:
    """They are written with the value, for the weight −1, and are right for every other one."""
    x, lv = torch.randn(9, 700).requires_grad_(), torch.randn(9, 700).requires_grad_()
    t = torch.rand(9, 700)
    scale = torch.tensor(-1.0, requires_grad=True)  # whose gradient's terms do not cancel
    for reduction in ("sum", "mean", "batchmean"):
        factor = {"sum": 1.0, "mean": 1 / 6300, "batchmean": 1 / 9}[reduction] * weight

        def both(reduction: str) -> list[Tensor]:
            return [
                vae_ext.bernoulli_log_likelihood(x, t, reduction=reduction),
                vae_ext.gaussian_log_likelihood(x, t, lv, reduction=reduction),
                vae_ext.gaussian_log_likelihood(x, t, scale, reduction=reduction),
            ]

        got = torch.autograd.grad(
            sum(v * weight for v in both(reduction)), (x, lv, scale), retain_graph=True
        )
        want = torch.autograd.grad(sum(v.sum() * factor for v in both("none")), (x, lv, scale))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6, equal_nan=True)


BETAS = [0.0, 0, torch.tensor(0.0), torch.zeros(1), torch.zeros(1, 1, dtype=torch.float64)]


@pytest.mark.parametrize("beta", BETAS, ids=repr)
@pytest.mark.parametrize("reduction", ["event", "sum", "batchmean"])
def test_a_weight_of_0_drops_the_divergence(beta: float | Tensor, reduction: str) -> None:
    """Warm-up starts there, with an encoder whose KL may overflow: 0 times inf would be NaN."""
    mu = torch.full((2, 3), 1e30, requires_grad=True)
    logvar = torch.full((2, 3), 100.0, requires_grad=True)
    recon, target = torch.randn(2, 5, requires_grad=True), torch.rand(2, 5)
    loss = vae_ext.elbo_loss(recon, target, mu, logvar, beta=beta, reduction=reduction)
    torch.testing.assert_close(
        loss, -vae_ext.bernoulli_log_likelihood(recon, target, reduction=reduction)
    )
    for grad in torch.autograd.grad(loss.sum(), (mu, logvar)):
        assert torch.equal(grad, torch.zeros(2, 3))


@pytest.mark.parametrize("reduction", ["event", "batchmean"])
def test_a_weight_changes_neither_shape_nor_dtype(reduction: str) -> None:
    mu, x = torch.randn(2, 3), torch.rand(2, 5)
    want = vae_ext.elbo_loss(x, x, mu, mu, beta=0.5, reduction=reduction)
    for beta in (torch.full((1,), 0.5), torch.full((1, 1), 0.5).double(), np.float32(0.5)):
        got = vae_ext.elbo_loss(x, x, mu, mu, beta=beta, reduction=reduction)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        torch.testing.assert_close(got, want)
    beta = torch.full((1,), 0.5, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(vae_ext.elbo_loss(x, x, mu, mu, beta=beta), beta)
    torch.testing.assert_close(grad.float(), vae_ext.gaussian_kl(mu, mu).mean().reshape(1))


def test_second_backward_pass_of_a_scalar_likelihood() -> None:
    x, t = torch.randn(9, 700, requires_grad=True), torch.rand(9, 700)
    loss = -vae_ext.bernoulli_log_likelihood(x, t, reduction="mean")
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(2 * loss, x, retain_graph=True)
    assert torch.equal(first, kept)  # what was given away is not touched again
    torch.testing.assert_close(second, 2 * kept)
    x.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, x)


def scalings(loss: Callable[[], Tensor]) -> int:
    """How many gradients are multiplied in backward by what came instead of what was expected."""
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        loss().backward()
    events = prof.key_averages()
    assert any(e.key.startswith("vae_ext::") for e in events)
    return sum(e.count for e in events if e.key == "vae_ext::scale_gradient_")


@pytest.mark.parametrize("beta", [1.0, 0.3, 1e-6, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_are_written_for_beta(beta: float, dtype: torch.dtype) -> None:
    """With the values, in one pass: nothing is left to multiply."""
    x, recon = torch.rand(3, 50, dtype=dtype), torch.randn(3, 50, dtype=dtype, requires_grad=True)
    mu, logvar = (torch.randn(3, 40, dtype=dtype, requires_grad=True) for _ in range(2))
    on_cpu = mu.is_cpu

    def loss() -> Tensor:
        return vae_ext.elbo_loss(recon, x, mu, logvar, beta=beta)

    if on_cpu:
        assert scalings(loss) == (0 if beta else 2)
    else:
        loss().backward()
    by_mu, by_logvar = mu.grad, logvar.grad
    assert by_mu is not None
    assert by_logvar is not None
    rounding = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(by_mu, beta * mu.detach() / 3, rtol=rounding, atol=0)
    want = beta * torch.expm1(logvar.detach()) / 6
    torch.testing.assert_close(by_logvar, want, rtol=rounding, atol=rounding * beta)


def test_a_factor_outside_is_multiplied_by() -> None:
    mu, logvar = (torch.randn(3, 40, requires_grad=True) for _ in range(2))

    def loss(factor: float) -> Tensor:
        return factor * vae_ext.gaussian_kl(mu, logvar, reduction="sum")

    for factor, expected in ((1.0, 0), (0.5, 2)):
        if mu.is_cpu:  # elsewhere the kernel looks
            assert scalings(lambda f=factor: loss(f)) == expected  # type: ignore[misc]
        else:
            loss(factor).backward()
    assert mu.grad is not None
    torch.testing.assert_close(mu.grad, 1.5 * mu.detach(), rtol=1e-6, atol=0)
