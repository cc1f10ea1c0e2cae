"""Values and gradients against the reference in float64, in every dtype, reduction and shape."""

from __future__ import annotations

import pytest
import torch

import vae_ext
from tests import oracle as reference
from tests.cases import REDUCING, REDUCTIONS, SHAPES, Case, wanted
from tests.row import made_of
from tests.tolerances import (
    DTYPES,
    ROUNDING,
    assert_within,
    elementwise_tolerance,
    reduced_tolerance,
)
from vae_ext._formulas import LIKELIHOODS, Likelihood

ROUNDINGS = 8  # of float32 values, in units of 2^-24 of their magnitudes


def result_dtype(dtype: torch.dtype, reduction: str) -> torch.dtype:
    half = dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if half and reduction != "none" else dtype


def check(
    op: Case,
    inputs: list[torch.Tensor],
    dtype: torch.dtype,
    reduction: str,
    event_dims: int | None = None,
) -> None:
    leaves = op.leaves(t.to(dtype) for t in inputs)
    exact = op.leaves(t.double() for t in leaves)
    out = op.function(*leaves, event_dims=event_dims, reduction=reduction)
    want = op.oracle(*exact, event_dims=event_dims, reduction=reduction)
    assert out.dtype == result_dtype(dtype, reduction)

    with torch.no_grad():
        terms = op.magnitude(*exact)
        magnitude = reference.reduce(terms, event_dims, reduction, torch.float64)
    if reduction == "none":
        tolerance = elementwise_tolerance(dtype, ROUNDINGS)
    else:
        tolerance = max(reduced_tolerance(dtype), elementwise_tolerance(out.dtype, ROUNDINGS))
    assert_within(out.detach(), want.detach(), magnitude, tolerance)

    grad = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
    grads = torch.autograd.grad(out, wanted(leaves), grad)
    wants = torch.autograd.grad(want, wanted(exact), grad.double())
    # What the reduction multiplies each element's derivative by.
    (weight,) = torch.autograd.grad(
        reference.reduce(
            ones := torch.ones_like(terms).requires_grad_(), event_dims, reduction, torch.float64
        ),
        ones,
        grad.double(),
    )
    with torch.no_grad():
        sizes = zip(op.gradient_magnitudes(*exact), leaves, strict=True)
    pairs = [(size, leaf) for size, leaf in sizes if leaf.requires_grad]
    for got, expected, (size, leaf) in zip(grads, wants, pairs, strict=True):
        assert got.dtype == leaf.dtype
        # One more rounding where a mean's factor multiplies the gradient.
        tolerance = elementwise_tolerance(dtype, op.gradient_roundings + 2)
        if dtype is torch.float64:
            tolerance *= op.oracle_roundings
        # The gradients of a scalar are stored before the incoming one is known.
        if reduction in ("sum", "mean", "batchmean"):
            tolerance += 1.02 * ROUNDING[dtype]
        assert_within(got, expected, size * weight.abs(), tolerance, op.floor)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("op", REDUCING, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradients(
    op: Case, shape: tuple[int, ...], reduction: str, dtype: torch.dtype
) -> None:
    check(op, op.inputs(shape), dtype, reduction)


@pytest.mark.parametrize("op", REDUCING, ids=repr)
@pytest.mark.parametrize("event_dims", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_event_dims(op: Case, event_dims: int, reduction: str) -> None:
    check(op, op.inputs((2, 3, 5, 7)), torch.float32, reduction, event_dims)


@pytest.mark.parametrize("op", REDUCING, ids=repr)
def test_vector_tails(op: Case, simd: str) -> None:
    """Every length that a vector loop can leave over, at every instruction set."""
    for n in range(68):
        for dtype in (torch.float32, torch.bfloat16):
            check(op, op.inputs((n,)), dtype, "none")
            check(op, op.inputs((2, n)), dtype, "event")


@pytest.mark.parametrize("op", REDUCING, ids=repr)
@pytest.mark.parametrize("event", [1, 2, 19, 20, 63, 64, 511, 512, 513, 8191, 8192, 8193, 100_000])
def test_event_sizes(op: Case, event: int) -> None:
    """Events within a tile, across tiles and units of work, and larger than those."""
    check(op, op.inputs((max(2, 20_000 // event), event)), torch.float32, "event")


@pytest.mark.parametrize(
    ("mu", "logvar", "dtype"),
    [
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.float16, torch.float16, torch.float16),
    ],
)
def test_mixed_dtypes_promote(mu: torch.dtype, logvar: torch.dtype, dtype: torch.dtype) -> None:
    m = torch.randn(4, 6).to(mu).requires_grad_()
    v = torch.randn(4, 6).to(logvar).requires_grad_()
    kl = vae_ext.gaussian_kl(m, v, reduction="none")
    assert kl.dtype == dtype
    exact = reference.gaussian_kl(m.double(), v.double(), reduction="none")
    assert_within(kl.detach(), exact.detach(), exact.detach(), elementwise_tolerance(dtype, 8))
    kl.sum().backward()
    assert m.grad is not None
    assert v.grad is not None
    assert (m.grad.dtype, v.grad.dtype) == (mu, logvar)
    z = vae_ext.reparameterize(m, v, seed=1)
    assert z.dtype == dtype


def test_half_logits_with_float_images() -> None:
    """The usual state of things under autocast."""
    logits = torch.randn(3, 8).bfloat16().requires_grad_()
    images = torch.rand(3, 8)
    ll = vae_ext.bernoulli_log_likelihood(logits, images)
    exact = reference.bernoulli_log_likelihood(logits.double(), images.double())
    assert_within(ll.detach(), exact.detach(), exact.detach().abs(), 5e-7)
    ll.sum().backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_binary_targets(dtype: torch.dtype) -> None:
    x = torch.randn(5, 33, requires_grad=True)
    t = (torch.rand(5, 33) < 0.5).to(dtype)
    ll = vae_ext.bernoulli_log_likelihood(x, t)
    same = vae_ext.bernoulli_log_likelihood(x, t.float())
    assert torch.equal(ll, same)
    assert torch.equal(torch.autograd.grad(ll.sum(), x)[0], torch.autograd.grad(same.sum(), x)[0])


def test_gaussian_with_a_number_and_a_learned_scalar() -> None:
    mean, target = torch.randn(4, 50, requires_grad=True), torch.randn(4, 50)
    for value in (0.0, -1.5, 2):
        ll = vae_ext.gaussian_log_likelihood(mean, target, value)
        exact = torch.distributions.Normal(mean.double(), torch.tensor(value / 2).double().exp())
        assert_within(
            ll.detach(), exact.log_prob(target.double()).sum(1).detach(), ll.detach().abs(), 5e-7
        )
    for shape in ((), (1,), (1, 1)):
        logvar = torch.full(shape, -0.7, requires_grad=True)
        ll = vae_ext.gaussian_log_likelihood(mean, target, logvar, reduction="sum")
        grad = torch.autograd.grad(ll, logvar)[0]
        assert grad.shape == shape
        exact_lv = logvar.detach().double().requires_grad_()
        exact = reference.gaussian_log_likelihood(
            mean.double(), target.double(), exact_lv, reduction="sum"
        )
        want = torch.autograd.grad(exact, exact_lv)[0]
        torch.testing.assert_close(grad.double(), want, rtol=1e-6, atol=0)


def test_agrees_with_torch_distributions() -> None:
    """An oracle that shares no code with ours."""
    from torch.distributions import Normal, kl_divergence

    mu, logvar, pmu, plogvar = (torch.randn(3, 9, dtype=torch.float64) for _ in range(4))
    q = Normal(mu, (logvar / 2).exp())
    p = Normal(pmu, (plogvar / 2).exp())
    torch.testing.assert_close(
        vae_ext.gaussian_kl(mu, logvar, pmu, plogvar), kl_divergence(q, p).sum(1)
    )
    torch.testing.assert_close(
        vae_ext.gaussian_kl(mu, logvar), kl_divergence(q, Normal(0.0, 1.0)).sum(1)
    )


@pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=lambda entry: entry.name)
def test_likelihoods_agree_with_torch_distributions(likelihood: Likelihood) -> None:
    normals = torch.randn(len(likelihood.formula.arguments), 3, 9, dtype=torch.float64)
    inputs = made_of(likelihood, *normals)
    function = getattr(vae_ext, likelihood.formula.op)
    torch.testing.assert_close(function(*inputs), likelihood.usual(*inputs).sum(1))


BROADCASTS = [
    ((4, 5), (5,)),
    ((4, 5), (4, 1)),
    ((4, 5), (1, 1)),
    ((4, 5), ()),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((5,), (4, 5)),
    ((4, 1), (1, 5)),
]


@pytest.mark.parametrize(("a", "b"), BROADCASTS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_broadcast_inputs(
    a: tuple[int, ...], b: tuple[int, ...], reduction: str, dtype: torch.dtype
) -> None:
    """A learned prior per dimension, one variance per channel, targets shared by samples."""

    def pair(i: int, j: int) -> list[torch.Tensor]:
        tensors = [torch.randn(s) for s in [a] * i + [b] * j]
        return [t.to(dtype).requires_grad_() for t in tensors]

    calls = [
        (vae_ext.gaussian_kl, reference.gaussian_kl, pair(2, 2)),
        (
            vae_ext.bernoulli_log_likelihood,
            reference.bernoulli_log_likelihood,
            [pair(1, 0)[0], pair(0, 1)[0].detach().sigmoid().requires_grad_()],
        ),
    ]
    if torch.broadcast_shapes(a, b) == torch.Size(a):
        calls.append(
            (vae_ext.gaussian_log_likelihood, reference.gaussian_log_likelihood, pair(2, 1))
        )
    for function, oracle, leaves in calls:
        exact = [t.detach().double().requires_grad_() for t in leaves]
        out = function(*leaves, reduction=reduction)
        want = oracle(*exact, reduction=reduction)
        tolerance = 0.02 if out.dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(out.double(), want, rtol=tolerance, atol=tolerance)
        grad = torch.randn(out.shape).to(out.dtype)
        got = torch.autograd.grad(out, leaves, grad)
        expected = torch.autograd.grad(want, exact, grad.double())
        tolerance = 0.02 if dtype == torch.bfloat16 else 1e-5
        for g, e, leaf in zip(got, expected, leaves, strict=True):
            assert g.shape == leaf.shape
            assert g.dtype == leaf.dtype
            torch.testing.assert_close(g.double(), e, rtol=tolerance, atol=tolerance)
