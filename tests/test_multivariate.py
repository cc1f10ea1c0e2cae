"""The KL divergence of Gaussians with full covariances."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import MultivariateNormal, kl_divergence

import vae_ext
from vae_ext import kl_multivariate_normal


def factor(*batch: int, n: int = 4) -> Tensor:
    a = torch.randn(*batch, n, n, dtype=torch.float64).tril(-1)
    return a + torch.diag_embed(torch.rand(*batch, n, dtype=torch.float64) + 0.5)


def test_agrees_with_torch_distributions() -> None:
    mu, prior_mu = torch.randn(3, 1, 4).double(), torch.randn(5, 4).double()
    tril, prior_tril = factor(3, 1), factor(5)
    q = MultivariateNormal(mu, scale_tril=tril)
    want = kl_divergence(q, MultivariateNormal(prior_mu, scale_tril=prior_tril))
    got = kl_multivariate_normal(mu, tril, prior_mu, prior_tril)
    assert got.shape == (3, 5)
    torch.testing.assert_close(got, want)
    standard = MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double())
    torch.testing.assert_close(kl_multivariate_normal(mu, tril), kl_divergence(q, standard))


def test_diagonal_is_gaussian_kl() -> None:
    mu, logvar, pm, pv = (torch.randn(6, 4).double() for _ in range(4))
    tril, prior = (torch.diag_embed(torch.exp(0.5 * v)) for v in (logvar, pv))
    torch.testing.assert_close(
        kl_multivariate_normal(mu, tril, pm, prior), vae_ext.gaussian_kl(mu, logvar, pm, pv)
    )


def test_near_equality() -> None:
    """Two almost equal Gaussians: the usual form has lost it, and may be negative."""
    prior = factor()
    tril = prior + 1e-9 * factor()
    zero = torch.zeros(4).double()
    got = kl_multivariate_normal(zero, tril, zero, prior)
    with mpmath.workdps(60):
        a, b = (mpmath.matrix(t.tolist()) for t in (tril, prior))
        m = b**-1 * a
        logs = sum(mpmath.log(m[i, i]) for i in range(4))
        exact = (sum(x**2 for x in m) - 4 - 2 * logs) / 2
    assert float(got) == pytest.approx(float(exact), rel=1e-6)
    assert float(got) > 0


def test_gradients() -> None:
    inputs = [torch.randn(2, 3).double(), factor(2, n=3), torch.randn(3).double(), factor(n=3)]
    leaves = tuple(t.requires_grad_() for t in inputs)
    assert gradcheck(kl_multivariate_normal, leaves)
    assert gradgradcheck(kl_multivariate_normal, leaves)
    equal = factor(n=3).requires_grad_()
    mu = torch.zeros(3).double()
    (g,) = torch.autograd.grad(kl_multivariate_normal(mu, equal, mu, equal.detach()), equal)
    assert float(g.abs().max()) < 1e-14  # the minimum, and no NaN


MU, TRIL = torch.randn(2, 3), factor(2, n=3).float()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.0], TRIL), TypeError, "mu was a list"),
        ((MU.half(), TRIL), TypeError, "mu had dtype torch.float16"),
        ((torch.tensor(0.0), TRIL), ValueError, "mu had shape"),
        ((MU, MU), ValueError, r"scale_tril had shape \[2, 3\], expected \[..., 3, 3\]"),
        ((MU, TRIL[:, :2]), ValueError, r"scale_tril had shape \[2, 2, 3\]"),
        ((MU, TRIL, MU[:, :2]), ValueError, r"prior_mu had shape \[2, 2\], expected \[..., 3\]"),
        ((MU, TRIL, torch.zeros(5, 3)), ValueError, "prior_mu"),
        ((MU, TRIL, None, TRIL[0, :2]), ValueError, "prior_scale_tril had shape"),
        ((MU, TRIL, None, torch.ones(5, 3, 3)), ValueError, "prior_scale_tril"),
        ((MU, TRIL, None, 1.0), TypeError, "prior_scale_tril was a float"),
    ],
)
def test_errors(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kl_multivariate_normal(*arguments)  # type: ignore[arg-type]
