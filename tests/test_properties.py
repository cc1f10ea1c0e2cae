"""Any shape, stride, offset, dtype, reduction and thread count: the reference's result, or a named
error. Run in thousands under the sanitizers by `make sanitize`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor

import vae_ext
from tests import oracle as reference
from tests.any_tensor import broadcast_shape, dtypes, laid_out, shapes
from tests.cases import BOUNDS, REDUCING, REDUCTIONS, Case, wanted
from tests.tolerances import (
    assert_within,
    elementwise_tolerance,
    reduced_tolerance,
)
from vae_ext.distributions import DiagonalGaussian


@st.composite
def call(draw: st.DrawFn, op: Case) -> dict[str, Any]:
    shape = draw(shapes())
    torch.manual_seed(draw(st.integers(0, 2**31)))
    mixed = draw(st.booleans())
    dtype = draw(dtypes)
    tensors = []
    for i, t in enumerate(op.inputs(shape)):
        of = draw(broadcast_shape(shape)) if i else shape
        # In the order of its elements, as many as there are; an empty tensor has none to give.
        values = t.reshape(-1)[: math.prod(of)].reshape(of) if t.numel() else torch.zeros(of)
        tensors.append(draw(laid_out(values.to(draw(dtypes) if mixed else dtype))))
    return {
        "tensors": tensors,
        "wanted": [draw(st.booleans()) for _ in tensors],
        "event_dims": draw(st.one_of(st.none(), st.integers(0, len(shape)))),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "threads": draw(st.sampled_from([1, 2, 3])),
    }


def storage_of(t: Tensor) -> Tensor:
    return torch.empty(0, dtype=t.dtype).set_(t.untyped_storage())


def same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def check_gradients(
    op: Case,
    out: Tensor,
    want: Tensor,
    leaves: list[Tensor],
    exact: list[Tensor],
    c: dict[str, Any],
) -> None:
    chosen = [i for i, t in enumerate(leaves) if t.requires_grad]
    grad = torch.randn(out.shape).to(out.dtype)
    got = torch.autograd.grad(out, [leaves[i] for i in chosen], grad, retain_graph=True)
    again = torch.autograd.grad(out, [leaves[i] for i in chosen], grad)
    assert all(same(a, b) for a, b in zip(got, again, strict=True))
    expected = torch.autograd.grad(want, [exact[i] for i in chosen], grad.double())
    full = torch.broadcast_shapes(*(t.shape for t in leaves))
    whole = [t.detach().expand(full) for t in exact]
    ones = torch.ones(full, dtype=torch.float64).requires_grad_()
    total = reference.reduce(ones, c["event_dims"], c["reduction"], torch.float64)
    (weight,) = torch.autograd.grad(total, ones, grad.double())
    magnitudes = op.gradient_magnitudes(*whole)
    for i, g, e in zip(chosen, got, expected, strict=True):
        leaf = leaves[i]
        assert g.dtype == leaf.dtype
        assert g.shape == leaf.shape
        size = (magnitudes[i] * weight.abs()).sum_to_size(leaf.shape)
        # A result of another precision than its inputs is rounded once more, and a likelihood's
        # scalar gradient when it is scaled; sums of a broadcast input are rounded at 5e-7.
        tolerance = elementwise_tolerance(leaf.dtype, op.gradient_roundings + 4)
        wide = [t.dtype for t in leaves]
        if leaf.dtype == torch.float64:
            tolerance *= op.oracle_roundings
        if leaf.dtype == torch.float64 and torch.float32 in wide:
            tolerance = max(tolerance, 1e-14)
        if leaf.dtype in (torch.float16, torch.bfloat16):
            tolerance *= 2
        if leaf.shape != full:
            tolerance += 1e-6 if leaf.dtype != torch.float64 else 1e-13
        if out.dtype in (torch.float16, torch.bfloat16):
            tolerance += elementwise_tolerance(out.dtype, 1)
        assert_within(g, e, size + 1e-300, tolerance, op.floor)


@pytest.mark.parametrize("op", REDUCING, ids=repr)
@given(data=st.data())
def test_any_call(op: Case, data: st.DataObject) -> None:
    c = data.draw(call(op))
    note(str([(tuple(t.shape), t.stride(), t.dtype) for t in c["tensors"]]))
    before = [storage_of(t).clone() for t in c["tensors"]]
    leaves = op.leaves(c["tensors"], c["wanted"])
    exact = [t.detach().double().requires_grad_(t.requires_grad) for t in leaves]
    options = {"event_dims": c["event_dims"], "reduction": c["reduction"]}
    threads = torch.get_num_threads()
    torch.set_num_threads(c["threads"])
    try:
        out = op.function(*leaves, **options)
        want = op.oracle(*exact, **options)
        terms = op.magnitude(*(t.detach() for t in exact)).expand(
            torch.broadcast_shapes(*(t.shape for t in leaves))
        )
        size = reference.reduce(terms, c["event_dims"], c["reduction"], torch.float64)
        tolerance = elementwise_tolerance(out.dtype, 10)
        if c["reduction"] != "none":
            tolerance = max(tolerance, reduced_tolerance(out.dtype))
        assert_within(out.detach(), want.detach(), size, tolerance)
        if wanted(leaves) and out.numel() and all(t.numel() for t in leaves):
            check_gradients(op, out, want, leaves, exact, c)
    finally:
        torch.set_num_threads(threads)
    for t, copy in zip(leaves, before, strict=True):
        assert same(storage_of(t.detach()), copy)  # nothing was written, in it or beside it


@st.composite
def sampling(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(shapes())
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(dtypes)
    n_samples = draw(st.sampled_from([None, None, 1, 3]))
    z_shape = shape if n_samples is None else (n_samples, *shape)
    given_noise = draw(st.booleans())
    noise = draw(laid_out(torch.randn(z_shape).to(dtype))) if given_noise else None
    return {
        "mu": draw(laid_out(torch.randn(shape).to(dtype))),
        "logvar": draw(laid_out(torch.randn(draw(broadcast_shape(shape))).to(dtype))),
        "noise": noise,
        "seed": None if given_noise else draw(st.integers(-(2**63), 2**64 - 1)),
        "stream": draw(st.integers(-(2**63), 2**64 - 1)),
        "n_samples": n_samples,
        "event_dims": draw(st.one_of(st.none(), st.integers(0, len(shape)))),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
    }


@given(c=sampling())
def test_any_sample(c: dict[str, Any]) -> None:
    mu, logvar = (c[n].requires_grad_() for n in ("mu", "logvar"))
    options = {k: c[k] for k in ("n_samples", "event_dims", "reduction", "stream")}
    noise, seed = c["noise"], c["seed"]
    z, kl = vae_ext.reparameterize_with_kl(mu, logvar, noise=noise, seed=seed, **options)
    if noise is None:
        eps = vae_ext.standard_normal(*z.shape, seed=seed, stream=c["stream"], dtype=torch.float64)
    else:
        eps = noise.double()
    exact = [t.detach().double().requires_grad_() for t in (mu, logvar)]
    sigma_eps = torch.exp(0.5 * exact[1]) * eps
    size = (exact[0].abs() + sigma_eps.abs()).detach()
    # A float32 variate is itself good to 1e-6.
    half = z.dtype in (torch.float16, torch.bfloat16)
    slack = 0.0
    if noise is None and z.dtype != torch.float64 and logvar.numel():
        slack = 2e-6 * float(torch.exp(0.5 * exact[1]).detach().max())
    tolerance = elementwise_tolerance(z.dtype, 4)
    want = exact[0] + sigma_eps
    assert z.shape == want.shape
    assert z.dtype == mu.dtype
    error = (z.detach().double() - want.detach()).abs()
    assert bool((error <= tolerance * size + slack + (6e-8 if half else 1e-44)).all())
    expected = vae_ext.gaussian_kl(
        mu, logvar.expand(mu.shape), event_dims=c["event_dims"], reduction=c["reduction"]
    )
    torch.testing.assert_close(
        kl, expected, rtol=1e-6 if not half else 1e-2, atol=1e-6, equal_nan=True
    )
    if z.numel():
        grad = torch.randn(z.shape).to(z.dtype)
        got = torch.autograd.grad(z, (mu, logvar), grad)
        wants = torch.autograd.grad(want, exact, grad.double())
        rtol = {torch.float64: 1e-10, torch.float32: 1e-4}.get(z.dtype, 0.02)
        for g, w in zip(got, wants, strict=True):
            scale = float(w.abs().max()) + 1
            torch.testing.assert_close(g.double(), w, rtol=rtol, atol=rtol * scale)


@given(c=sampling(), soft=st.booleans())
def test_any_latent(c: dict[str, Any], soft: bool) -> None:
    """Bounds inside the kernel are bounds before it."""
    leaves = [c[n].requires_grad_() for n in ("mu", "logvar")]
    d = DiagonalGaussian(
        *leaves, bounds=BOUNDS, soft=soft, event_dims=c["event_dims"], validate_args=False
    )
    options = {k: c[k] for k in ("n_samples", "reduction", "stream", "noise", "seed")}
    got = d.rsample_with_kl(**options)
    exact = [t.detach().double().requires_grad_() for t in leaves]
    bounded = reference.bounded(exact[1], *BOUNDS, soft)
    if c["noise"] is not None:
        options["noise"] = c["noise"].double()
    want = vae_ext.reparameterize_with_kl(
        exact[0], bounded.expand(exact[0].shape), event_dims=c["event_dims"], **options
    )
    rtol = {torch.float64: 1e-12, torch.float32: 1e-5}.get(got[0].dtype, 0.02)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=rtol, atol=rtol, equal_nan=True)
    if got[0].numel():
        grads = [torch.randn(t.shape).to(t.dtype) for t in got]
        ours = torch.autograd.grad(got, leaves, grads)
        theirs = torch.autograd.grad(want, exact, [g.double() for g in grads])
        for g, w in zip(ours, theirs, strict=True):
            scale = float(w.abs().max()) + 1
            torch.testing.assert_close(g.double(), w, rtol=10 * rtol, atol=10 * rtol * scale)


floats = st.floats(width=32, min_value=-(2.0**60), max_value=2.0**60) | st.sampled_from(
    [math.nan, math.inf, -math.inf, -0.0, 1e-45]
)


@pytest.mark.parametrize("op", REDUCING, ids=repr)
@given(data=st.data())
def test_any_values(op: Case, data: st.DataObject) -> None:
    """NaN where the reference in float64 has it, and its infinities."""
    n = data.draw(st.integers(1, 40))
    tensors = []
    for i in range(len(op.inputs((1,)))):
        numbers = floats
        if op.arguments[i] in op.makes:
            # Of counts, whose parameters are divided by each other, no subnormal ones.
            numbers = st.floats(0, 1, width=32, allow_subnormal=not op.fixed)
        tensors.append(torch.tensor(data.draw(st.lists(numbers, min_size=n, max_size=n))))
    got = op.function(*tensors, event_dims=0, reduction="none").double()
    want = op.oracle(*(t.double() for t in tensors), event_dims=0, reduction="none")
    want = want.float().double()  # what overflows float32 is inf there
    near_overflow = want.abs() > 1e38
    assert torch.equal(got.isnan(), want.isnan())
    sure = ~near_overflow & ~want.isnan()
    assert bool(got[sure].isfinite().all())
    overflows = want.isinf()
    assert torch.equal(got[overflows].sign(), want[overflows].sign())


WRONG: list[tuple[str, Callable[[Any], Any]]] = [
    ("dtype", lambda t: t.to(torch.uint32)),
    ("dtype", lambda t: t.to(torch.complex64)),
    ("layout", lambda t: t.reshape(1, -1).to_sparse() if t.ndim else "no tensor"),
    ("shape", lambda t: torch.zeros(*t.shape[:-1], t.shape[-1] + 5) if t.ndim else None),
    ("tensor", lambda _: "no tensor"),
    ("tensor", lambda _: [0.0]),
]
words = st.text(max_size=5).filter(lambda w: w not in REDUCTIONS)


@pytest.mark.parametrize("op", REDUCING, ids=repr)
@given(data=st.data())
def test_any_wrong_argument(op: Case, data: st.DataObject) -> None:
    """An error of the right type that names the argument."""
    shape = (data.draw(st.integers(2, 4)), data.draw(st.integers(2, 40)))
    tensors: list[Any] = [t.float() for t in op.inputs(shape)]
    i = data.draw(st.integers(0, len(tensors) - 1))
    what, spoil = data.draw(st.sampled_from(WRONG))
    tensors[i] = spoil(tensors[i])
    expected = ValueError if what == "shape" else TypeError
    with pytest.raises(expected, match=op.arguments[i]):
        op.function(*tensors)
    with pytest.raises((ValueError, TypeError), match="reduction was"):
        op.function(*(t.float() for t in op.inputs(shape)), reduction=data.draw(words))
    dims = data.draw(st.integers(3, 9) | st.integers(-9, -1))
    with pytest.raises(ValueError, match=f"event_dims was {dims}"):
        op.function(*(t.float() for t in op.inputs(shape)), event_dims=dims)
