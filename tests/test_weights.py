"""Masks and weights of elements: every function that has them, from the table of cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import vae_ext
from tests.cases import REDUCING, REDUCTIONS, Case, wanted
from vae_ext.distributions import DiagonalGaussian

WEIGHTED = [c for c in REDUCING if c.measured]  # not the bounded KL, which is a distribution's
cases = pytest.mark.parametrize("case", WEIGHTED, ids=repr)
REFUSED = -7.0  # no probability, and no count


def garbage(case: Case, inputs: list[Tensor], mask: Tensor, what: float) -> list[Tensor]:
    """The inputs with rubbish where the mask is False."""
    filled = [torch.where(mask, t, what) for t in inputs]
    return case.leaves(filled)


def gradients(case: Case, leaves: list[Tensor], **options: Any) -> tuple[Tensor, list[Tensor]]:
    value = case.function(*leaves, **options)
    weights = torch.linspace(1, 2, value.numel()).view(value.shape)
    return value, list(torch.autograd.grad((value * weights).sum(), wanted(leaves)))


@cases
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_against_the_elements(case: Case, reduction: str) -> None:
    inputs = case.leaves(case.inputs((3, 4, 5)))
    weights = torch.rand(4, 1, dtype=torch.float64)
    weights[1] = 0
    terms = case.elementwise(*inputs) * weights
    by_hand = {
        "none": terms,
        "event": terms.sum((1, 2)),
        "sum": terms.sum(),
        "mean": terms.sum() / weights.expand(3, 4, 5).sum(),
        "batchmean": terms.sum() / 3,
    }[reduction]
    got = case.function(*inputs, weights=weights, reduction=reduction)
    torch.testing.assert_close(got, by_hand)
    found, expected = (
        torch.autograd.grad(y.cos().sum(), wanted(inputs), retain_graph=True)
        for y in (got, by_hand)
    )
    torch.testing.assert_close(found, expected)


@cases
@pytest.mark.parametrize("reduction", ["event", "sum", "mean", "batchmean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_changes_no_bit(case: Case, reduction: str, dtype: torch.dtype) -> None:
    """Sequences of 3 to 90 steps, padded to 90 with what would be seen."""
    lengths = [3, 90, 41]
    steps = torch.arange(90).view(1, 90, 1)
    mask = steps < torch.tensor(lengths).view(3, 1, 1)
    inputs = [t.to(dtype) for t in case.inputs((3, 90, 7))]
    alone = []
    for i, n in enumerate(lengths):
        leaves = case.leaves([t[i : i + 1, :n].contiguous() for t in inputs])
        alone.append(gradients(case, leaves, event_dims=2, reduction="event"))
    for what in (float("nan"), float("inf"), REFUSED, 1e30):
        padded = garbage(case, inputs, mask, what)
        value, grads = gradients(case, padded, event_dims=2, weights=mask, reduction="event")
        assert torch.equal(value, torch.cat([v for v, _ in alone]))
        for gradient in grads:
            assert not gradient[~mask.expand_as(gradient)].any()
        if reduction != "event":  # in the forward pass
            value, grads = gradients(case, padded, event_dims=2, weights=mask, reduction=reduction)
            clean = garbage(case, inputs, mask, 1.0)
            want = gradients(case, clean, event_dims=2, weights=mask, reduction=reduction)
            assert torch.equal(value, want[0])
            torch.testing.assert_close(grads, want[1], rtol=0, atol=0)
        # Row by row the incoming gradient is another: 1 for an event alone.
        ones = case.function(*padded, event_dims=2, weights=mask, reduction="event").sum()
        grads = list(torch.autograd.grad(ones, wanted(padded)))
        for i, n in enumerate(lengths):
            for gradient, want_alone in zip(grads, alone[i][1], strict=True):
                assert torch.equal(gradient[i, :n], want_alone[0])


@cases
def test_rows_and_one_element_for_all(case: Case) -> None:
    """Gradients that the kernel sums leave out what is left out."""
    mask = torch.rand(6, 9) < 0.5
    inputs = case.inputs((6, 9))
    rows = [t[:1] if i > 1 else t for i, t in enumerate(inputs)]
    one = [t[:1, :1] if i > 1 else t for i, t in enumerate(inputs)]
    for few in (rows, one):
        dirty = [torch.where(mask, t, float("nan")) if i < 2 else t for i, t in enumerate(few)]
        for reduction in ("event", "mean"):
            got = gradients(case, case.leaves(dirty), weights=mask, reduction=reduction)
            clean = [torch.where(mask, t, 1.0) if i < 2 else t for i, t in enumerate(few)]
            leaves = case.leaves(clean)
            terms = case.elementwise(*leaves)
            total = torch.where(mask, terms, 0.0).sum(1) if reduction == "event" else None
            mean = terms[mask].mean() if total is None else total
            by = torch.linspace(1, 2, mean.numel()).view(mean.shape)
            want = torch.autograd.grad((mean * by).sum(), wanted(leaves))
            torch.testing.assert_close(got[0], mean)
            torch.testing.assert_close(got[1], list(want))


@cases
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_derivatives_by_weights(case: Case, reduction: str) -> None:
    leaves = case.leaves(case.inputs((2, 3)))
    weights = torch.rand(3, dtype=torch.float64).add_(0.1).requires_grad_()

    def function(*t: Tensor) -> Tensor:
        *inputs, w = t
        return case.function(*inputs, weights=w, reduction=reduction)

    assert gradcheck(function, (*leaves, weights), atol=1e-4, rtol=1e-3)
    assert gradgradcheck(function, (*leaves, weights), atol=1e-4, rtol=1e-3)


@cases
def test_what_is_left_out_has_no_gradient_by_its_weight(case: Case) -> None:
    leaves = garbage(case, case.inputs((2, 3)), torch.tensor([True, True, False]), float("nan"))
    weights = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        case.function(*leaves, weights=weights, reduction="sum"), weights
    )
    assert torch.equal(gradient == 0, torch.tensor([False, False, True]))
    assert gradient.isfinite().all()


@cases
def test_what_is_left_out_has_none_of_an_infinite_one(case: Case) -> None:
    """Nor is it NaN, as the product of 0 with what came in would be."""
    inputs = case.leaves(case.inputs((2, 3)))
    weights = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).requires_grad_()
    got = case.function(*inputs, weights=weights, reduction="none")
    incoming = torch.ones(2, 3, dtype=torch.float64)
    incoming[:, 1] = torch.inf
    (found,) = torch.autograd.grad(got, weights, incoming)
    assert found[1] == 0
    assert found[::2].isfinite().all()


@cases
def test_a_mask_in_other_dtypes(case: Case) -> None:
    inputs = [t.float() for t in case.inputs((4, 5))]
    mask = torch.rand(4, 5) < 0.5
    want = case.function(*inputs, weights=mask)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        got = case.function(*inputs, weights=mask.to(dtype))
        assert torch.equal(got, want)
        assert got.dtype == torch.float32
    elements = case.function(*[t.bfloat16() for t in inputs], weights=mask, reduction="none")
    assert elements.dtype == torch.bfloat16
    assert not elements[~mask].any()


@cases
def test_nothing_is_left(case: Case) -> None:
    inputs = case.inputs((2, 3))
    nothing = torch.zeros(3, dtype=torch.bool)
    for reduction in REDUCTIONS:
        value = case.function(*inputs, weights=nothing, reduction=reduction)
        # As torch's cross entropy where all targets are ignored.
        assert value.isnan().all() if reduction == "mean" else not value.any()
    empty = [t[:0] for t in inputs]
    assert case.function(*empty, weights=nothing, reduction="mean").isnan()
    assert case.function(*empty, weights=nothing[:0].view(0, 1), reduction="sum") == 0


@cases
def test_errors(case: Case) -> None:
    inputs = case.inputs((2, 3))
    for weights, message in [
        (torch.ones(2), r"weights had shape \[2\], expected one that broadcasts"),
        (torch.ones(5, 2, 3), r"weights had shape \[5, 2, 3\], expected one that broadcasts"),
    ]:
        with pytest.raises(ValueError, match=message):
            case.function(*inputs, weights=weights)
    for weights in (torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.uint8), 0.5):
        with pytest.raises(TypeError, match=r"weights (had dtype|was a float)"):
            case.function(*inputs, weights=weights)


def test_the_loss() -> None:
    """Missing data, and a latent of which some dimensions are not there."""
    x, t, m, v = torch.randn(4, 5), torch.rand(4, 5), torch.randn(4, 3), torch.randn(4, 3)
    seen, units = torch.rand(4, 5) < 0.5, torch.tensor([1.0, 0.0, 0.5])
    dirty = [torch.where(seen, a, float("nan")).requires_grad_() for a in (x, t)]
    for reduction in ("event", "sum", "batchmean"):
        got = vae_ext.elbo_loss(
            *dirty, m, v, weights=seen, latent_weights=units, reduction=reduction
        )
        ll = vae_ext.bernoulli_log_likelihood(x, t, reduction="none") * seen
        kl = vae_ext.gaussian_kl(m, v, reduction="none") * units
        want = kl.sum(1) - ll.sum(1)
        if reduction != "event":
            want = want.sum() / (4 if reduction == "batchmean" else 1)
        torch.testing.assert_close(got, want)
        assert all(g.isfinite().all() for g in torch.autograd.grad(got.sum(), dirty))
    module = vae_ext.nn.ELBOLoss()
    torch.testing.assert_close(module(*dirty, m, v, weights=seen, latent_weights=units), got)


def test_modules_take_them() -> None:
    x, t = torch.randn(4, 5), torch.rand(4, 5)
    seen = torch.rand(4, 5) < 0.5
    got = vae_ext.nn.GaussianNLL()(x, t, weights=seen)
    want = -vae_ext.gaussian_log_likelihood(x, t, reduction="none")[seen].mean()
    torch.testing.assert_close(got, want)


def test_latents_take_them() -> None:
    m, v = torch.randn(4, 5, 3), torch.randn(4, 5, 3)
    mask = torch.rand(4, 5, 1) < 0.5
    want = vae_ext.gaussian_kl(m, v, weights=mask)
    q = DiagonalGaussian(m, v)
    latent = vae_ext.nn.GaussianLatent()
    learned = vae_ext.nn.GaussianLatent((3,))
    z = vae_ext.reparameterize(m, v, seed=3)
    for got_z, got in (
        vae_ext.reparameterize_with_kl(m, v, seed=3, weights=mask),
        q.rsample_with_kl(seed=3, weights=mask),
        latent(m, v, seed=3, weights=mask),
        learned(m, v, seed=3, weights=mask),
        (z, q.kl(weights=mask)),
    ):
        assert torch.equal(got_z, z)
        torch.testing.assert_close(got, want)
    bounded = DiagonalGaussian(m, v, bounds=(-0.5, 0.5))
    inside = vae_ext.gaussian_kl(m, v.clamp(-0.5, 0.5), weights=mask)
    torch.testing.assert_close(bounded.kl(weights=mask), inside)
