"""Several samples with their log-densities in one op: against the reference and PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.distributions import Normal

import vae_ext
from tests import oracle as reference
from tests.layouts import LAYOUTS
from vae_ext import _draw
from vae_ext import estimators as e
from vae_ext._checks import GRADIENTS
from vae_ext._native import dispatch

Leaves = tuple[Tensor, Tensor]
SHAPES = [(), (0,), (0, 3), (3, 0), (41,), (4, 401), (300, 7), (3, 1271), (2, 3, 5, 7), (2, 40000)]


def leaves(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Leaves:
    mu, logvar = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(2))
    return mu, logvar


def outputs_and_gradients(mu: Tensor, logvar: Tensor, n_samples: int, **options: object) -> list:
    s = e.draw(mu, logvar, n_samples, **options)  # type: ignore[arg-type]
    torch.manual_seed(1)
    # The same numbers in every dtype.
    incoming = [(torch.randn(t.shape) * 16).round().div(16).to(t.dtype) for t in s[:3]]
    pairs = [(t, g) for t, g in zip(s[:3], incoming, strict=True) if t.requires_grad]
    found = grad([t for t, _ in pairs], (mu, logvar), [g for _, g in pairs])
    return [t.detach() for t in (*s[:3], *found)]


@pytest.fixture
def through_reference(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    def run(*args: object, **options: object) -> list:
        with monkeypatch.context() as m:
            m.setattr(_draw, "route", lambda _: dispatch.REFERENCE)
            return outputs_and_gradients(*args, **options)  # type: ignore[arg-type]

    return run


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parity(
    shape: tuple[int, ...], gradient: str, simd: str, through_reference: Callable[..., list]
) -> None:
    """Every shape of events and number of samples, against the reference in float64."""
    for n_samples, event_dims in ((1, None), (5, 0), (16, len(shape)), (3, None)):
        mu, logvar = leaves(shape)
        options = {"gradient": gradient, "seed": 3, "event_dims": event_dims}
        got = outputs_and_gradients(mu, logvar, n_samples, **options)
        wide = tuple(t.detach().double().requires_grad_() for t in (mu, logvar))
        want = through_reference(*wide, n_samples, **options)
        batch = shape[:1] if event_dims is None else shape[: len(shape) - event_dims]
        assert got[0].shape == (n_samples, *shape)
        assert got[1].shape == got[2].shape == (n_samples, *batch)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == torch.float32
            torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_dtypes(dtype: torch.dtype, gradient: str, through_reference: Callable[..., list]) -> None:
    """Half precision rounds z and the gradients, and not what the densities are computed from."""
    mu, logvar = leaves((3, 500), dtype)
    got = outputs_and_gradients(mu, logvar, 4, gradient=gradient, seed=3)
    wide = tuple(t.detach().double().requires_grad_() for t in (mu, logvar))
    want = through_reference(*wide, 4, gradient=gradient, seed=3)
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    assert [t.dtype for t in got] == [dtype, arithmetic, arithmetic, dtype, dtype]
    tolerance = {torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        rtol = 1e-12 if dtype == torch.float64 else 1e-6
        if i in (1, 2):
            torch.testing.assert_close(a.double(), b, rtol=rtol, atol=0)
        else:
            torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


def test_the_reference_is_the_definition(through_reference: Callable[..., list]) -> None:
    """With torch.distributions, and detach() where something stands still."""
    mu, logvar = leaves((4, 6), torch.float64)
    noise = torch.randn(3, 4, 6, dtype=torch.float64)
    for gradient in GRADIENTS:
        z = mu + torch.exp(0.5 * logvar) * noise
        parameters = (mu, logvar)
        if gradient == "score":
            z = z.detach()
        if gradient == "sticking-the-landing":
            parameters = (mu.detach(), logvar.detach())
        log_q = Normal(parameters[0], torch.exp(0.5 * parameters[1])).log_prob(z).sum(-1)
        log_p = Normal(0.0, 1.0).log_prob(z).sum(-1)
        torch.manual_seed(1)
        incoming = [
            (torch.randn(t.shape) * 16).round().div(16).to(t.dtype) for t in (z, log_q, log_p)
        ]
        loss = sum((t * g).sum() for t, g in zip((z, log_q, log_p), incoming, strict=True))
        first = grad(loss, (mu, logvar), create_graph=True)  # type: ignore[arg-type]
        want = [t.detach() for t in (z, log_q, log_p, *first)]
        for run in (outputs_and_gradients, through_reference):
            got = run(mu, logvar, 3, gradient=gradient, noise=noise)
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        # And once more differentiated, what stands still still standing.
        s = e.draw(mu, logvar, 3, gradient=gradient, noise=noise)
        loss = sum((t * g).sum() for t, g in zip(s[:3], incoming, strict=True))
        ours = grad(loss, (mu, logvar), create_graph=True)  # type: ignore[arg-type]
        second = [grad(sum(g.square().sum() for g in gs), (mu, logvar)) for gs in (ours, first)]
        for a, b in zip(*second, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradcheck() -> None:
    mu, logvar = leaves((2, 3), torch.float64)
    for broadcast in (logvar, logvar[0], logvar[0, 0]):
        lv = broadcast.detach().requires_grad_()
        assert gradcheck(lambda m, v: e.draw(m, v, 3, seed=1)[:3], (mu, lv))
        assert gradgradcheck(lambda m, v: e.draw(m, v, 3, seed=1)[:3], (mu, lv))
    noise = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda m, v, n: e.draw(m, v, 3, noise=n)[:3], (mu, logvar, noise))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: Callable[[Tensor], Tensor]) -> None:
    plain = leaves((2, 3, 5, 7))
    strided = tuple(layout(t.detach()).requires_grad_() for t in plain)
    for gradient in GRADIENTS:
        a = outputs_and_gradients(*plain, 5, gradient=gradient, seed=7)
        b = outputs_and_gradients(*strided, 5, gradient=gradient, seed=7)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_noise_is_that_of_reparameterize(simd: str) -> None:
    for shape in ((3, 5), (2, 1271)):
        mu, logvar = leaves(shape)
        for options in ({"seed": 4, "stream": 2}, {"seed": torch.tensor(4)}):
            s = e.draw(mu, logvar, 6, **options)
            assert torch.equal(s.z, vae_ext.reparameterize(mu, logvar, n_samples=6, **options))
        torch.manual_seed(3)
        a = e.draw(mu, logvar, 6).z
        torch.manual_seed(3)
        assert torch.equal(a, vae_ext.reparameterize(mu, logvar, n_samples=6))


def test_log_q_is_that_of_the_noise(simd: str) -> None:
    """Where σ is small beside mu, z has lost the noise, and (z − mu) / σ is nothing."""
    mu = torch.full((1, 4096), 1000.0)
    logvar = torch.full_like(mu, -30.0)
    s = e.draw(mu, logvar, 2, seed=1)
    eps = vae_ext.standard_normal(2, 1, 4096, seed=1).double()
    want = -0.5 * (math.log(2 * math.pi) - 30 + eps**2).sum(-1)
    torch.testing.assert_close(s.log_q.double(), want, rtol=5e-7, atol=0)
    lost = Normal(mu, torch.exp(0.5 * logvar)).log_prob(s.z).sum(-1)
    assert not torch.allclose(lost.double(), want, rtol=1e-2)


def test_special_values(simd: str, through_reference: Callable[..., list]) -> None:
    inf, nan = math.inf, math.nan
    logvar = torch.tensor([[inf], [-inf], [nan], [200.0], [-200.0], [0.0], [0.0]])
    mu = torch.tensor([[0.0], [1.0], [0.0], [0.0], [0.0], [nan], [inf]])
    noise = torch.full((1, 7, 1), 0.5)
    for s in (
        e.draw(mu, logvar, 1, noise=noise),
        reference.sample_with_log_densities(
            mu, logvar, n_samples=1, gradient="reparameterized", noise=noise
        ),
    ):
        z, log_q, log_p = (t.flatten().tolist() for t in s[:3])
        assert z[:2] == [inf, 1.0]
        assert log_q[:2] == [-inf, inf]
        assert log_p[0] == -inf
        assert math.isnan(z[2])
        assert math.isnan(log_q[2])
        assert log_q[3] == pytest.approx(-0.5 * (math.log(2 * math.pi) + 200.25))
        assert log_q[4] == pytest.approx(-0.5 * (math.log(2 * math.pi) - 199.75))
        assert math.isnan(log_p[5])
        assert log_q[5] == log_q[6] == pytest.approx(-0.5 * (math.log(2 * math.pi) + 0.25))
        assert (z[6], log_p[6]) == (inf, -inf)
    # A density that nothing uses has no say, whatever it would have said.
    tiny = torch.full((1, 8), -200.0, requires_grad=True)
    m = torch.zeros(1, 8, requires_grad=True)
    s = e.draw(m, tiny, 2, seed=1, gradient="sticking-the-landing")
    assert all(bool(g.isfinite().all()) for g in grad(s.z.sum(), (m, tiny)))


def test_unused_outputs_and_inputs() -> None:
    mu, logvar = leaves((4, 6), torch.float64)
    for i in range(3):
        s = e.draw(mu, logvar, 2, seed=1)
        torch.manual_seed(0)
        incoming = [torch.randn(t.shape).to(t.dtype) * (j == i) for j, t in enumerate(s[:3])]
        alone = grad(s[i], (mu, logvar), incoming[i], retain_graph=True)
        for a, b in zip(alone, grad(s[:3], (mu, logvar), incoming), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    for wanted in ((mu, logvar.detach()), (mu.detach(), logvar)):
        s = e.draw(*wanted, 2, seed=1)
        [one] = grad(s.log_p.sum(), [t for t in wanted if t.requires_grad])
        both = e.draw(mu, logvar, 2, seed=1)
        index = 0 if wanted[0].requires_grad else 1
        assert torch.equal(one, grad(both.log_p.sum(), (mu, logvar))[index])
    score = e.draw(mu, logvar, 2, seed=1, gradient="score")
    assert [t.requires_grad for t in score[:3]] == [False, True, False]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_compiled(gradient: str) -> None:
    mu, logvar = leaves((4, 6))

    def step(mu: Tensor, logvar: Tensor) -> Tensor:
        s = e.draw(mu, logvar, 3, gradient=gradient)
        return s.z.sin().sum() + (s.log_q * s.log_p.cos()).sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.manual_seed(5)
    want = grad(step(mu, logvar), (mu, logvar))
    torch.manual_seed(5)
    got = grad(compiled(mu, logvar), (mu, logvar))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_doubly_reparameterized_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[Tensor]:
        mu, logvar = leaves((4, 6), torch.float64)
        s = e.draw(mu, logvar, 3, seed=1, gradient="sticking-the-landing")
        bound = e.doubly_reparameterized_iwae(-(s.z**2).sum(-1), s)
        return [bound.detach(), *grad(bound.sum(), (mu, logvar))]

    torch.manual_seed(2)
    native = found()
    monkeypatch.setattr(_draw, "route", lambda _: dispatch.REFERENCE)
    torch.manual_seed(2)
    for a, b in zip(native, found(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_transforms() -> None:
    mu, logvar = leaves((4, 6))

    def loss(m: Tensor) -> Tensor:
        return e.draw(m, logvar.detach(), 2, seed=1).log_p.sum()

    torch.testing.assert_close(torch.func.grad(loss)(mu.detach()), grad(loss(mu), mu)[0])
