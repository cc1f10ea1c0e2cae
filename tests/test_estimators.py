"""The estimators, on the model whose evidence is known and against PyTorch written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import grad
from torch.distributions import Normal

import vae_ext
from tests.linear_gaussian import Encoder, Model, N, encoder, near_posterior, spread
from vae_ext import estimators as e
from vae_ext._checks import GRADIENTS


@pytest.fixture
def pair() -> tuple[Model, Encoder]:
    return Model(), encoder()


def test_draw_by_definition() -> None:
    mu, logvar = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    for event_dims, batch in ((None, (4,)), (1, (4, 3)), (0, (4, 3, 5))):
        s = e.draw(mu, logvar, 6, seed=2, event_dims=event_dims)
        assert torch.equal(s.z, vae_ext.reparameterize(mu, logvar, n_samples=6, seed=2))
        assert s.log_q.shape == s.log_p.shape == (6, *batch)
        dims = tuple(range(1 + len(batch), 4))
        log_q = Normal(mu, torch.exp(0.5 * logvar)).log_prob(s.z)
        log_p = Normal(0.0, 1.0).log_prob(s.z)
        for got, want in ((s.log_q, log_q), (s.log_p, log_p)):
            torch.testing.assert_close(got, want.sum(dims) if dims else want)


def test_what_flows_back() -> None:
    """By parts: the total derivative of log q is −½ by logvar; the score and the path add to it."""
    found = {}
    mu, logvar = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for gradient in GRADIENTS:
        s = e.draw(mu, logvar, 2, gradient=gradient, seed=1)
        assert s.z.requires_grad == (gradient != "score")
        found[gradient] = grad(s.log_q.sum(), (mu, logvar))
    total, score, path = (found[g] for g in GRADIENTS)
    torch.testing.assert_close(total[0], torch.zeros_like(total[0]), atol=1e-12, rtol=0)
    torch.testing.assert_close(total[1], torch.full_like(total[1], -0.5 * 2))
    for a, b, c in zip(total, score, path, strict=True):
        torch.testing.assert_close(a, b + c, atol=1e-12, rtol=1e-12)


def test_bounds_are_those_written_out(pair: tuple[Model, Encoder]) -> None:
    model, q = pair
    mu, logvar = spread(q, 7)
    s = e.draw(mu, logvar, 5, seed=3)
    ll = model.log_likelihood(s.z)
    w = ll + model.log_prior(s.z) - q.log_prob(s.z)
    torch.testing.assert_close(e.sgvb_a(ll, s), w.mean(0))
    torch.testing.assert_close(e.iwae(ll, s), torch.log(torch.exp(w).mean(0)))
    kl = vae_ext.gaussian_kl(mu, logvar)
    torch.testing.assert_close(e.sgvb_b(ll, kl), ll.mean(0) - kl)
    score = e.draw(mu, logvar, 5, seed=3, gradient="score")
    torch.testing.assert_close(e.score_function(model.log_likelihood(score.z), score), w.mean(0))
    stl = e.draw(mu, logvar, 5, seed=3, gradient="sticking-the-landing")
    value = e.doubly_reparameterized_iwae(model.log_likelihood(stl.z), stl)
    torch.testing.assert_close(value, e.iwae(ll, s))


def test_iwae_reaches_the_evidence() -> None:
    """With 1,000 samples within 0.05 nats, and not above by more than its standard error; it rises
    with the number of samples."""
    model, repeats = Model(), 4000
    q = near_posterior(model, scale=2.5)  # whose bound is below by more than chance
    exact = model.evidence().item()
    means = []
    with torch.no_grad():
        for samples in (1, 10, 1000):
            mu, logvar = (t.expand(repeats, N) for t in q.phi)
            s = e.draw(mu, logvar, samples, seed=samples)
            bound = e.iwae(model.log_likelihood(s.z), s)
            means.append(bound.mean().item())
            error = bound.std().item() / math.sqrt(repeats)
            assert means[-1] <= exact + 4 * error
    assert abs(means[-1] - exact) < 0.05
    assert means[-1] <= exact + error
    assert means[0] < means[1] < means[2]


def test_log_evidence(pair: tuple[Model, Encoder]) -> None:
    model, _ = pair
    q = near_posterior(model)
    mu, logvar = (t.expand(3, N) for t in q.phi)
    got = e.log_evidence(model.log_likelihood, mu, logvar, 20_000, chunk=777, seed=1)
    assert not got.requires_grad
    torch.testing.assert_close(got, model.evidence().detach().expand(3), atol=0.02, rtol=0)
    assert not torch.equal(
        e.log_evidence(model.log_likelihood, mu, logvar, 100),
        e.log_evidence(model.log_likelihood, mu, logvar, 100),
    )
    # Chunks are a matter of memory alone where the noise is that of one stream.
    with torch.no_grad():
        s = e.draw(mu, logvar, 60, seed=1)
        one = e.log_evidence(model.log_likelihood, mu, logvar, 60, chunk=60, seed=1)
        torch.testing.assert_close(one, e.iwae(model.log_likelihood(s.z), s))


def exact_gradient(model: Model, q: Encoder) -> Tensor:
    bound = q.expectation(lambda z: model.log_joint(z) - q.log_prob(z))
    return torch.cat(grad(bound, q.phi))


def gradients(
    estimate: Callable[[Tensor, e.Samples], Tensor],
    model: Model,
    q: Encoder,
    kind: str,
    samples: int,
    repeats: int,
) -> Tensor:
    mu, logvar = spread(q, repeats)
    s = e.draw(mu, logvar, samples, gradient=kind, seed=11)
    return torch.cat(grad(estimate(model.log_likelihood(s.z), s).sum(), (mu, logvar)), 1)


def agrees(estimates: Tensor, exact: Tensor) -> bool:
    error = estimates.std(0) / math.sqrt(len(estimates))
    return bool(((estimates.mean(0) - exact).abs() < 4 * error).all())


def test_gradients_of_the_bound(pair: tuple[Model, Encoder]) -> None:
    model, q = pair
    exact = exact_gradient(model, q)
    n = 50_000
    a = gradients(e.sgvb_a, model, q, "reparameterized", 2, n)
    stl = gradients(e.sgvb_a, model, q, "sticking-the-landing", 2, n)
    plain = gradients(
        lambda ll, s: e.score_function(ll, s, baseline=False), model, q, "score", 2, n
    )
    with_baseline = gradients(e.score_function, model, q, "score", 2, n)
    for estimates in (a, stl, plain, with_baseline):
        assert agrees(estimates, exact)
    assert with_baseline.var(0).sum() < plain.var(0).sum()
    assert a.var(0).sum() < with_baseline.var(0).sum()


def test_sticking_the_landing_has_no_variance_at_the_posterior() -> None:
    model = Model()
    with torch.no_grad():  # orthogonal columns: the posterior is diagonal
        model.w.copy_(torch.linalg.qr(model.w)[0] * torch.tensor([1.5, 0.5]))
    q = near_posterior(model, scale=1.0)
    stl = gradients(e.sgvb_a, model, q, "sticking-the-landing", 1, 1000)
    plain = gradients(e.sgvb_a, model, q, "reparameterized", 1, 1000)
    assert float(stl.abs().max()) < 1e-12
    assert float(plain.var(0).max()) > 1e-3


def test_doubly_reparameterized_gradient(pair: tuple[Model, Encoder]) -> None:
    """Its formula, term by term; its expectation, that of the plain gradient; its variance, lower.
    By θ the two are equal."""
    model, q = pair
    mu, logvar = spread(q, 3)
    s = e.draw(mu, logvar, 4, gradient="sticking-the-landing", seed=2)
    with torch.no_grad():  # to look at the value is no use of it
        e.doubly_reparameterized_iwae(model.log_likelihood(s.z), s)
    got = grad(
        e.doubly_reparameterized_iwae(model.log_likelihood(s.z), s).sum(),
        (mu, logvar, *model.theta),
    )
    with pytest.raises(RuntimeError, match="were used"):
        e.doubly_reparameterized_iwae(model.log_likelihood(s.z), s)

    s = e.draw(mu, logvar, 4, gradient="sticking-the-landing", seed=2)
    weights = e.log_weights(model.log_likelihood(s.z), s)
    normalized = weights.detach().softmax(0)
    by_phi = grad((normalized**2 * weights).sum(), (mu, logvar), retain_graph=True)
    by_theta = grad((normalized * weights).sum(), model.theta)
    for a, b in zip(got, (*by_phi, *by_theta), strict=True):
        torch.testing.assert_close(a, b)
    s = e.draw(mu, logvar, 4, seed=2)
    for a, b in zip(
        got[2:], grad(e.iwae(model.log_likelihood(s.z), s).sum(), model.theta), strict=True
    ):
        torch.testing.assert_close(a, b)

    n, near = 20_000, near_posterior(model)
    plain = gradients(e.iwae, model, near, "reparameterized", 16, n)
    double = gradients(e.doubly_reparameterized_iwae, model, near, "sticking-the-landing", 16, n)
    error = (plain.var(0) / n + double.var(0) / n).sqrt()
    assert bool(((plain.mean(0) - double.mean(0)).abs() < 4 * error).all())
    assert double.var(0).sum() < plain.var(0).sum()


def test_half_precision() -> None:
    mu, logvar = (torch.randn(4, 6).bfloat16().requires_grad_() for _ in range(2))
    s = e.draw(mu, logvar, 3)
    assert s.z.dtype == torch.bfloat16
    assert s.log_q.dtype == torch.float32
    bound = e.iwae(torch.randn(3, 4), s)
    assert bound.dtype == torch.float32
    assert all(g.dtype == torch.bfloat16 for g in grad(bound.sum(), (mu, logvar)))


M = torch.zeros(4, 3)
S = e.draw(M, M, 2, seed=1)
SCORE = e.draw(M, M, 1, seed=1, gradient="score")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: e.draw(M, M, 0), ValueError, "n_samples was 0"),
        (lambda: e.draw(M, M, None), TypeError, "n_samples was None"),
        (lambda: e.draw(M, M, 2, gradient="magic"), ValueError, "gradient was 'magic'"),
        (lambda: e.iwae(torch.zeros(4), S), ValueError, r"log_likelihood had shape \[4\]"),
        (lambda: e.sgvb_a(1.0, S), TypeError, "log_likelihood was a float"),
        (lambda: e.iwae(torch.zeros(1, 4), SCORE), ValueError, "gradient='score', expected one"),
        (lambda: e.score_function(torch.zeros(2, 4), S), ValueError, "'reparameterized'"),
        (lambda: e.score_function(torch.zeros(1, 4), SCORE), ValueError, "baseline was True"),
        (lambda: e.doubly_reparameterized_iwae(torch.zeros(2, 4), S), ValueError, "expected one"),
        (lambda: e.sgvb_b(torch.zeros(2, 4), torch.zeros(3)), ValueError, "log_likelihood had"),
        (lambda: e.log_evidence(lambda z: z, M, M, 5, chunk=0), ValueError, "chunk was 0"),
        (
            lambda: e.iwae(torch.zeros(2, 4), S, log_prior=lambda z: z),
            ValueError,
            r"log_prior\(z\) had shape \[2, 4, 3\], expected that of the samples, \[2, 4\]",
        ),
        (
            lambda: e.sgvb_a(torch.zeros(2, 4), S, log_prior=Normal(0.0, 1.0)),
            TypeError,
            "log_prior was a Normal, expected a function of z",
        ),
    ],
)
def test_errors(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_names() -> None:
    for name in e.__all__:
        assert getattr(vae_ext.estimators, name).__doc__
