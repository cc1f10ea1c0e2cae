"""Likelihoods of counts: the equations of docs/derivations.md, and what float32 must keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import pytest
import torch
from torch import Tensor

import vae_ext
from tests import devices
from tests import exact_counts as exact
from tests.arithmetic import Digits
from tests.exact import value
from vae_ext import negative_binomial_log_likelihood as nb
from vae_ext import negative_binomial_mixture_log_likelihood as nb_mixture
from vae_ext import poisson_log_likelihood as poisson
from vae_ext import zero_inflated_negative_binomial_log_likelihood as zinb


def f32(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


# ---- The equations -------------------------------------------------------------------------------


def log_nb(mean: Any, x: Any, theta: Any) -> Any:
    """As textbooks have it."""
    log_p = mp.loggamma(x + theta) - mp.loggamma(theta) - mp.loggamma(x + 1)
    log_p += theta * mp.log(theta / (theta + mean))
    return log_p + (x * mp.log(mean / (theta + mean)) if x else 0)


def log_zinb(mean: Any, x: Any, theta: Any, logits: Any) -> Any:
    sigmoid = 1 / (1 + mp.exp(-logits))
    inflated = sigmoid if x == 0 else 0
    return mp.log(inflated + (1 - sigmoid) * mp.exp(log_nb(mean, x, theta)))


def log_mixture(mean1: Any, x: Any, mean2: Any, theta: Any, logits: Any) -> Any:
    sigmoid = 1 / (1 + mp.exp(-logits))
    first, second = (mp.exp(log_nb(mean, x, theta)) for mean in (mean1, mean2))
    return mp.log(sigmoid * first + (1 - sigmoid) * second)


def log_poisson(rate: Any, x: Any) -> Any:
    return x * mp.log(rate) - rate - mp.loggamma(x + 1)


POINTS = [(0.7, 0, 2.5), (3.0, 7, 0.2), (40.0, 33, 1000.0), (0.01, 2, 5.0), (20.0, 0, 1.5)]
LAWS: list[tuple[Callable[..., Any], Callable[..., Any], dict[int, Callable[..., Any]], int]] = [
    (log_poisson, exact.poisson, {0: exact.poisson_drate}, 2),
    (
        log_nb,
        exact.negative_binomial,
        {0: exact.negative_binomial_dmean, 2: exact.negative_binomial_ddispersion},
        3,
    ),
    (
        log_zinb,
        exact.zero_inflated,
        {
            0: exact.zero_inflated_dmean,
            2: exact.zero_inflated_ddispersion,
            3: exact.zero_inflated_dlogits,
        },
        4,
    ),
    (
        log_mixture,
        exact.mixture,
        {
            0: exact.mixture_dmean1,
            2: exact.mixture_dmean2,
            3: exact.mixture_ddispersion,
            4: exact.mixture_dlogits,
        },
        5,
    ),
]


@pytest.mark.parametrize(
    ("law", "terms", "gradients", "n"),
    LAWS,
    ids=["Poisson", "negative binomial", "zero inflated", "mixture"],
)
def test_the_equations(
    law: Callable[..., Any],
    terms: Callable[..., Any],
    gradients: dict[int, Callable[..., Any]],
    n: int,
) -> None:
    """The deviance form is the density, and its derivatives are the density's, to 30 digits."""
    for mean, x, theta in POINTS:
        inputs = [mean, x, theta, -1.3] if n < 5 else [mean, x, 2.5 * mean + 0.3, theta, 0.8]
        point = [mp.mpf(v) for v in inputs[:n]]
        assert mp.almosteq(value(terms, Digits, *point), law(*point), 1e-30)
        for i, derivative in gradients.items():

            def along(t: Any, i: int = i, point: list[Any] = point) -> Any:
                return law(*point[:i], t, *point[i + 1 :])

            with mp.workdps(80):
                slope = mp.diff(along, point[i])
            assert mp.almosteq(value(derivative, Digits, *point), slope, 1e-25), (law, i, point)


def test_what_is_left_of_lgamma() -> None:
    """S and Q by their recurrences and their limits."""
    for y in map(mp.mpf, ("0.001", "0.3", "1", "7.5", "1e6")):
        s, q = Digits.stirling_rest(y), Digits.digamma_rest(y)
        step = (y + mp.mpf(1) / 2) * mp.log((y + 1) / y) - 1
        assert mp.almosteq(s, Digits.stirling_rest(y + 1) + step, 1e-35)
        step = mp.log((y + 1) / y) - (1 / y + 1 / (y + 1)) / 2
        assert mp.almosteq(q, Digits.digamma_rest(y + 1) + step, 1e-35)
    assert float(Digits.stirling_rest(mp.mpf(10) ** 8) * 12 * 10**8) == pytest.approx(1)
    assert float(Digits.digamma_rest(mp.mpf(10) ** 8) * -12 * 10**16) == pytest.approx(1)


# ---- float32 -------------------------------------------------------------------------------------


def grid() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means, counts and dispersions over the ranges that models have; which counts are typical."""
    generator = devices.generator().manual_seed(0)
    rows = []
    for log_mean in range(-4, 6):
        for log_theta in range(-3, 7):
            jitter = torch.rand(2, generator=generator).mul(0.7).add(0.7)
            mean, theta = (f32(10.0**log_mean, 10.0**log_theta) * jitter).tolist()
            spread = math.sqrt(mean + mean**2 / theta)
            counts = {0, 1, 3, 10, 100, 1000, 10**5}
            counts |= {max(0, int(mean + k * spread)) for k in (-2, -0.5, 0, 0.5, 2, 4)}
            for x in sorted(counts):
                if x <= 2 * 10**5:
                    rows.append((mean, x, theta, abs(x - mean) <= 5 * spread + 1))
    columns = zip(*rows, strict=True)
    mean, x, theta, typical = (torch.tensor(c) for c in columns)
    return mean, x.float(), theta, typical


def test_over_all_dispersions(simd: str) -> None:
    mean, x, theta, typical = grid()
    mean.requires_grad_()
    theta.requires_grad_()
    log_p = nb(mean, x, theta, reduction="none")
    by_mean, by_theta = torch.autograd.grad(log_p.sum(), (mean, theta))
    points = list(zip(*(t.detach().tolist() for t in (mean, x, theta)), strict=True))

    def of(terms: Callable[..., Any]) -> Tensor:
        found = [float(value(terms, Digits, *map(mp.mpf, p))) for p in points]
        return torch.tensor(found, dtype=torch.float64)

    values, slopes = of(exact.negative_binomial), of(exact.negative_binomial_ddispersion)
    off = (log_p.detach().double() - values).abs()
    assert float(off[typical].max()) <= 2e-5
    assert float((off / values.abs()).max()) <= 8 * 2.0**-24
    scaled = ((by_theta.double() - slopes) * theta.detach().double()).abs()
    assert float(scaled[typical].max()) <= 1.1e-5
    large = typical & (theta > 2e3)
    assert torch.equal(by_theta[large].sign().double(), slopes[large].sign())
    exactly = of(exact.negative_binomial_dmean)
    assert float(((by_mean.double() - exactly) / exactly).abs().max()) <= 8 * 2.0**-24


def test_known_values(simd: str) -> None:
    value = nb(f32(105.52288818), f32(95), f32(1252766), reduction="sum")
    assert float(value) == pytest.approx(-3.73979227, abs=3e-7)
    value = zinb(f32(1e-5), f32(0), f32(1), f32(-20), reduction="sum")
    assert float(value) == pytest.approx(-9.99994973e-6, rel=2e-7)


def test_limits(simd: str) -> None:
    """A mean of 0, no dispersion at all, and an infinite mean of the logits."""
    zero, one, five = f32(0), f32(1), f32(5)
    for function in (nb, lambda m, x, t, **how: zinb(m, x, t, f32(-200), **how)):
        assert function(zero, zero, one).item() == 0
        assert function(zero, five, one).item() == -math.inf
        assert function(five, zero, zero).item() == 0
    mean = zero.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nb(mean, zero, one).sum(), mean)
    assert slope.item() == -1
    many = nb(five, f32(7), f32(1e30))
    torch.testing.assert_close(many, poisson(five, f32(7)))
    assert poisson(zero, zero).item() == 0
    assert poisson(zero, five).item() == -math.inf
    # Where the rate has underflowed, and the probabilities.
    low = poisson(log_rate=f32(-150), target=f32(3))
    assert low.item() == pytest.approx(-450 - math.log(6))
    for sign, x in ((-1, 3), (1, 0)):
        law = nb(logits=f32(sign * 150), total_count=f32(2), target=f32(x))
        wide = nb(
            logits=torch.tensor([sign * 150.0]).double(),
            total_count=torch.tensor([2.0]).double(),
            target=f32(x),
        )
        assert law.item() == pytest.approx(wide.item(), rel=1e-6)
        assert law.item() < -250


def test_a_mixture_near_0_keeps_its_digits(simd: str) -> None:
    """Zeros that are nearly certain: relative to the value, not to the logit's size."""
    tiny = torch.logspace(-12, -3, 40, dtype=torch.float32)[:, None].expand(40, 21)
    logits = torch.linspace(-8, 8, 21).expand(40, 21)
    zero, theta = torch.zeros(40, 21), torch.full((40, 21), 2.0)
    weight = torch.sigmoid(logits.double())

    def missing(mean: Tensor) -> Tensor:
        return torch.expm1(-2 * torch.log1p(mean.double() / 2))

    inflated = zinb(tiny, zero, theta, logits, reduction="none")
    exact_inflated = torch.log1p((1 - weight) * missing(tiny))
    torch.testing.assert_close(inflated.double(), exact_inflated, rtol=1e-5, atol=0)
    two = nb_mixture(tiny, zero, 0.3 * tiny, theta, logits, reduction="none")
    exact_two = torch.log1p(weight * missing(tiny) + (1 - weight) * missing(0.3 * tiny))
    torch.testing.assert_close(two.double(), exact_two, rtol=1e-5, atol=0)


def test_parameters_that_make_no_sense_are_nan() -> None:
    for bad in (-1.0, math.nan):
        for x in (0.0, 2.0):
            assert nb(f32(bad), f32(x), f32(1)).isnan()
            assert nb(f32(1), f32(x), f32(bad)).isnan()
            assert zinb(f32(1), f32(x), f32(bad), f32(0)).isnan()
            assert poisson(f32(bad), f32(x)).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_forms_agree(dtype: torch.dtype) -> None:
    mean = (0.5 + 10 * torch.rand(6, 90)).to(dtype).requires_grad_()
    log_theta = torch.randn(90).to(dtype).requires_grad_()
    x, logits = torch.poisson(5 * torch.rand(6, 90)), torch.randn(6, 90).to(dtype)

    def results(value: Tensor) -> tuple[Tensor, ...]:
        return value, *torch.autograd.grad(value.sum(), (mean, log_theta))

    for function, more in ((nb, {}), (zinb, {"zero_logits": logits})):
        plain = results(function(mean, x, log_theta.exp(), **more))
        for other in (
            results(function(mean, x, log_dispersion=log_theta, **more)),
            results(
                function(
                    target=x,
                    total_count=log_theta.exp(),
                    logits=mean.log() - log_theta,
                    **more,
                )
            ),
        ):
            torch.testing.assert_close(other, plain, rtol=2e-5, atol=2e-5)
    second = nb_mixture(mean, x, 2 * mean, log_dispersion=log_theta, mixture_logits=logits)
    first = nb_mixture(mean, x, 2 * mean, log_theta.exp(), logits)
    torch.testing.assert_close(results(second), results(first), rtol=2e-5, atol=2e-5)
    log_rate = poisson(log_rate=mean.log(), target=x)
    torch.testing.assert_close(log_rate, poisson(mean, x), rtol=2e-5, atol=2e-5)


def test_what_torch_leaves_out_of_a_poisson() -> None:
    """As docs/cpu.md says of F.poisson_nll_loss: Stirling's series after its leading terms."""
    two = torch.full((1,), 2.0)
    theirs = -torch.nn.functional.poisson_nll_loss(two, two, log_input=False, full=True)
    ours = vae_ext.poisson_log_likelihood(two, two, event_dims=0, reduction="sum")
    assert abs(float(theirs - ours)) == pytest.approx(0.041, abs=5e-4)
