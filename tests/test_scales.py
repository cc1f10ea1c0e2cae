"""The scale of a Gaussian as a standard deviation or its logarithm: what logvar gives, and more
digits where a logarithm would have lost them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import vae_ext
from vae_ext.distributions import DiagonalGaussian

FORMS: dict[str, Callable[[Tensor], Tensor]] = {  # from a logvar
    "log_std": lambda v: 0.5 * v,
    "std": lambda v: torch.exp(0.5 * v),
}
Call = Callable[..., Tensor]


def total(pair: tuple[Tensor, Tensor]) -> Tensor:
    z, kl = pair
    return z.sum() + kl.cos().sum()


# Each of a mean, a scale by its name, and more tensors; whether these are a prior's, too.
CALLS: dict[str, tuple[Call, str]] = {
    "gaussian_kl": (lambda m, _, **s: vae_ext.gaussian_kl(m, **s), ""),
    "gaussian_kl, prior": (
        lambda m, _, p, **s: vae_ext.gaussian_kl(m, **s, prior_mu=p, reduction="mean"),
        "prior",
    ),
    "gaussian_kl, prior's mean": (lambda m, t, **s: vae_ext.gaussian_kl(m, **s, prior_mu=t), ""),
    "gaussian_log_likelihood": (lambda m, t, **s: vae_ext.gaussian_log_likelihood(m, t, **s), ""),
    "reparameterize": (lambda m, _, **s: vae_ext.reparameterize(m, **s, seed=3), ""),
    "reparameterize, samples": (
        lambda m, _, **s: vae_ext.reparameterize(m, **s, seed=3, n_samples=3),
        "",
    ),
    "reparameterize, noise": (lambda m, t, **s: vae_ext.reparameterize(m, **s, noise=t), ""),
    "reparameterize_with_kl": (
        lambda m, _, **s: total(vae_ext.reparameterize_with_kl(m, **s, seed=3)),
        "",
    ),
    "reparameterize_with_kl, samples": (
        lambda m, _, **s: total(vae_ext.reparameterize_with_kl(m, **s, seed=3, n_samples=3)),
        "",
    ),
    "DiagonalGaussian": (
        lambda m, _, **s: total(
            DiagonalGaussian(m, **s, validate_args=False).rsample_with_kl(seed=3)
        ),
        "",
    ),
    "DiagonalGaussian, density": (
        lambda m, t, **s: DiagonalGaussian(m, **s, validate_args=False).log_prob(t),
        "",
    ),
    "DiagonalGaussian, bounds": (
        lambda m, _, **s: DiagonalGaussian(m, **s, bounds=(-1, 1), validate_args=False).kl(),
        "",
    ),
    "GaussianNLL": (lambda m, t, **s: vae_ext.nn.GaussianNLL()(m, t, **s), ""),
    "elbo_loss": (
        lambda m, t, **s: vae_ext.elbo_loss(
            m,
            t.detach(),
            t.detach(),
            t.detach(),
            likelihood="gaussian",
            **{f"obs_{k}": v for k, v in s.items()},
        ),
        "",
    ),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("form", FORMS)
def test_against_logvar(name: str, form: str) -> None:
    call, prior = CALLS[name]
    if name == "GaussianNLL":  # whose own scale gives way to another form's only if it has that
        call = lambda m, t, **s: vae_ext.nn.GaussianNLL(**s)(m, t)  # noqa: E731
    m, t, v, p, w = (torch.randn(4, 5, dtype=torch.float64) for _ in range(5))

    def by(name: str, make: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        def function(m: Tensor, v: Tensor, *more: Tensor) -> Tensor:
            scales = {name: make(v)}
            if prior:
                scales[f"prior_{name}"] = make(more[0])
            return call(m, t, *([p] if prior else []), **scales)

        return function

    leaves = [x.clone().requires_grad_() for x in (m, v, w)[: 3 if prior else 2]]
    got, want = by(form, FORMS[form])(*leaves), by("logvar", lambda v: v)(*leaves)
    torch.testing.assert_close(got, want)
    found = [torch.autograd.grad(y.sin().sum(), leaves, retain_graph=True) for y in (got, want)]
    torch.testing.assert_close(*found)
    direct = by(form, lambda x: x)
    scaled = [leaves[0], *[FORMS[form](x).detach().requires_grad_() for x in leaves[1:]]]
    assert gradcheck(direct, scaled)
    assert gradgradcheck(direct, scaled)
    for dtype, tolerance in [(torch.float32, 2e-5), (torch.bfloat16, 0.1)]:
        few = [x.detach().to(dtype) for x in scaled]
        with torch.no_grad():
            exact = direct(*[x.double() for x in few])
            torch.testing.assert_close(direct(*few).double(), exact, rtol=tolerance, atol=tolerance)


def kl_digits(std: float, prior: float) -> Sequence[Any]:
    """The KL of N(0, std²) to N(0, prior²), and its derivative."""
    with mp.workdps(60):
        s, p = mp.mpf(std), mp.mpf(prior)
        r = s / p
        return (r * r - 1) / 2 - mp.log(r), (r * r - 1) / s


@pytest.mark.usefixtures("simd")
@pytest.mark.parametrize("prior", [1.0, 0.7])
def test_kl_keeps_its_digits_beside_the_prior(prior: float) -> None:
    """Within 4 units in the last place, from 1e-30 to 1e15 and next to the prior."""
    near = [prior * (1 + sign * 10**-k) for k in torch.linspace(0.2, 6.5, 50) for sign in (-1, 1)]
    points = torch.tensor([*near, *torch.logspace(-30, 15, 40).tolist()], dtype=torch.float32)
    points = points[points != torch.tensor(prior)]
    std = points.clone().requires_grad_()
    other = torch.tensor(prior)
    priors = {} if prior == 1 else {"prior_std": other, "prior_mu": torch.zeros(())}
    kl = vae_ext.gaussian_kl(torch.zeros_like(std), std=std, **priors, reduction="none")
    (by_std,) = torch.autograd.grad(kl.sum(), std)
    for x, value, slope in zip(points.tolist(), kl.tolist(), by_std.tolist(), strict=True):
        exact, derivative = kl_digits(x, float(other))
        assert abs(mp.mpf(value) - exact) <= 4 * math.ulp(float(exact)) * 2**29, x
        assert abs(mp.mpf(slope) - derivative) <= 4 * math.ulp(float(derivative)) * 2**29, x


def test_edges() -> None:
    zero, inf = torch.zeros(1), torch.full((1,), math.inf)
    mu = torch.ones(1, requires_grad=True)
    for std, kl in [(zero, math.inf), (inf, math.inf), (-torch.ones(1), math.nan)]:
        got = vae_ext.gaussian_kl(mu, std=std)
        torch.testing.assert_close(got, torch.tensor([kl]), equal_nan=True)
    std = torch.zeros(1, requires_grad=True)
    z = vae_ext.reparameterize(mu, std=std, noise=torch.full((1,), 0.25))
    assert z == mu
    assert torch.autograd.grad(z, std)[0] == 0.25  # by way of a logarithm it would be NaN
    mu = mu.detach()
    hit = vae_ext.gaussian_log_likelihood(mu, torch.ones(1), std=zero)
    missed = vae_ext.gaussian_log_likelihood(mu, torch.zeros(1), std=zero)
    assert (float(hit), float(missed)) == (math.inf, -math.inf)
    # Logarithms within the range of the short exp, twice whose difference is not.
    apart = vae_ext.gaussian_kl(
        zero, log_std=torch.full((1,), -30.0), prior_mu=zero, prior_log_std=torch.full((1,), 30.0)
    )
    assert apart == 59.5
    # A variance that underflows where its standard deviation does not.
    tiny = vae_ext.gaussian_log_likelihood(torch.zeros(1), torch.tensor([3e-30]), std=1e-30)
    exact = -4.5 - 0.5 * math.log(2 * math.pi) + 30 * math.log(10)
    torch.testing.assert_close(float(tiny), exact, rtol=3e-7, atol=0)


def test_one_scale() -> None:
    x = torch.ones(2, 3)
    calls: list[Callable[..., Any]] = [vae_ext.gaussian_kl, vae_ext.reparameterize]
    for call in (*calls, vae_ext.reparameterize_with_kl):
        with pytest.raises(TypeError, match="no scale was given, expected one of logvar, log_std"):
            call(x)
        with pytest.raises(TypeError, match="logvar and std were given, expected one of"):
            call(x, x, std=x)
        with pytest.raises(ValueError, match=r"std"):
            call(x, std=torch.ones(4))
    with pytest.raises(TypeError, match="logvar and log_std were given, expected one of"):
        vae_ext.gaussian_log_likelihood(x, x, x, log_std=0.5)
    with pytest.raises(TypeError, match="prior_logvar was given with std, expected prior_std"):
        vae_ext.gaussian_kl(x, std=x, prior_logvar=x)
    with pytest.raises(TypeError, match="prior_logvar and prior_std were given"):
        vae_ext.gaussian_kl(x, std=x, prior_logvar=x, prior_std=x)
