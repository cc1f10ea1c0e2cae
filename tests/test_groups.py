"""Likelihoods of elements that have several parameters: against exact values, in every layout and
dtype, with what is left out, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

import vae_ext
from tests import devices
from vae_ext import categorical_log_likelihood as categorical
from vae_ext import discretized_logistic_mixture_log_likelihood as mixture
from vae_ext._reference import groups

U = 2.0**-24
HALF = 1 / mpmath.mpf(255)


def exact(x: float) -> Any:
    return mpmath.mpf(x)


# ---- A bin -------------------------------------------------------------------------------------


def bin_terms(x: float, mean: float, s: float) -> tuple[list[Any], list[Any], list[Any], Any]:
    """The terms of log p of a bin, of its derivative by the mean and by the log-scale; last how
    much larger the error of an exponential is than that of its argument."""
    # The pixel that x stands for: float32 has no 1 / 255.
    c = exact(x) - exact(mean)
    half = HALF
    inverse, first, last = mpmath.exp(-exact(s)), x < -0.999, x > 0.999
    a, b, delta = (c + half) * inverse, (c - half) * inverse, 2 * half * inverse
    sigmoid = lambda y: 1 / (1 + mpmath.exp(-y))  # noqa: E731
    softplus = lambda y: mpmath.log1p(mpmath.exp(y)) if y < 0 else y + mpmath.log1p(mpmath.exp(-y))  # noqa: E731
    value = [] if last else [-softplus(-a)]
    value += [] if first else [-softplus(b)]
    by_mean = [] if last else [-inverse * sigmoid(-a)]
    by_mean += [] if first else [inverse * sigmoid(b)]
    # a and b are sums themselves, of what c and half a bin are to the scale.
    by_scale = [] if last else [-y * inverse * sigmoid(-a) for y in (c, half)]
    by_scale += [] if first else [y * inverse * sigmoid(b) for y in (c, -half)]
    if not (first or last):
        value.append(mpmath.log(-mpmath.expm1(-delta)))
        by_scale.append(-delta / mpmath.expm1(delta))
    return value, by_mean, by_scale, 1 + min(abs(a), abs(b)) / 4


def bins() -> list[tuple[float, float, float]]:
    generator = torch.Generator("cpu").manual_seed(0)
    pixels = [0, 1, 127, 128, 254, 255]
    found = []
    for s in (-7.0, -6.9, -6.2, -5.0, -4.45, -4.4, -3.0, -1.0, 0.0, 1.0, 3.0, 5.0):
        for pixel in pixels:
            x = torch.tensor(pixel / 127.5 - 1, dtype=torch.float64).float().item()
            far = torch.empty(6, dtype=torch.float64).uniform_(-2, 2, generator=generator)
            near = x + torch.randn(6, dtype=torch.float64, generator=generator) * math.exp(s)
            means = torch.cat((far, near.clamp(-30, 30), torch.tensor([x]))).float().tolist()
            found += [(x, mean, s) for mean in means]
    return [(x, mean, torch.tensor(s).item()) for x, mean, s in found]


def test_bins_are_exact(simd: str) -> None:
    """Each error relative to the sum of its absolute terms, and what rounding makes of them where
    they are the tail of an exponential."""
    chosen = bins()
    x, mean, s = (torch.tensor(t) for t in zip(*chosen, strict=True))
    parameters = torch.stack((torch.zeros_like(x), mean, s), 1).requires_grad_()
    value = mixture(parameters, x[:, None], reduction="none")
    (gradient,) = torch.autograd.grad(value.sum(), parameters)
    worst = [0.0, 0.0, 0.0]
    for i, case in enumerate(chosen):
        got = (value[i], gradient[i, 1], gradient[i, 2])
        *quantities, growth = bin_terms(*case)
        for k, terms in enumerate(quantities):
            error = abs(exact(got[k].item()) - sum(terms)) - 2.0**-110  # what exp(-86) is here
            size = U * sum(abs(t) for t in terms) * growth
            if error > 0:
                worst[k] = max(worst[k], float(error / size))
    limit = 16 if devices.cuda_kernels else 8
    assert worst[0] <= limit, worst
    assert max(worst[1:]) <= limit, worst


def test_a_known_value(simd: str) -> None:
    """A pixel far from a narrow density, where the difference of sigmoids is 0 and the usual code
    takes the density in the bin's middle: -1949.855."""
    parameters = torch.tensor([[0.0, 1.78, -7.0]])
    assert mixture(parameters, torch.zeros(1, 1)).item() == pytest.approx(-1947.70665, abs=2e-4)


def usual(parameters: Tensor, x: Tensor) -> Tensor:
    """One channel, as PixelCNN++ has it."""
    logits, means, s = parameters.chunk(3, 1)
    s = s.clamp(min=-7.0)
    c, inverse = x - means, torch.exp(-s)
    plus, minus, middle = inverse * (c + 1 / 255), inverse * (c - 1 / 255), inverse * c
    softplus = torch.nn.functional.softplus
    delta = plus.sigmoid() - minus.sigmoid()
    density = middle - s - 2 * softplus(middle) - math.log(127.5)
    inner = torch.where(delta > 1e-5, delta.clamp(min=1e-12).log(), density)
    edges = torch.where(x > 0.999, -softplus(minus), inner)
    of_bins = torch.where(x < -0.999, plus - softplus(plus), edges)
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
    assert error(gradient(usual, torch.float32)) > 1e-3


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


def test_log_scales_below_the_least() -> None:
    parameters = torch.tensor([[0.0, 0.1, -8.0]], requires_grad=True)
    x = torch.tensor([[0.1]])
    value = mixture(parameters, x)
    (gradient,) = torch.autograd.grad(value.sum(), parameters)
    at_least = torch.tensor([[0.0, 0.1, -7.0]])
    torch.testing.assert_close(value, mixture(at_least, x))
    assert gradient[0, 2] == 0
    assert mixture(parameters, x, min_log_scale=-9.0) > value


def test_probabilities_of_all_pixels_add_up() -> None:
    """Of one channel, the 256 of them."""
    parameters = torch.randn(1, 15, dtype=torch.float64).expand(256, 15)
    pixels = torch.arange(256, dtype=torch.uint8)[:, None]
    log_p = mixture(parameters, pixels, reduction="none")
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


# ---- Classes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 40, 256])
@pytest.mark.parametrize("shape", [(3,), (2, 5, 7), (2, 130)])
def test_classes(classes: int, shape: tuple[int, ...], simd: str) -> None:
    b, *rest = shape
    logits = (4 * torch.randn(b, classes, *rest)).requires_grad_()
    target = torch.randint(0, classes, shape)
    for dim in (1, -1):
        x = logits if dim == 1 else logits.detach().movedim(1, -1).contiguous().requires_grad_()
        got = categorical(x, target, dim=dim, reduction="none")
        leaf = logits.detach().double().requires_grad_()
        want = groups.categorical_terms(leaf.movedim(1, 0), target)
        g = torch.randn(want.shape, dtype=torch.float64)
        (d,) = torch.autograd.grad(got, x, g.float())
        (wanted,) = torch.autograd.grad(want, leaf, g.float().double())
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(d.movedim(dim, 1).double(), wanted, rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(
        want, -torch.nn.functional.cross_entropy(leaf, target, reduction="none")
    )


@pytest.mark.parametrize("dim", [1, -1])
def test_what_is_nearly_certain(dim: int, simd: str) -> None:
    """Value and gradient are what the other classes have, which cross-entropy rounds away."""
    for gap in (10.0, 20.0, 40.0, 80.0):
        logits = torch.zeros(1, 40, 1)
        logits[0, 7] = gap
        x = (logits if dim == 1 else logits.movedim(1, -1).contiguous()).requires_grad_()
        value = categorical(x, torch.full((1, 1), 7), dim=dim)
        (d,) = torch.autograd.grad(value.sum(), x)
        others = 39 * mpmath.exp(-gap)
        assert value.item() == pytest.approx(float(-mpmath.log1p(others)), rel=5e-7)
        rest = float(others / (1 + others))
        assert d.flatten()[7].item() == pytest.approx(rest, rel=5e-7)
        assert d.flatten()[0].item() == pytest.approx(-rest / 39, rel=5e-7)


@pytest.mark.parametrize("dim", [1, -1])
def test_classes_that_are_ruled_out(dim: int, simd: str) -> None:
    logits = torch.randn(2, 40, 3)
    logits[:, ::2] = -math.inf
    x = (logits if dim == 1 else logits.movedim(1, -1).contiguous()).requires_grad_()
    value = categorical(x, torch.ones(2, 3, dtype=torch.int64), dim=dim, reduction="none")
    (d,) = torch.autograd.grad(value.sum(), x)
    want = logits.log_softmax(1)[:, 1]
    torch.testing.assert_close(value, want)
    assert torch.isfinite(d).all()
    assert (d.movedim(dim, 1)[:, ::2] == 0).all()
    ruled_out = categorical(x.detach(), torch.zeros(2, 3, dtype=torch.int64), dim=dim)
    assert (ruled_out == -math.inf).all()


# ---- What both do ------------------------------------------------------------------------------


def both(dtype: torch.dtype = torch.float32) -> list[tuple[Any, Tensor, Tensor]]:
    logits = torch.randn(3, 30, 5, 6).to(dtype)
    return [
        (categorical, logits, torch.randint(0, 30, (3, 5, 6))),
        (mixture, logits, torch.randint(0, 256, (3, 3, 5, 6), dtype=torch.uint8)),
        (mixture, logits, torch.rand(3, 1, 5, 6).to(dtype)),
    ]


def gradient(function: Any, x: Tensor, target: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    value = function(leaf, target, **options)
    (found,) = torch.autograd.grad(value.sum(), leaf)
    return value, found


@pytest.mark.parametrize("reduction", ["event", "sum", "mean", "batchmean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_reductions(reduction: str, dtype: torch.dtype) -> None:
    for function, x, target in both(dtype):
        elements, of_elements = gradient(function, x, target, reduction="none")
        value, found = gradient(function, x, target, reduction=reduction)
        wide = function(x.double(), target.double() if target.is_floating_point() else target)
        divisor = {"mean": elements.numel(), "batchmean": len(x)}.get(reduction, 1)
        want = wide if reduction == "event" else wide.sum() / divisor
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert elements.dtype == dtype
        torch.testing.assert_close(value.double(), want, rtol=1e-5, atol=1e-5)
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-6}.get(dtype, 1e-2)
        torch.testing.assert_close(
            found.double(), of_elements.double() / divisor, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_layouts(dtype: torch.dtype) -> None:
    """The same numbers wherever they lie; gradients lie as the parameters do."""
    for function, x, target in both(dtype):
        want = gradient(function, x, target, reduction="none")
        last = x.to(memory_format=torch.channels_last)
        wider = torch.randn(3, 60, 5, 12).to(dtype)
        wider[:, 1::2, :, ::2] = x
        for same in (last, wider[:, 1::2, :, ::2], x.transpose(2, 3).contiguous().transpose(2, 3)):
            got = gradient(function, same, target, reduction="none")
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)
        assert gradient(function, last, target)[1].is_contiguous(memory_format=torch.channels_last)
        moved = [t.movedim(1, -1) if t.ndim == 4 else t for t in (x, target)]
        got = gradient(function, moved[0], moved[1], dim=-1, reduction="none")
        torch.testing.assert_close(got[0], want[0], rtol=2e-6, atol=2e-6)
        torch.testing.assert_close(got[1].movedim(-1, 1), want[1], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("reduction", ["none", "event", "mean"])
def test_what_is_left_out(reduction: str) -> None:
    mask = torch.rand(3, 5, 6) < 0.5
    for function, x, target in both():
        value, found = gradient(function, x, target, weights=mask, reduction=reduction)
        elements, of_elements = gradient(function, x, target, reduction="none")
        kept = elements.masked_fill(~mask, 0.0)
        want = {"none": kept, "event": kept.flatten(1).sum(1), "mean": kept.sum() / mask.sum()}
        torch.testing.assert_close(value, want[reduction], rtol=1e-5, atol=1e-5)
        divisor = float(mask.sum()) if reduction == "mean" else 1
        left = of_elements.masked_fill(~mask[:, None], 0.0) / divisor
        torch.testing.assert_close(found, left, rtol=1e-5, atol=1e-6)
        out = ~mask[:, None]
        garbage = x.masked_fill(out, math.nan)
        refused = target.masked_fill(
            ~mask if target.ndim == 3 else out, -100 if target.dtype != torch.uint8 else 7
        )
        for moved in (False, True):
            if moved:  # another way through the kernels
                garbage = garbage.to(memory_format=torch.channels_last)
            got = gradient(function, garbage, refused, weights=mask, reduction=reduction)
            torch.testing.assert_close(got[0], value)
            torch.testing.assert_close(got[1], found, rtol=2e-6, atol=1e-6)


def test_weights_have_gradients() -> None:
    for function, x, target in both(torch.float64):
        w = torch.rand(3, 1, 6, dtype=torch.float64, requires_grad=True)
        value = function(x, target, weights=w)
        (found,) = torch.autograd.grad(value.sum(), w)
        want = function(x, target, reduction="none").sum(1, keepdim=True)
        torch.testing.assert_close(found, want)


def test_second_derivatives_and_gradcheck() -> None:
    for function, x, target in both(torch.float64):
        small = x[:1, :, :1, :2].clone().requires_grad_()
        data = target[:1, ..., :1, :2] if target.ndim == 4 else target[:1, :1, :2]

        def of(p: Tensor, function: Any = function, data: Tensor = data) -> Tensor:
            value: Tensor = function(p, data % 30 if data.dtype == torch.int64 else data)
            return value

        assert torch.autograd.gradcheck(of, small)
        assert torch.autograd.gradgradcheck(of, small)


def test_nothing() -> None:
    for function, x, target in both():
        assert function(x[:0], target[:0]).shape == (0,)
        value, found = gradient(function, x[:0], target[:0], reduction="sum")
        assert value == 0
        assert found.shape == x[:0].shape


def test_targets_that_are_refused() -> None:
    for function, x, target in both():
        if target.dtype == torch.uint8:
            continue
        for bad in (-1, 30) if function is categorical else (-1.01, 1.01):
            wrong = target.clone()
            wrong[0, ..., 0] = bad
            for options in ({}, {"reduction": "mean"}):
                if not devices.cuda_kernels:
                    with pytest.raises(ValueError, match="target had the value"):
                        function(x, wrong, **options)
                    with pytest.raises(ValueError, match="target had the value"):
                        function(x.clone().requires_grad_(), wrong, **options)
                else:
                    assert function(x, wrong, **options).isnan().any()


def test_errors() -> None:
    logits, target = torch.randn(2, 5, 3), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"target had shape \[3, 3\], expected that of logits"):
        categorical(logits, torch.zeros(3, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"target had dtype torch\.float32, expected one of"):
        categorical(logits, target.float())
    with pytest.raises(ValueError, match="dim was 3, expected a dimension of logits"):
        categorical(logits, target, dim=3)
    with pytest.raises(ValueError, match="logits had 0 classes in dimension 1"):
        categorical(logits[:, :0], target)
    x = torch.rand(2, 3, 3)
    with pytest.raises(ValueError, match="parameters had 5 entries in dimension 1, expected a mul"):
        mixture(logits, x)
    with pytest.raises(ValueError, match="target had 2 channels in dimension 1, expected 1 or 3"):
        mixture(torch.randn(2, 20, 3), x[:, :2])
    with pytest.raises(ValueError, match=r"target had shape \[2, 3, 2\], expected that of"):
        mixture(torch.randn(2, 20, 3), x[..., :2])
    with pytest.raises(ValueError, match="levels was 1, expected 2 to 65536"):
        mixture(torch.randn(2, 20, 3), x, levels=1)
    with pytest.raises(ValueError, match="target required a gradient, expected data"):
        mixture(torch.randn(2, 20, 3), x.requires_grad_())
    with pytest.raises(ValueError, match="weights had shape"):
        categorical(logits, target, weights=torch.ones(4, 3))
    with pytest.raises(ValueError, match="event_dims was 3, expected 0 to 2"):
        categorical(logits, target, event_dims=3)


def test_the_loss() -> None:
    mu, logvar = torch.randn(3, 4), torch.randn(3, 4)
    kl = vae_ext.gaussian_kl(mu, logvar)
    for function, x, target in both():
        name = function.__name__.removesuffix("_log_likelihood")
        got = vae_ext.elbo_loss(x, target, mu, logvar, likelihood=name, reduction="event")
        torch.testing.assert_close(got, kl - function(x, target))
        samples = torch.stack((x, 2 * x))
        mean = (function(x, target) + function(2 * x, target)) / 2
        for reduction, want in (
            ("event", kl - mean),
            ("sum", (kl - mean).sum()),
            ("batchmean", (kl - mean).mean()),
        ):
            got = vae_ext.elbo_loss(
                samples, target, mu, logvar, likelihood=name, reduction=reduction
            )
            torch.testing.assert_close(got, want)
            module = vae_ext.nn.ELBOLoss(name, reduction=reduction)
            torch.testing.assert_close(module(samples, target, mu, logvar), want)
    narrow = vae_ext.elbo_loss(
        *(x, target, mu, logvar),
        likelihood="discretized_logistic_mixture",
        obs_levels=32,
        reduction="event",
    )
    torch.testing.assert_close(narrow, kl - mixture(x, target, levels=32))
    with pytest.raises(TypeError, match="obs_logvar was given, expected obs_levels or obs_min"):
        vae_ext.elbo_loss(
            *(x, target, mu, logvar), likelihood="discretized_logistic_mixture", obs_logvar=1.0
        )


def test_modules() -> None:
    for function, x, target in both():
        name = "Categorical" if function is categorical else "DiscretizedLogisticMixture"
        module = getattr(vae_ext.nn, f"{name}NLL")()
        torch.testing.assert_close(module(x, target), -function(x, target, reduction="mean"))
        assert repr(module).startswith(f"{name}NLL(dim=1, ")
