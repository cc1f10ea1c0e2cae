"""DiagonalGaussian: against torch.distributions, and its gradients against PyTorch written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

import vae_ext
from vae_ext.distributions import DiagonalGaussian

OPTIONS = [{}, {"bounds": (-0.7, 0.9)}, {"bounds": (-0.7, 0.9), "soft": True}]


def bounded(logvar: Tensor, options: dict) -> Tensor:
    if not options:
        return logvar
    low, high = options["bounds"]
    if not options.get("soft"):
        return logvar.clamp(low, high)
    half, middle = (high - low) / 2, (high + low) / 2
    return middle + half * torch.tanh((logvar - middle) / half)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize("channels_last", [False, True])
def test_packed_moments(options: dict, dim: int, channels_last: bool, simd: str) -> None:
    """Values and the packed gradient are those of chunk, clamp or tanh, and the usual lines."""
    moments = torch.randn(3, 6, 5, 8)
    if channels_last:
        moments = moments.contiguous(memory_format=torch.channels_last)
    moments.requires_grad_()
    mu, raw = moments.chunk(2, dim)
    logvar = bounded(raw, options)
    noise, gz, gk = torch.randn(mu.shape), torch.randn(mu.shape), torch.randn(3)
    want_z = mu + torch.exp(0.5 * logvar) * noise
    want_kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3))
    d = DiagonalGaussian.from_moments(moments, dim, **options)
    z, kl = d.rsample_with_kl(noise=noise)
    pairs = [
        ((z, kl), (want_z, want_kl), (gz, gk)),
        ((d.rsample(noise=noise),), (want_z,), (gz,)),
        ((d.kl(),), (want_kl,), (gk,)),
    ]
    for got, want, incoming in pairs:
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)
        [ours] = grad(got, moments, incoming)
        [theirs] = grad(want, moments, incoming, retain_graph=True)
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
        assert ours.stride() == moments.stride()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradcheck(options: dict) -> None:
    def latent(moments: Tensor) -> tuple[Tensor, Tensor]:
        return DiagonalGaussian.from_moments(moments, **options).rsample_with_kl(seed=1)

    def separate(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
        return DiagonalGaussian(mu, logvar, **options).rsample_with_kl(seed=1)

    moments = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    pair = tuple(torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(latent, moments)
    assert gradgradcheck(latent, moments)
    assert gradcheck(separate, pair)
    assert gradgradcheck(separate, pair)


def test_it_is_a_distribution() -> None:
    mu, logvar = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    d = DiagonalGaussian(mu, logvar)
    same = Independent(Normal(mu, torch.exp(0.5 * logvar)), 2)
    assert (d.batch_shape, d.event_shape) == (same.batch_shape, same.event_shape)
    x = torch.randn(7, 4, 3, 5)
    for a, b in (
        (d.log_prob(x), same.log_prob(x)),
        (d.entropy(), same.entropy()),
        (d.mean, same.mean),
        (d.mode, same.mode),
        (d.stddev, same.stddev),
        (d.variance, same.variance),
        (d.expand((2, 4)).log_prob(x[:2]), same.expand((2, 4)).log_prob(x[:2])),
    ):
        torch.testing.assert_close(a, b)
    assert d.sample((2, 6)).shape == d.rsample((2, 6)).shape == (2, 6, 4, 3, 5)
    assert d.sample((0,)).shape == (0, 4, 3, 5)
    assert torch.equal(d.rsample(seed=3), vae_ext.reparameterize(mu, logvar, seed=3))
    a = d.sample(generator=torch.Generator(mu.device).manual_seed(1))
    assert torch.equal(a, d.sample(generator=torch.Generator(mu.device).manual_seed(1)))
    with pytest.raises(ValueError, match="logvar"):
        # Not by default here: torch.compile, in another test, turns the default off.
        DiagonalGaussian(mu, logvar * float("nan"), validate_args=True)
    assert "event_shape=(3, 5)" in repr(d)


def test_divergences() -> None:
    q, p = (DiagonalGaussian(torch.randn(4, 5), torch.randn(4, 5)) for _ in range(2))
    normals = [Independent(Normal(d.mean, d.stddev), 1) for d in (q, p)]
    want = kl_divergence(*normals)
    torch.testing.assert_close(kl_divergence(q, p), want)
    torch.testing.assert_close(kl_divergence(q, normals[1]), want)
    torch.testing.assert_close(kl_divergence(normals[0], p), want)
    torch.testing.assert_close(kl_divergence(q, Normal(0.0, 1.0)), q.kl())
    with pytest.raises(ValueError, match="events of shape"):
        kl_divergence(q, DiagonalGaussian(torch.zeros(4, 5), torch.zeros(4, 5), event_dims=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_divergences_from_full_covariances(dtype: torch.dtype) -> None:
    q = DiagonalGaussian(torch.randn(4, 5).to(dtype), torch.randn(4, 5).to(dtype))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    same = MultivariateNormal(q.mu.to(wide), torch.diag_embed(q.logvar.to(wide).exp()))
    factor = torch.randn(4, 5, 5, dtype=wide).tril(-1) + torch.eye(5, dtype=wide)
    p = MultivariateNormal(torch.randn(4, 5, dtype=wide), scale_tril=factor)
    for ours, theirs in (
        (kl_divergence(q, p), kl_divergence(same, p)),
        (kl_divergence(p, q), kl_divergence(p, same)),
    ):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
    with pytest.raises(ValueError, match="the MultivariateNormal had events of shape"):
        kl_divergence(p, DiagonalGaussian(torch.zeros(4, 5), torch.zeros(4, 5), event_dims=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["std", "log_std"])
def test_other_scales(name: str, dtype: torch.dtype) -> None:
    """Values and gradients are those of the scale itself, in the dtype of the arguments."""
    mu, x = torch.randn(4, 5).to(dtype), torch.randn(4, 5).to(dtype)
    scale = (torch.nn.functional.softplus(x) if name == "std" else 3 * x).requires_grad_()
    noise, gz, gk = torch.randn(4, 5).to(dtype), torch.randn(4, 5).to(dtype), torch.randn(4)
    d = DiagonalGaussian(mu, **{name: scale})
    z, kl = d.rsample_with_kl(noise=noise)
    assert (z.dtype, d.rsample((2,)).dtype, d.stddev.dtype) == (dtype, dtype, dtype)
    assert torch.equal(z, d.rsample(noise=noise))
    [got] = grad((z, kl), scale, (gz, gk.to(kl.dtype)))

    exact = scale.detach().double().requires_grad_()
    std = exact if name == "std" else exact.exp()
    want_z = mu.double() + std * noise.double()
    want_kl = (0.5 * (mu.double() ** 2 + std**2 - 1) - std.log()).sum(-1)
    [want] = grad((want_z, want_kl), exact, (gz.double(), gk.double()))
    tolerance = 4 * torch.finfo(dtype).eps
    for a, b in ((z, want_z), (got, want)):
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(kl.double(), want_kl.double(), rtol=1e-5, atol=1e-5)
    elements = d.kl(reduction="none")
    assert elements.dtype == dtype
    beside_z = d.rsample_with_kl(reduction="none")[1]
    assert beside_z.dtype == dtype
    torch.testing.assert_close(elements, beside_z)
    torch.testing.assert_close(d.expand((3, 4)).rsample(noise=noise.expand(3, 4, 5))[0], z)


def test_errors() -> None:
    m = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="an even size of dimension 1"):
        DiagonalGaussian.from_moments(m)
    with pytest.raises(ValueError, match="dim was 2"):
        DiagonalGaussian.from_moments(m, 2)
    with pytest.raises(ValueError, match="low < high"):
        DiagonalGaussian(m, m, bounds=(1.0, -1.0))
    with pytest.raises(ValueError, match="no scale was given, expected one of logvar, log_std"):
        DiagonalGaussian(m)
    with pytest.raises(ValueError, match="logvar and std were given"):
        DiagonalGaussian(m, m, std=m + 1)
    with pytest.raises(ValueError, match="std had a minimum of 0"):
        DiagonalGaussian(m, std=m, validate_args=True)
    with pytest.raises(ValueError, match=r"the shapes were mu \[2, 3\], log_std \[4\]"):
        DiagonalGaussian(m, log_std=torch.zeros(4))
    with pytest.raises(ValueError, match=r"noise had shape \[3, 5\], expected .* \[5, 2, 3\]"):
        DiagonalGaussian(m, m).rsample((5,), noise=torch.zeros(3, 5))


def test_soft_bounds_are_those_of_nvae() -> None:
    """5 tanh(x / 5) on log σ is ±10 on the log-variance."""
    mu, x = torch.randn(4, 5), 5 * torch.randn(4, 5)
    d = DiagonalGaussian(mu, log_std=x, bounds=(-10, 10), soft=True)
    torch.testing.assert_close(d.stddev, torch.exp(5 * torch.tanh(x / 5)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("soft", [False, True])
def test_gradients_of_a_broadcast_parameter_in_half_precision(
    dtype: torch.dtype, soft: bool
) -> None:
    """Of a mean over a million elements each is too small for float16; their sum is not."""
    mu = torch.randn(1000, 1000).to(dtype)
    one = torch.tensor(0.5, dtype=dtype, requires_grad=True)

    def mean(*parameters: torch.Tensor) -> torch.Tensor:
        q = DiagonalGaussian(*parameters, bounds=(-1.5, 0.75), soft=soft, validate_args=False)
        assert q.mean.dtype == q.rsample(seed=1).dtype == parameters[0].dtype
        return q.kl(reduction="mean")

    for order in (lambda a, b: (a, b), lambda a, b: (b, a)):
        (got,) = torch.autograd.grad(mean(*order(mu, one)), one)
        exact = one.detach().double().requires_grad_()
        (want,) = torch.autograd.grad(mean(*order(mu.double(), exact)), exact)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want, rtol=2**-7, atol=0)
