"""torch.compile, export: whole graphs, the same numbers, the same noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.utils.checkpoint import checkpoint

import vae_ext
from tests.devices import device
from tests.training import losses
from vae_ext.distributions import DiagonalGaussian

TORCH = tuple(int(n) for n in torch.__version__.split(".")[:2])


class VAE(nn.Module):
    def __init__(self, likelihood: str) -> None:
        super().__init__()
        self.encoder = nn.Linear(12, 8)
        self.decoder = nn.Linear(4, 12)
        self.obs_logvar = nn.Parameter(torch.zeros(()))
        self.likelihood = likelihood

    def forward(self, x: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, reduction="sum")
        recon = self.decoder(z)
        if self.likelihood == "bernoulli":
            ll = vae_ext.bernoulli_log_likelihood(recon, x, reduction="sum")
        else:
            ll = vae_ext.gaussian_log_likelihood(recon, x, self.obs_logvar, reduction="sum")
        return (kl - ll) / x.shape[0]


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_training_step(likelihood: str, backend: str) -> None:
    """fullgraph: no break. Three steps, since each draws its own noise."""
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = VAE(likelihood)
        step = torch.compile(model, fullgraph=True, backend=backend) if compiled else model
        found = losses(model, step, torch.rand(16, 12), 3)
        results.append((found, [p.detach().clone() for p in model.parameters()]))
    (eager, parameters), (compiled_losses, compiled_parameters) = results
    assert len(set(eager)) == 3
    assert compiled_losses == pytest.approx(eager, rel=1e-5)
    for a, b in zip(parameters, compiled_parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_noise_is_that_of_eager() -> None:
    mu, logvar = torch.randn(5, 7), torch.randn(5, 7)
    compiled = torch.compile(vae_ext.reparameterize, fullgraph=True)
    for _ in range(2):
        torch.manual_seed(3)
        want = vae_ext.reparameterize(mu, logvar), vae_ext.reparameterize(mu, logvar)
        torch.manual_seed(3)
        got = compiled(mu, logvar), compiled(mu, logvar)
        assert torch.equal(want[0], got[0])
        assert torch.equal(want[1], got[1])
        assert not torch.equal(*got)


@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
@pytest.mark.parametrize("wanted", [False, True])
def test_calls_of_one_program_draw_their_own_noise(backend: str, wanted: bool) -> None:
    """And eager's; torch's compiler makes one of two calls that it takes for equal."""
    mu, logvar = torch.zeros(5, 7, requires_grad=wanted), torch.zeros(5, 7)

    def many(mu: Tensor) -> list[Tensor]:
        found = [vae_ext.reparameterize(mu, logvar) for _ in range(3)]
        found.append(vae_ext.reparameterize_with_kl(mu, logvar)[0])
        found.append(vae_ext.reparameterize(mu, logvar, n_samples=2)[0])
        return [*found, vae_ext.estimators.draw(mu, logvar).z[0]]

    compiled = torch.compile(many, fullgraph=True, backend=backend)
    for seed in (1, 2):
        torch.manual_seed(seed)
        want = many(mu)
        torch.manual_seed(seed)
        got = compiled(mu)
        # Before torch 2.12 Inductor moves random ops, where there is no backward pass.
        in_order = wanted or backend == "aot_eager" or TORCH >= (2, 12)
        for i, a in enumerate(got):
            assert any(torch.equal(a, b) for b in (want[i : i + 1] if in_order else want))
            assert not any(torch.equal(a, other) for other in got[:i])


def test_checkpoints_draw_the_same_noise_again() -> None:
    mu, logvar = (torch.randn(5, 7, requires_grad=True) for _ in range(2))

    def growth(mu: Tensor, logvar: Tensor) -> Tensor:
        return vae_ext.reparameterize(mu, logvar).exp().sum()

    def plain() -> Tensor:
        return growth(mu, logvar) + growth(mu, logvar)

    def checkpointed() -> Tensor:
        first, second = (checkpoint(growth, mu, logvar, use_reentrant=False) for _ in range(2))
        return first + second

    found = []
    for function in (plain, torch.compile(checkpointed, fullgraph=True)):
        torch.manual_seed(4)
        value = function()
        grads = torch.autograd.grad(value, (mu, logvar))
        torch.testing.assert_close(grads[0].sum(), value)  # of the same z
        found.append((value, *grads))
    if mu.device.type == "cpu":  # where compiled code has the generator's numbers in the same order
        torch.testing.assert_close(*found)


def test_every_function_compiles_with_gradients() -> None:
    def everything(mu: Tensor, logvar: Tensor, x: Tensor, lv: Tensor, beta: Tensor) -> Tensor:
        z = vae_ext.reparameterize(mu, logvar, n_samples=3, seed=4)
        total = z.square().sum() + vae_ext.gaussian_kl(mu, logvar, x, lv, reduction="mean")
        total = total + vae_ext.gaussian_kl(mu, logvar, event_dims=0, reduction="batchmean")
        total = total + vae_ext.elbo_loss(z, x.sigmoid(), mu, logvar, beta=beta)
        return total + vae_ext.elbo_loss(
            mu, x, mu, logvar, likelihood="gaussian", obs_logvar=lv, reduction="sum"
        )

    leaves = [torch.randn(s).requires_grad_() for s in ((4, 6), (4, 6), (4, 6), (6,), ())]
    want = everything(*leaves)
    got = torch.compile(everything, fullgraph=True)(*leaves)
    torch.testing.assert_close(got, want)
    for a, b in zip(
        torch.autograd.grad(got, leaves), torch.autograd.grad(want, leaves), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_dynamic_shapes() -> None:
    def loss(mu: Tensor, logvar: Tensor) -> Tensor:
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, seed=1)
        return z.sum() + kl.sum()

    compiled = torch.compile(loss, fullgraph=True, dynamic=True)
    for n in (3, 5, 8):
        mu, logvar = torch.randn(n, 6, requires_grad=True), torch.randn(n, 6, requires_grad=True)
        torch.testing.assert_close(compiled(mu, logvar), loss(mu, logvar))


def test_changing_integer_seeds() -> None:
    compiled = torch.compile(
        lambda mu, seed: vae_ext.reparameterize(mu, mu, seed=seed), fullgraph=True
    )
    mu = torch.randn(3, 5)
    for seed in range(12):
        assert torch.equal(compiled(mu, seed), vae_ext.reparameterize(mu, mu, seed=seed))


def test_autocast() -> None:
    """Nothing is cast down, and reduced results of half inputs are float32."""
    mu, logvar = torch.randn(4, 8), torch.randn(4, 8)
    with torch.autocast(device().type, dtype=torch.bfloat16):
        z, kl = vae_ext.reparameterize_with_kl(mu, logvar, seed=1)
        halves = vae_ext.reparameterize_with_kl(mu.bfloat16(), logvar.bfloat16(), seed=1)
    want = vae_ext.reparameterize_with_kl(mu, logvar, seed=1)
    assert torch.equal(z, want[0])
    assert torch.equal(kl, want[1])
    assert (halves[0].dtype, halves[1].dtype) == (torch.bfloat16, torch.float32)


def test_export() -> None:
    class Encode(nn.Module):
        def forward(self, mu: Tensor, logvar: Tensor) -> Tensor:
            z, kl = vae_ext.reparameterize_with_kl(mu, logvar)
            return z.sum() + kl.sum()

    args = (torch.randn(3, 5), torch.randn(3, 5))
    program = torch.export.export(Encode(), args)
    torch.manual_seed(4)
    want = Encode()(*args)
    torch.manual_seed(4)
    torch.testing.assert_close(program.module()(*args), want)


def test_distribution() -> None:
    """A DiagonalGaussian is made, sampled and compared inside one graph."""

    def loss(moments: Tensor, std: Tensor) -> Tensor:
        q = DiagonalGaussian.from_moments(moments, bounds=(-30, 20))
        p = DiagonalGaussian(torch.zeros_like(std), std=std)
        z, kl = q.rsample_with_kl()
        return (kl + kl_divergence(q, p) - q.log_prob(z) + q.rsample((3,)).mean(0).sum(-1)).sum()

    leaves = [torch.randn(4, 10, requires_grad=True), (torch.rand(4, 5) + 0.1).requires_grad_()]
    values, grads = [], []
    for function in (loss, torch.compile(loss, fullgraph=True)):
        torch.manual_seed(2)
        values.append(function(*leaves))
        grads.append(torch.autograd.grad(values[-1], leaves))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(grads[0], grads[1])
