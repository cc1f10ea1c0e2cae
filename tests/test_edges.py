"""Where the usual formulas go wrong: cancellation, overflow, infinities and NaN."""

from __future__ import annotations

import itertools
import math
from types import ModuleType

import mpmath
import pytest
import torch
from torch import Tensor

import vae_ext
from tests import devices
from tests import oracle as reference
from tests.cases import REDUCING, Case

inf, nan = math.inf, math.nan
MODULES = [vae_ext, reference]


def f32(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def ulps(actual: Tensor, exact: list[mpmath.mpf]) -> float:
    """The largest error in units of the last place of the float32 result."""
    worst = 0.0
    for got, want in zip(actual.tolist(), exact, strict=True):
        spacing = 2.0 ** max(math.frexp(float(want))[1] - 24, -149)
        worst = max(worst, float(abs(mpmath.mpf(got) - want)) / spacing)
    return worst


def test_kl_near_zero(simd: str) -> None:
    """½ (mu² + e^lv − 1 − lv) has lost every digit at lv = 1e-4."""
    logvar = torch.cat([torch.logspace(-18, 1.9, 400), -torch.logspace(-18, 1.9, 400)])
    mu = torch.logspace(-12, 3, 800).flip(0)
    kl = vae_ext.gaussian_kl(mu, logvar, reduction="none")
    with mpmath.workdps(60):
        exact = [
            (mpmath.mpf(m) ** 2 + mpmath.expm1(mpmath.mpf(v)) - mpmath.mpf(v)) / 2
            for m, v in zip(mu.tolist(), logvar.tolist(), strict=True)
        ]
    assert ulps(kl, exact) <= 4
    zero_mu = vae_ext.gaussian_kl(torch.zeros_like(mu), logvar, reduction="none")
    with mpmath.workdps(60):
        exact = [(mpmath.expm1(mpmath.mpf(v)) - mpmath.mpf(v)) / 2 for v in logvar.tolist()]
    assert ulps(zero_mu, exact) <= 4
    assert float(zero_mu.min()) >= 0


def test_kl_gradient(simd: str) -> None:
    logvar = torch.cat([torch.logspace(-30, 1.94, 500), -torch.logspace(-30, 2, 500)])
    logvar.requires_grad_()
    mu = torch.logspace(-30, 18, 1000, requires_grad=True)
    kl = vae_ext.gaussian_kl(mu, logvar, reduction="sum")
    dmu, dlogvar = torch.autograd.grad(kl, (mu, logvar))
    assert torch.equal(dmu, mu.detach())
    with mpmath.workdps(60):
        exact = [mpmath.expm1(mpmath.mpf(v)) / 2 for v in logvar.tolist()]
    assert ulps(dlogvar, exact) <= 2


def test_bernoulli(simd: str) -> None:
    """Cross-entropy with logits says 0 at (−20, 0)."""
    size = torch.cat([torch.logspace(-12, 2, 300), torch.tensor([1e3, 1e4])])
    x = torch.cat([size, -size])
    for t in (0.0, 1.0, 0.3, 1e-3, 0.999):
        target = torch.full_like(x, t)
        ll = vae_ext.bernoulli_log_likelihood(x, target, reduction="none")
        with mpmath.workdps(60):
            exact = []
            for v in x.tolist():
                v, p = mpmath.mpf(v), mpmath.mpf(float(target[0]))
                exact.append(
                    -(p * mpmath.log1p(mpmath.exp(-v)) + (1 - p) * mpmath.log1p(mpmath.exp(v)))
                )
        assert ulps(ll, exact) <= 4


def test_bernoulli_gradient(simd: str) -> None:
    size = torch.logspace(-6, 1.9, 300)
    x = torch.cat([size, -size]).requires_grad_()
    for t in (0.0, 1.0):
        ll = vae_ext.bernoulli_log_likelihood(x, torch.full_like(x, t), reduction="sum")
        (grad,) = torch.autograd.grad(ll, x)
        with mpmath.workdps(60):
            exact = [t - 1 / (1 + mpmath.exp(-mpmath.mpf(v))) for v in x.tolist()]
        assert ulps(grad, exact) <= 4


def test_continuous_bernoulli(simd: str) -> None:
    """Near logits of 0 the usual normalizer is 0 / 0, and far out densities are large."""
    size = torch.cat([torch.logspace(-30, 2, 400), torch.tensor([1.9999, 2.0, 2.0001, 1e4])])
    x = torch.cat([size, -size]).requires_grad_()
    for t in (0.0, 1.0, 0.5, 0.3, 1e-3, 0.999):
        target = torch.full_like(x, t)
        ll = vae_ext.continuous_bernoulli_log_likelihood(x, target, reduction="none")
        (slope,) = torch.autograd.grad(ll.sum(), x)
        for v, found, by_x in zip(x.tolist(), ll.tolist(), slope.tolist(), strict=True):
            with mpmath.workdps(120):
                p, v = mpmath.mpf(float(target[0])), mpmath.mpf(v)
                linear, height = p * v, mpmath.log(mpmath.expm1(v) / v)
                mean = 1 / (1 - mpmath.exp(-v)) - 1 / v
                half = min(abs(v), 2)  # of either sign in both, and cancels
                size_of = abs(linear - height) + abs((0.5 - p) * half) + half * half / 24
                assert abs(found - (linear - height)) <= 8 * 2.0**-24 * size_of + 2.0**-149, (v, t)
                assert abs(by_x - (p - mean)) <= 8 * 2.0**-24 * max(p, mean), (v, t)
    ll = vae_ext.continuous_bernoulli_log_likelihood(
        f32(0, 0, math.inf, -math.inf, math.inf, -math.inf),
        f32(0.3, 1, 1, 0, 0.5, 0.5),
        reduction="none",
    )
    assert ll.tolist() == [0, 0, math.inf, math.inf, -math.inf, -math.inf]


@pytest.mark.parametrize("module", MODULES)
def test_large_finite_values(module: ModuleType) -> None:
    """Finite wherever the exact value is representable."""

    def kl(*t: Tensor) -> float:
        return float(module.gaussian_kl(*t, reduction="sum"))

    def gaussian(*t: Tensor) -> float:
        return float(module.gaussian_log_likelihood(*t, reduction="sum"))

    # exp(89) and 2e19 squared overflow float32; half of either does not.
    assert kl(f32(0), f32(89)) == pytest.approx(0.5 * math.exp(89), rel=2e-5)
    assert kl(f32(2e19), f32(0)) == pytest.approx(2e38, rel=1e-6)
    # The variance underflows, the standard score does not.
    assert kl(f32(1e-30), f32(-200), f32(0), f32(-200)) == pytest.approx(
        0.5 * (1e-30 * math.exp(100)) ** 2, rel=2e-5
    )
    assert gaussian(f32(0), f32(1e-40), f32(-120.0)) == pytest.approx(
        -0.5 * (-120 + math.log(2 * math.pi)), rel=1e-6
    )
    assert gaussian(f32(0), f32(1e-30), f32(-200.0)) == pytest.approx(
        -0.5 * ((1e-30 * math.exp(100)) ** 2 - 200 + math.log(2 * math.pi)), rel=2e-5
    )
    z = module.reparameterize(f32(0), f32(178), noise=f32(1e-3))
    assert float(z) == pytest.approx(1e-3 * math.exp(89), rel=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("module", MODULES)
def test_infinities_give_limits(module: ModuleType, dtype: torch.dtype) -> None:
    def none(function: str, *tensors: Tensor) -> list[float]:
        out: Tensor = getattr(module, function)(*(t.to(dtype) for t in tensors), reduction="none")
        return out.tolist()  # type: ignore[no-any-return]

    # The KL grows without bound in every direction.
    assert none("gaussian_kl", f32(inf, -inf, 0, 0, inf), f32(0, 0, inf, -inf, -inf)) == [inf] * 5
    # q or p degenerate, the other not.
    zero = f32(0, 0)
    assert none("gaussian_kl", zero, f32(-inf, inf), zero, zero) == [inf] * 2
    # An infinite logit: certain and right, certain and wrong, undecided.
    x = f32(inf, -inf, inf, -inf, inf, -inf)
    t = f32(1, 0, 0, 1, 0.5, 0.5)
    assert none("bernoulli_log_likelihood", x, t) == [0, 0, -inf, -inf, -inf, -inf]
    # A variance of 0 at a target that is met or missed, and an infinite one.
    mean, target, logvar = f32(0, 0, 0), f32(1, 0, 1), f32(-inf, -inf, inf)
    assert none("gaussian_log_likelihood", mean, target, logvar) == [-inf, inf, -inf]
    mu, logvar, noise = (t.to(dtype) for t in (f32(1.5, 2.5), f32(-inf, inf), f32(3, 0)))
    z = module.reparameterize(mu, logvar, noise=noise)
    assert z.tolist() == [1.5, 2.5]


@pytest.mark.parametrize("case", REDUCING, ids=repr)
def test_nan_goes_through(case: Case) -> None:
    for i in range(len(case.arguments)):
        tensors = [t.float() for t in case.inputs((5,))]
        tensors[i][2] = nan
        for function in (case.function, case.oracle):
            out = function(*tensors, event_dims=0, reduction="none")
            assert out.isnan().tolist() == [False, False, True, False, False]
    one, bad = f32(1.0), f32(nan)
    for module in MODULES:
        for a, b in ((bad, one), (one, bad)):
            assert module.reparameterize(a, b, noise=one).isnan().all()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    """As torch: sums are 0, means NaN."""
    t = torch.zeros(shape, requires_grad=True)
    for case in REDUCING:
        function = case.function
        tensors = [t.detach() if name in case.fixed else t for name in case.arguments]
        with torch.no_grad():
            assert float(function(*tensors, reduction="sum")) == 0
            assert math.isnan(float(function(*tensors, reduction="mean")))
            if shape == (3, 0):
                assert float(function(*tensors, reduction="batchmean")) == 0
        events = function(*tensors)
        assert torch.equal(events, torch.zeros(shape[:1] if len(shape) > 1 else shape))
        (grad,) = torch.autograd.grad(function(*tensors, reduction="sum"), t)
        assert grad.shape == shape
    assert vae_ext.reparameterize(t, t).shape == shape
    assert vae_ext.reparameterize(t, t, n_samples=2).shape == (2, *shape)


@pytest.mark.parametrize("df", [0.5, 1.0, 30.0])
def test_student_t_of_subnormal_distances(df: float, simd: str) -> None:
    """Whose share of the scale is large: their logarithm is taken, and must be there."""
    distance, log_scale = torch.meshgrid(
        f32(1e-45, 3e-42, 1e-39, 1e-37), f32(-200, -150, -125, -110, -95, -80), indexing="ij"
    )
    inputs = [torch.zeros_like(distance), distance, torch.full_like(distance, df), log_scale]
    got, want = (
        vae_ext.student_t_log_likelihood(*(t.to(d) for t in inputs), reduction="none").double()
        for d in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(got, want, rtol=2e-6, atol=1e-5)


def test_half_precision_does_not_overflow() -> None:
    """exp(20) is inf in float16: the logvar clamp of the usual autoencoders does not protect."""
    logvar = torch.full((1, 4), 20.0, dtype=torch.float16)
    kl = vae_ext.gaussian_kl(torch.zeros_like(logvar), logvar)
    assert float(kl) == pytest.approx(4 * 0.5 * (math.exp(20) - 21), rel=1e-6)
    many = torch.ones(1, 100_000, dtype=torch.float16)
    assert float(vae_ext.gaussian_kl(many, torch.zeros_like(many))) == 50_000


def test_kl_beside_samples(simd: str) -> None:
    """The pass that samples, too, has the KL to 4 ulp, or 8 on a card."""
    near = torch.logspace(-30, 1.63, 300_001, dtype=torch.float64).float()
    first, last = torch.tensor([0.25, 4.0]).view(torch.int32).tolist()
    # Where the reduction of the exponent changes.
    seams = torch.arange(first, last, 11, dtype=torch.int32).view(torch.float32)
    logvar = torch.cat([near, -near, seams, -seams])
    _, kl = vae_ext.reparameterize_with_kl(
        torch.zeros_like(logvar), logvar, seed=0, event_dims=0, reduction="none"
    )
    exact = reference.gaussian_kl(
        torch.zeros(()).double(), logvar.double(), event_dims=0, reduction="none"
    )
    spacing = torch.exp2((torch.frexp(exact)[1] - 24).double()).clamp(min=2.0**-149)
    most = 8 if devices.machine_code else 4
    assert float(((kl.double() - exact).abs() / spacing).max()) <= most
    assert float(kl.min()) >= 0


def test_samples_are_those_without_the_kl(simd: str) -> None:
    mu, logvar = torch.randn(2, 50_001), 3 * torch.randn(2, 50_001)
    z, _ = vae_ext.reparameterize_with_kl(mu, logvar, seed=4)
    assert torch.equal(z, vae_ext.reparameterize(mu, logvar, seed=4))
    logvar[0, 7] = 300.0  # a tile with an exponent that needs the long exp
    z, _ = vae_ext.reparameterize_with_kl(mu, logvar, seed=4)
    assert torch.equal(z, vae_ext.reparameterize(mu, logvar, seed=4))


TINY = 1.1754944e-38  # the smallest float32 that is not subnormal
AMOUNTS = [0.0, TINY, 0.3, 1.0, nan]
LOGITS = [0.0, 0.3, 88.0, 200.0, 1e18, inf, -0.3, -88.0, -200.0, -1e18, -inf, nan]


def kinds(values: Tensor) -> Tensor:
    return values.isnan() * 2 + values.isinf() * values.sign()


@pytest.mark.parametrize("op", REDUCING, ids=repr)
def test_edges_of_every_argument_with_every_other(op: Case, simd: str) -> None:
    """NaN, inf or a number, where float64 has it: no NaN of one argument hides behind another."""
    values = [AMOUNTS if a in op.makes else LOGITS for a in op.arguments]
    columns = zip(*itertools.product(*values), strict=True)
    tensors = [torch.tensor(column, dtype=torch.float32) for column in columns]
    got = op.function(*tensors, event_dims=0, reduction="none")
    want = op.oracle(*(t.double() for t in tensors), event_dims=0, reduction="none")
    assert torch.equal(kinds(got), kinds(want.float()))
