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
