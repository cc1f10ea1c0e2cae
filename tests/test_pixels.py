"""Pixels as mixtures of discretized logistic densities: a bin, mixtures, and samples of them."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

import vae_ext
from tests import devices
from tests.accuracy.measure import evaluate
from tests.arithmetic import Digits
from tests.group_cases import BIN, usual
from vae_ext import discretized_logistic_mixture_log_likelihood as mixture
from vae_ext._reference import groups

U = 2.0**-24


def bins() -> list[tuple[float, float, float]]:
    generator = torch.Generator("cpu").manual_seed(0)
    pixels = [0, 1, 127, 128, 254, 255]
    found = []
    for s in (-7.0, -6.9, -6.2, -5.0, -4.45, -4.4, -3.0, -1.0, 0.0, 1.0, 3.0, 5.0):
        for pixel in pixels:
            x = torch.tensor(pixel / 127.5 - 1, dtype=torch.float64).float().item()
            far = torch.empty(6, dtype=torch.float64, device="cpu").uniform_(
                -2, 2, generator=generator
            )
            near = x + torch.randn(
                6, dtype=torch.float64, device="cpu", generator=generator
            ) * math.exp(s)
            means = torch.cat((far, near.clamp(-30, 30), torch.tensor([x]))).float().tolist()
            found += [(x, mean, s) for mean in means]
    return [(x, mean, torch.tensor(s).item()) for x, mean, s in found]


def test_bins_are_exact(simd: str) -> None:
    """By 50 digits: each error relative to the sum of its absolute terms, and what rounding makes
    of them where they are the tail of an exponential."""
    chosen = bins()
    x, mean, s = (torch.tensor(t) for t in zip(*chosen, strict=True))
    limit = 16 if devices.cuda_kernels else 8
    for quantity, by in BIN.quantities:
        got = evaluate(BIN.elementwise, [mean, x, s], by)
        worst = 0.0
        for i, (x_i, *parameters) in enumerate(chosen):
            inputs = [mpmath.mpf(n) for n in (parameters[0], x_i, parameters[1])]
            exact = quantity.value(Digits, *inputs)
            error = abs(mpmath.mpf(got[i].item()) - exact) - 2.0**-110  # what exp(-86) is here
            if error > 0:
                worst = max(worst, float(error / (U * quantity.size(Digits, *inputs))))
        assert worst <= limit, quantity.name


def test_a_known_value(simd: str) -> None:
    """A pixel far from a narrow density, where the difference of sigmoids is 0 and the usual code
    takes the density in the bin's middle: -1949.855."""
    parameters = torch.tensor([[0.0, 1.78, -7.0]])
    assert mixture(parameters, torch.zeros(1, 1)).item() == pytest.approx(-1947.70665, abs=2e-4)


def usual_mixture(parameters: Tensor, x: Tensor) -> Tensor:
    """One channel, as PixelCNN++ has it."""
    logits, means, s = parameters.chunk(3, 1)
    of_bins = usual(means, x, s.clamp(min=-7.0))
    return torch.logsumexp(of_bins + logits.log_softmax(1), 1)


def test_gradients_of_narrow_densities() -> None:
    """Where the usual code has two digits."""
    x = torch.randint(1, 255, (2000, 1)) / 127.5 - 1
    s = -5 + 0.1 * torch.randn(2000, 5)
    means = x + 0.2 * torch.randn(2000, 5)
    parameters = torch.cat((torch.randn(2000, 5), means, s), 1)

    def gradient(function: Any, dtype: torch.dtype) -> Tensor:
        leaf = parameters.to(dtype).requires_grad_()
        (found,) = torch.autograd.grad(function(leaf, x.to(dtype)).sum(), leaf)
        return found.double()

    want = gradient(lambda p, t: mixture(p, t, reduction="none"), torch.float64)
    error = lambda g: float((g - want).norm() / want.norm())  # noqa: E731
    assert error(gradient(lambda p, t: mixture(p, t, reduction="none"), torch.float32)) < 1e-5
    assert error(gradient(usual_mixture, torch.float32)) > 1e-3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mixtures", [1, 2, 10])
@pytest.mark.parametrize("shape", [(3,), (2, 5, 7), (4, 1, 33), (2, 150)])
def test_mixtures(channels: int, mixtures: int, shape: tuple[int, ...], simd: str) -> None:
    b, *rest = shape
    n = mixtures * (3 if channels == 1 else 10)
    parameters = torch.randn(b, n, *rest, dtype=torch.float64)
    target = (torch.randint(0, 256, (b, channels, *rest)) / 127.5 - 1).double()
    x = parameters.float().requires_grad_()
    got = mixture(x, target.float(), reduction="none")
    leaf = x.detach().double().requires_grad_()
    terms = groups.discretized_logistic_mixture_terms
    want = terms(leaf.movedim(1, 0), target.float().double().movedim(1, 0), 256, -7.0)
    g = torch.randn(want.shape, dtype=torch.float64)
    (d,) = torch.autograd.grad(got, x, g.float())
    (wanted,) = torch.autograd.grad(want, leaf, g.float().double())
    torch.testing.assert_close(got.double(), want, rtol=3e-6, atol=3e-6)
    torch.testing.assert_close(d.double(), wanted, rtol=3e-5, atol=3e-5)
    double = mixture(leaf, target.float().double(), reduction="none")
    torch.testing.assert_close(double, want, rtol=1e-13, atol=1e-13)
    (d,) = torch.autograd.grad(double, leaf, g.float().double())
    torch.testing.assert_close(d, wanted, rtol=1e-11, atol=1e-11)


def test_bytes_are_pixels() -> None:
    parameters, pixels = torch.randn(2, 20, 6, 6), torch.randint(0, 256, (2, 3, 6, 6))
    for levels in (256, 32):
        data = pixels % levels
        got = mixture(parameters, data.to(torch.uint8), levels=levels, reduction="none")
        x = (data.double() * (2 / (levels - 1)) - 1).float()
        torch.testing.assert_close(got, mixture(parameters, x, levels=levels, reduction="none"))


@pytest.mark.parametrize("levels", range(2, 257))
def test_every_byte_is_a_pixel(levels: int) -> None:
    """The last is 1 exactly, and so is no target out of range, however a processor rounds."""
    data = torch.arange(levels, dtype=torch.uint8)
    parameters = torch.tensor([0.0, 0.1, -1.0])[:, None].expand(1, 3, levels)
    got = mixture(parameters, data[None, None], levels=levels, reduction="none")
    x = torch.linspace(-1, 1, levels, dtype=torch.float64).float()
    torch.testing.assert_close(
        got, mixture(parameters, x[None, None], levels=levels, reduction="none")
    )


def test_log_scales_below_the_least() -> None:
    parameters = torch.tensor([[0.0, 0.1, -8.0]], requires_grad=True)
    x = torch.tensor([[0.1]])
    value = mixture(parameters, x)
    (gradient,) = torch.autograd.grad(value.sum(), parameters)
    at_least = torch.tensor([[0.0, 0.1, -7.0]])
    torch.testing.assert_close(value, mixture(at_least, x))
    assert gradient[0, 2] == 0
    assert mixture(parameters, x, min_log_scale=-9.0) > value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_special_values(dtype: torch.dtype, simd: str) -> None:
    """NaN for NaN, the limit at infinity, and no NaN for any finite parameters."""
    numbers = [0.0, -0.0, 1e-45, 1.0, -7.0, 88.0, -1e4, 3e38, -3e38, math.inf, -math.inf, math.nan]
    grid = torch.cartesian_prod(
        torch.tensor(numbers, dtype=dtype), torch.tensor(numbers, dtype=dtype)
    )
    mean, log_scale = grid.unbind(1)
    for x in (-1.0, 0.0, 1.0):
        parameters = torch.stack((torch.zeros_like(mean), mean, log_scale), 1).requires_grad_()
        target = torch.full((len(mean), 1), x, dtype=dtype)
        value = mixture(parameters, target, reduction="none")
        (gradient,) = torch.autograd.grad(value.sum(), parameters)
        any_nan = grid.isnan().any(1)
        assert value[any_nan].isnan().all()
        assert not value[~any_nan & grid.isfinite().all(1)].isnan().any()
        assert (value[~any_nan & mean.isfinite()] <= 0).all()
        # A density far away leaves the inner bins nothing, and an edge all or nothing.
        away = mean.isinf() & (log_scale.abs() < 80)
        want = torch.where(mean[away].sign() == x, 0.0, -math.inf).to(dtype)
        torch.testing.assert_close(value[away], want)
        ordinary = (mean.abs() <= 1e4) & (log_scale.abs() <= 88)
        assert gradient[ordinary].isfinite().all()


def test_probabilities_of_all_pixels_add_up() -> None:
    """Of one channel, the 256 of them."""
    parameters = torch.randn(1, 15, dtype=torch.float64).expand(256, 15)
    pixels = torch.arange(256, dtype=torch.uint8)[:, None]
    log_p = mixture(parameters, pixels, reduction="none")
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("channels", "levels"), [(1, 8), (3, 3)])
def test_samples(channels: int, levels: int) -> None:
    """As often as the likelihood says, within five standard errors."""
    n, generator = 200_000, torch.Generator(devices.device()).manual_seed(1)
    one = torch.randn(1, 20 if channels == 3 else 6)
    of_pixels = {"levels": levels, "min_log_scale": -2.0}
    x = vae_ext.sample_discretized_logistic_mixture(
        one.expand(n, -1), channels=channels, generator=generator, **of_pixels
    )
    assert x.shape == (n, channels)
    bins = ((x.double() + 1) * ((levels - 1) / 2)).round().long()
    assert bins.min() >= 0
    assert bins.max() < levels
    powers = levels ** torch.arange(channels)
    found = torch.bincount((bins * powers).sum(1), minlength=levels**channels) / n
    outcomes = torch.arange(levels**channels)[:, None] // powers % levels
    every = (outcomes * (2 / (levels - 1)) - 1).float()
    p = mixture(one.expand(len(every), -1), every, reduction="none", **of_pixels).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert ((found - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-6).all()
    last = torch.randn(2, 4, 20).bfloat16()
    drawn = vae_ext.sample_discretized_logistic_mixture(last, dim=-1)
    assert drawn.shape == (2, 4, 3)
    assert drawn.dtype == torch.bfloat16


def test_samples_in_every_mode() -> None:
    """Compiled at several batch sizes, exported, under vmap; of nothing, and with NaN in it."""
    sample = vae_ext.sample_discretized_logistic_mixture
    compiled = torch.compile(sample, fullgraph=True, backend="aot_eager")
    for b in (2, 5, 1, 7, 0):
        parameters = torch.randn(b, 20, 4)
        for function in (sample, compiled):
            drawn = function(parameters)
            assert drawn.shape == (b, 3, 4)
            assert bool((drawn.abs() <= 1).all())

    class Sampler(torch.nn.Module):
        def forward(self, parameters: Tensor) -> Tensor:
            return sample(parameters)

    parameters = torch.randn(3, 20, 4)
    exported = torch.export.export(Sampler(), (parameters,)).module()
    assert exported(parameters).shape == (3, 3, 4)
    batched = torch.func.vmap(lambda p: sample(p, dim=0), randomness="different")(parameters)
    assert batched.shape == (3, 3, 4)
    assert not torch.equal(sample(parameters), sample(parameters))
    parameters[1] = math.nan
    assert sample(parameters).isnan().flatten(1).all(1).tolist() == [False, True, False]
