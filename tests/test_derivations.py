"""Every equation of docs/derivations.md, on a model whose evidence and posterior are known."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import grad

import vae_ext
from tests.linear_gaussian import Encoder, Model, N, encoder
from vae_ext import kl_multivariate_normal

TINY = 1e-12
Pair = tuple[Model, Encoder]


@pytest.fixture
def pair() -> Pair:
    return Model(), encoder()


def elbo(model: Model, q: Encoder) -> Tensor:
    """L = E_q[log p(x, z) − log q(z|x)]"""
    return q.expectation(lambda z: model.log_joint(z) - q.log_prob(z))


def kl_to_posterior(model: Model, q: Encoder) -> Tensor:
    p = model.posterior()
    return kl_multivariate_normal(q.mu, torch.diag(torch.exp(0.5 * q.logvar)), p.loc, p.scale_tril)


def log_posterior(model: Model, z: Tensor) -> Tensor:
    return model.posterior().log_prob(z)  # type: ignore[no-any-return]


# ---- The bound in three ways ----------------------------------------------------------------

Side = Callable[[Model, Encoder], Tensor]

WAY_1: dict[str, Side] = {
    "1.0": lambda m, q: q.expectation(lambda z: m.evidence().expand(z.shape[0])),
    "1.1": lambda m, q: q.expectation(lambda z: m.log_joint(z) - log_posterior(m, z)),
    "1.2": lambda m, q: q.expectation(
        lambda z: (m.log_joint(z) + q.log_prob(z)) - (q.log_prob(z) + log_posterior(m, z))
    ),
    "1.3": lambda m, q: (
        q.expectation(lambda z: m.log_joint(z) - q.log_prob(z))
        + q.expectation(lambda z: q.log_prob(z) - log_posterior(m, z))
    ),
    "1.4": lambda m, q: elbo(m, q) + kl_to_posterior(m, q),
}

WAY_2: dict[str, Side] = {
    "2.0": lambda m, q: q.expectation(
        lambda z: m.log_likelihood(z) + m.log_prior(z) - log_posterior(m, z)
    ),
    "2.1": lambda m, q: q.expectation(
        lambda z: (
            (m.log_likelihood(z) + q.log_prob(z) + m.log_prior(z))
            - (log_posterior(m, z) + q.log_prob(z))
        )
    ),
    "2.2": lambda m, q: q.expectation(
        lambda z: (
            m.log_likelihood(z)
            - (q.log_prob(z) - m.log_prior(z))
            + (q.log_prob(z) - log_posterior(m, z))
        )
    ),
    "2.3": lambda m, q: (
        q.expectation(m.log_likelihood)
        - q.expectation(lambda z: q.log_prob(z) - m.log_prior(z))
        + q.expectation(lambda z: q.log_prob(z) - log_posterior(m, z))
    ),
    "2.31": lambda m, q: (
        q.expectation(m.log_likelihood)
        - vae_ext.gaussian_kl(q.mu, q.logvar, reduction="sum")
        + kl_to_posterior(m, q)
    ),
    "2.4": lambda m, q: (
        q.expectation(m.log_likelihood)
        + q.expectation(lambda z: m.log_prior(z) - q.log_prob(z))
        + kl_to_posterior(m, q)
    ),
    "2.5": lambda m, q: (
        q.expectation(lambda z: m.log_likelihood(z) + m.log_prior(z) - q.log_prob(z))
        + kl_to_posterior(m, q)
    ),
    "2.6": lambda m, q: (
        q.expectation(lambda z: m.log_joint(z) - q.log_prob(z)) + kl_to_posterior(m, q)
    ),
    "2.7": lambda m, q: elbo(m, q) + kl_to_posterior(m, q),
}

WAY_3: dict[str, Side] = {
    "3.0": lambda m, q: q.expectation(lambda z: q.log_prob(z) - log_posterior(m, z)),
    "3.1": lambda m, q: q.expectation(lambda z: (q.log_prob(z) + m.evidence()) - m.log_joint(z)),
    "3.2": lambda m, q: q.expectation(lambda z: (q.log_prob(z) - m.log_joint(z)) + m.evidence()),
    "3.3": lambda m, q: (
        q.expectation(lambda z: q.log_prob(z) - m.log_joint(z))
        + q.expectation(lambda z: m.evidence().expand(z.shape[0]))
    ),
    "3.4": lambda m, q: -q.expectation(lambda z: m.log_joint(z) - q.log_prob(z)) + m.evidence(),
    "3.5": lambda m, q: -elbo(m, q) + m.evidence(),
}


@pytest.mark.parametrize("number", [*WAY_1, *WAY_2])
def test_evidence_is_bound_plus_divergence(number: str, pair: Pair) -> None:
    """Each line of the first two is log p(x)."""
    side = {**WAY_1, **WAY_2}[number]
    torch.testing.assert_close(side(*pair), pair[0].evidence(), rtol=TINY, atol=TINY)


@pytest.mark.parametrize("number", WAY_3)
def test_divergence_is_evidence_minus_bound(number: str, pair: Pair) -> None:
    """Each line of the third is KL(q ‖ posterior)."""
    torch.testing.assert_close(WAY_3[number](*pair), kl_to_posterior(*pair), rtol=TINY, atol=TINY)


def test_the_bound(pair: Pair) -> None:
    """(1.5): never above the evidence, and equal to it where q is the posterior."""
    model, _ = pair
    for seed in range(20):
        assert elbo(model, encoder(seed)).item() < model.evidence().item()
    # A diagonal posterior, which q can be: orthogonal columns of W.
    with torch.no_grad():
        model.w.copy_(torch.linalg.qr(model.w)[0] * torch.tensor([1.5, 0.5]))
    p = model.posterior()
    q = Encoder(p.loc, torch.log(p.covariance_matrix.diagonal()))
    torch.testing.assert_close(elbo(model, q), model.evidence(), rtol=TINY, atol=TINY)


def test_the_bound_of_the_library(pair: Pair) -> None:
    """`elbo_loss` is −L in expectation over its samples: the same quadrature gives it."""
    model, q = pair
    eps, weights = q.nodes()
    z = q.sample_at(eps)
    recon = z @ model.w.T + model.b
    losses = vae_ext.elbo_loss(
        recon,
        model.x.expand_as(recon),
        q.mu.expand_as(z),
        q.logvar.expand_as(z),
        likelihood="gaussian",
        obs_logvar=model.log_s2,
        reduction="event",
    )
    torch.testing.assert_close(-(weights @ losses), elbo(model, q), rtol=TINY, atol=TINY)


# ---- The closed-form KL --------------------------------------------------------------------------

KL_LINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # With I⁻¹ = I: ½ (log(|I|/|Σ|) − n + tr(I⁻¹Σ) + (0 − mu)ᵀ I⁻¹ (0 − mu))
    "4.0": lambda mu, s: (
        torch.log(torch.linalg.det(torch.eye(N).double()) / torch.linalg.det(s))
        - N
        + torch.trace(torch.linalg.inv(torch.eye(N).double()) @ s)
        + (0 - mu) @ torch.linalg.inv(torch.eye(N).double()) @ (0 - mu)
    ),
    "4.1": lambda mu, s: (
        torch.logdet(torch.eye(N).double()) - torch.logdet(s) - N + torch.trace(s) + mu @ mu
    ),
    "4.2": lambda mu, s: 0 - torch.log(s.diagonal().prod()) - N + torch.trace(s) + mu @ mu,
    "4.3": lambda mu, s: -s.diagonal().log().sum() - N + s.diagonal().sum() + mu.square().sum(),
    "4.4": lambda mu, s: -(s.diagonal().log() + 1).sum() + s.diagonal().sum() + mu.square().sum(),
    "4.5": lambda mu, s: (-(s.diagonal().log() + 1) + s.diagonal() + mu.square()).sum(),
}


@pytest.mark.parametrize("number", KL_LINES)
def test_closed_form(number: str, pair: Pair) -> None:
    """Each line is what `gaussian_kl` gives, and `kl_multivariate_normal`, and the expectation."""
    model, q = pair
    line = 0.5 * KL_LINES[number](q.mu, torch.diag(q.logvar.exp()))
    torch.testing.assert_close(
        vae_ext.gaussian_kl(q.mu, q.logvar, reduction="sum"), line, rtol=TINY, atol=TINY
    )
    full = kl_multivariate_normal(q.mu, torch.diag(torch.exp(0.5 * q.logvar)))
    torch.testing.assert_close(full, line, rtol=TINY, atol=TINY)
    expected = q.expectation(lambda z: q.log_prob(z) - model.log_prior(z))
    torch.testing.assert_close(expected, line, rtol=TINY, atol=TINY)


# ---- Gradients -----------------------------------------------------------------------------------


def signal(model: Model, q: Encoder, z: Tensor) -> Tensor:
    return model.log_joint(z) - q.log_prob(z)


def gradient_lines(model: Model, q: Encoder) -> dict[str, tuple[Tensor, ...]]:
    """∇φ L, line by line. An integral of f ∇q is taken where the points stand still."""
    fixed = Encoder(*(t.detach() for t in q.phi))  # q as a number, not as a function of phi

    def d(value: Tensor) -> tuple[Tensor, ...]:
        return grad(value, q.phi, retain_graph=True)

    def minus(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x - y for x, y in zip(a, b, strict=True))

    def score(z: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return d((weight * q.log_prob(z)).sum())

    joint = d(q.integral(model.log_joint))  # ∫ log p ∇q
    log_q_dq = d(q.integral(fixed.log_prob))  # ∫ log q ∇q
    dq = d(q.integral(lambda z: torch.ones(len(z), dtype=torch.float64)))  # ∫ ∇q
    eps, weights = q.nodes()
    z = q.sample_at(eps).detach()
    f = signal(model, fixed, z).detach()
    return {
        "5.0": d(elbo(model, q)),
        "5.1": d(q.integral(lambda z: signal(model, q, z))),
        "5.2": minus(joint, d(q.integral(q.log_prob))),
        "5.3": minus(joint, tuple(a + b for a, b in zip(log_q_dq, dq, strict=True))),
        "5.4": minus(minus(joint, log_q_dq), dq),  # the source has + here
        "5.5": minus(joint, log_q_dq),
        "5.6": d(q.integral(lambda z: signal(model, fixed, z))),
        "5.7": score(z, weights * f),
        "5.8": tuple(
            torch.stack([d(q.log_prob(z)[k])[i] * f[k] for k in range(len(z))]).T @ weights
            for i in range(2)
        ),
    }


@pytest.mark.parametrize("number", [f"5.{i}" for i in range(9)])
def test_gradient_by_phi(number: str, pair: Pair) -> None:
    lines = gradient_lines(*pair)
    for a, b in zip(lines[number], lines["5.0"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_the_integral_of_the_gradient_of_q_is_zero(pair: Pair) -> None:
    """So that the sign before it in (5.4), which is + in the source and must be −, does no harm."""
    _, q = pair
    total = q.integral(lambda z: torch.ones(len(z), dtype=torch.float64))
    for g in grad(total, q.phi):
        assert float(g.abs().max()) < TINY


def test_gradient_by_theta(pair: Pair) -> None:
    """∇θ L = E_q[∇θ log p(x, z)]: of log q nothing remains."""
    model, q = pair
    want = grad(elbo(model, q), model.theta)
    got = grad(q.expectation(model.log_joint), model.theta)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=TINY, atol=TINY)


def estimates(model: Model, q: Encoder, n: int) -> tuple[Tensor, Tensor]:
    """n one-sample estimates of ∇φ L each: by the score function (5.9) and reparameterized."""
    mu, logvar = (t.detach().expand(n, N).clone().requires_grad_() for t in q.phi)
    each = Encoder(mu, logvar)
    z = vae_ext.reparameterize(mu, logvar, seed=17)
    through_z = grad(signal(model, each, z).sum(), (mu, logvar))
    at = z.detach()
    weight = signal(model, each, at).detach()
    by_score = grad((weight * each.log_prob(at)).sum(), (mu, logvar))
    return torch.cat(by_score, 1), torch.cat(through_z, 1)


def test_score_function_and_reparameterized_gradients(pair: Pair) -> None:
    """(5.9) and the reparameterized estimate agree with ∇φ L within four standard errors of 1e5
    draws, and the second has the smaller variance."""
    model, q = pair
    exact = torch.cat(grad(elbo(model, q), q.phi))
    n = 100_000
    score, path = estimates(model, q, n)
    for estimate in (score, path):
        standard_error = estimate.std(0) / math.sqrt(n)
        assert bool(((estimate.mean(0) - exact).abs() < 4 * standard_error).all())
    assert float(path.var(0).sum()) < 0.5 * float(score.var(0).sum())


# ---- The two SGVB estimators ---------------------------------------------------------------------


def sgvb(model: Model, q: Encoder, samples: int, repeats: int, seed: int) -> tuple[Tensor, Tensor]:
    """Estimates A and B of L from `samples` draws each, [repeats]."""
    mu, logvar = (t.detach().expand(repeats, N) for t in q.phi)
    z = vae_ext.reparameterize(mu, logvar, n_samples=samples, seed=seed)
    a = (model.log_joint(z) - q.log_prob(z)).mean(0)
    recon = z @ model.w.T + model.b
    b = -vae_ext.elbo_loss(
        recon,
        model.x.expand(repeats, -1),
        mu,
        logvar,
        likelihood="gaussian",
        obs_logvar=model.log_s2,
        reduction="event",
    )
    return a.detach(), b.detach()


@pytest.mark.parametrize("samples", [1, 5, 50])
def test_sgvb_estimators_are_unbiased(samples: int, pair: Pair) -> None:
    model, q = pair
    exact = elbo(model, q).item()
    repeats = 200_000 // samples
    for estimate in sgvb(model, q, samples, repeats, seed=23):
        standard_error = float(estimate.std()) / math.sqrt(repeats)
        assert abs(float(estimate.mean()) - exact) < 4 * standard_error


def test_sgvb_errors_fall_as_the_root_of_the_samples(pair: Pair) -> None:
    model, q = pair
    spread = {n: [float(e.std()) for e in sgvb(model, q, n, 4000, seed=29)] for n in (1, 5, 50)}
    for n in (5, 50):
        for one, many in zip(spread[1], spread[n], strict=True):
            assert many * math.sqrt(n) == pytest.approx(one, rel=0.1)


# ---- The page ------------------------------------------------------------------------------------

NUMBERS = [
    *(f"1.{i}" for i in range(6)),
    *("2.0", "2.1", "2.2", "2.3", "2.31", "2.4", "2.5", "2.6", "2.7"),
    *(f"3.{i}" for i in range(6)),
    *(f"4.{i}" for i in range(6)),
    *(f"5.{i}" for i in range(10)),
]


def test_every_equation_is_on_the_page() -> None:
    """And every test that the page names is where its link points, every function is there."""
    root = Path(__file__).resolve().parent.parent
    page = (root / "docs/derivations.md").read_text()
    for number in NUMBERS:
        assert f"| ({number}) |" in page, number
    files = dict(re.findall(r"^\[(test_\w+)\]: \.\./(tests/\1\.py)$", page, re.M))
    links = re.findall(r"\[`(test_[a-z_0-9]+)(?:\[.*?\]|\.py)?`\]\[(test_\w+)\]", page)
    assert len(links) > 40
    for name, file in links:
        assert name == file or f"def {name}(" in (root / files[file]).read_text(), name
    assert len(links) == page.count("`test_")  # each has one
    for name in ("elbo_loss", "kl_multivariate_normal", "gaussian_kl", "reparameterize"):
        assert f"`{name}`" in page
        assert hasattr(vae_ext, name)
