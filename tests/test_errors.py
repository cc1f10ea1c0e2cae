"""Bad input gets an error of the right type that names the argument, what it was and what was
expected."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import vae_ext
from tests.cases import REDUCING, Case
from tests.devices import device, generator
from tests.row import made_of
from vae_ext._formulas import LIKELIHOODS
from vae_ext.distributions import DiagonalGaussian

M = torch.randn(3, 4)
V = torch.randn(3, 4)
INT = torch.ones(3, 4, dtype=torch.int64)
META = torch.randn(3, 4, device="meta")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nested tensors are a prototype
    NESTED = torch.nested.nested_tensor([M, V])
FAKE = FakeTensorMode().from_tensor(M)

CASES: list[tuple[Callable[[], object], type[Exception], str]] = [
    # types and dtypes
    (lambda: vae_ext.gaussian_kl([1.0], V), TypeError, "mu was a list, expected a torch.Tensor"),  # type: ignore[arg-type]
    (lambda: vae_ext.gaussian_kl(M, 0.0), TypeError, "logvar was a float, expected a torch.Tensor"),  # type: ignore[arg-type]
    (lambda: vae_ext.gaussian_kl(INT, V), TypeError, "mu had dtype torch.int64, expected one of"),
    (lambda: vae_ext.gaussian_kl(M, V, INT), TypeError, "prior_mu had dtype torch.int64"),
    (lambda: vae_ext.gaussian_kl(M, V, M, 0.0), TypeError, "prior_logvar was a float"),  # type: ignore[arg-type]
    (lambda: vae_ext.gaussian_kl(M.to_sparse(), V), TypeError, "mu had layout torch.sparse_coo"),
    (
        lambda: vae_ext.reparameterize(M.to(torch.complex64), V),
        TypeError,
        "mu had dtype torch.complex64",
    ),
    (lambda: vae_ext.bernoulli_log_likelihood(M, INT), TypeError, "target had dtype torch.int64"),
    (lambda: vae_ext.bernoulli_log_likelihood(M > 0, M), TypeError, "logits had dtype torch.bool"),
    (lambda: vae_ext.gaussian_log_likelihood(M, M > 0), TypeError, "target had dtype torch.bool"),
    (
        lambda: vae_ext.gaussian_log_likelihood(M, M, "x"),
        TypeError,
        "logvar was 'x', expected a float",
    ),  # type: ignore[arg-type]
    (lambda: vae_ext.reparameterize(M, V, noise=INT), TypeError, "noise had dtype torch.int64"),
    (lambda: vae_ext.reparameterize(M, V, seed=1.5), TypeError, "seed was 1.5, expected an int"),  # type: ignore[arg-type]
    (lambda: vae_ext.reparameterize(M, V, seed=True), TypeError, "seed was True, expected an int"),
    (
        lambda: vae_ext.reparameterize(M, V, seed=torch.tensor(1.0)),
        TypeError,
        "0-dimensional int64",
    ),
    (
        lambda: vae_ext.reparameterize(M, V, seed=torch.tensor([1])),
        TypeError,
        "0-dimensional int64",
    ),
    (lambda: vae_ext.reparameterize(M, V, generator=3), TypeError, "generator was a int"),  # type: ignore[arg-type]
    (
        lambda: vae_ext.reparameterize(M, V, stream="a"),
        TypeError,
        "stream was 'a', expected an int",
    ),  # type: ignore[arg-type]
    (lambda: vae_ext.reparameterize(M, V, n_samples=2.0), TypeError, "n_samples was 2.0"),  # type: ignore[arg-type]
    (lambda: vae_ext.gaussian_kl(M, V, event_dims=1.0), TypeError, "event_dims was 1.0"),  # type: ignore[arg-type]
    (
        lambda: vae_ext.standard_normal(3, seed=0, dtype=torch.int64),
        TypeError,
        "dtype was torch.int64",
    ),
    (lambda: vae_ext.testing.philox_words(2.0, 0), TypeError, "n was 2.0, expected an int"),  # type: ignore[arg-type]
    (lambda: vae_ext.elbo_loss(M, M, M, V, beta="b"), TypeError, "beta was 'b'"),  # type: ignore[arg-type]
    # shapes
    (lambda: vae_ext.gaussian_kl(M, V[:2]), ValueError, r"mu \[3, 4\], logvar \[2, 4\]"),
    (lambda: vae_ext.gaussian_kl(M, V, M[:2]), ValueError, r"prior_mu \[2, 4\]"),
    (lambda: vae_ext.bernoulli_log_likelihood(M, M[:, :3]), ValueError, r"target \[3, 3\]"),
    (
        lambda: vae_ext.gaussian_log_likelihood(M, M, M[:2]),
        ValueError,
        r"logvar had shape \[2, 4\]",
    ),
    (
        lambda: vae_ext.gaussian_log_likelihood(M, M, M[None]),
        ValueError,
        r"logvar had shape \[1, 3, 4\]",
    ),
    (lambda: vae_ext.reparameterize(M, V[:2]), ValueError, r"logvar had shape \[2, 4\]"),
    (lambda: vae_ext.reparameterize(M[0], V), ValueError, r"logvar had shape \[3, 4\]"),
    (
        lambda: vae_ext.reparameterize(M, V, noise=M[0]),
        ValueError,
        r"noise had shape \[4\], expected",
    ),
    (lambda: vae_ext.reparameterize(M, V, noise=M, n_samples=2), ValueError, r"\[2, 3, 4\]"),
    (lambda: vae_ext.elbo_loss(M, M[:, :3], M, V), ValueError, r"recon had shape \[3, 4\]"),
    (lambda: vae_ext.elbo_loss(M, M, M[:2], V[:2]), ValueError, "events of shape"),
    (
        lambda: vae_ext.elbo_loss(M, M, M, V, beta=M),
        ValueError,
        r"beta was a tensor of shape \[3, 4\]",
    ),
    (lambda: vae_ext.elbo_loss(M[:0, None].expand(0, 3, 4), M, M, V), ValueError, "no samples"),
    # devices
    (
        lambda: vae_ext.gaussian_kl(M, META),
        ValueError,
        f"logvar was on meta, expected the device of mu, {device()}",
    ),
    (lambda: vae_ext.reparameterize(M, V, noise=META), ValueError, "noise was on meta"),
    (
        lambda: vae_ext.reparameterize(META, META, seed=torch.tensor(1)),
        ValueError,
        f"seed was on {device()}",
    ),
    (lambda: vae_ext.bernoulli_log_likelihood(M, META), ValueError, "target was on meta"),
    (lambda: vae_ext.gaussian_log_likelihood(M, M, META), ValueError, "logvar was on meta"),
    # choices and ranges
    (
        lambda: vae_ext.gaussian_kl(M, V, reduction="avg"),
        ValueError,
        "reduction was 'avg', expected one of",
    ),
    (lambda: vae_ext.gaussian_kl(M, V, reduction=None), ValueError, "reduction was None"),  # type: ignore[arg-type]
    (lambda: vae_ext.elbo_loss(M, M, M, V, reduction="none"), ValueError, "reduction was 'none'"),
    (lambda: vae_ext.elbo_loss(M, M, M, V, reduction="mean"), ValueError, "reduction was 'mean'"),
    (
        lambda: vae_ext.elbo_loss(M, M, M, V, likelihood="geometric"),
        ValueError,
        "likelihood was 'geometric'",
    ),
    (
        lambda: vae_ext.gaussian_kl(M, V, event_dims=3),
        ValueError,
        "event_dims was 3, expected 0 to 2",
    ),
    (lambda: vae_ext.gaussian_kl(M, V, event_dims=-1), ValueError, "event_dims was -1"),
    (
        lambda: vae_ext.reparameterize(M, V, n_samples=0),
        ValueError,
        "n_samples was 0, expected at least 1",
    ),
    (lambda: vae_ext.reparameterize(M, V, seed=2**64), ValueError, "expected a 64-bit integer"),
    (lambda: vae_ext.reparameterize(M, V, stream=-(2**63) - 1), ValueError, "stream was"),
    (lambda: vae_ext.testing.philox_words(-1, 0), ValueError, "n was -1"),
    (lambda: vae_ext.set_simd_level("sse9"), ValueError, "level was 'sse9', expected one of"),
    (lambda: vae_ext.standard_normal(-1, seed=0), ValueError, r"size was \[-1\]"),
    (lambda: vae_ext.standard_normal(2.5, seed=0), TypeError, "size was 2.5, expected an int"),  # type: ignore[call-overload]
    (
        lambda: vae_ext.reparameterize(M, V, n_samples=np.float64(2)),
        TypeError,
        r"n_samples was np.float64\(2.0\)",
    ),
    # bounds
    *(
        (lambda b=b: DiagonalGaussian(M, V, bounds=b), ValueError, "bounds was .*expected two numb")
        for b in ((None, 1), (0, 1, 2), 3, "ab", (torch.zeros(1), 1))
    ),
    (lambda: DiagonalGaussian(M, V, bounds=(1, 1)), ValueError, "with low < high"),
    (lambda: DiagonalGaussian(M, V, bounds=(math.nan, 1)), ValueError, "with low < high"),
    (
        lambda: DiagonalGaussian(M, V, bounds=(-math.inf, 1), soft=True),
        ValueError,
        "expected finite bounds",
    ),
    # tensors without numbers, or with more than one shape
    (
        lambda: vae_ext.gaussian_kl(NESTED, NESTED),
        TypeError,
        "mu was a nested tensor, expected a dense one",
    ),
    (lambda: vae_ext.gaussian_kl(FAKE, V), TypeError, "mu was a FakeTensor and logvar was not"),
    (lambda: vae_ext.gaussian_kl(M, FAKE), TypeError, "logvar was a FakeTensor and mu was not"),
    # one source of noise
    (
        lambda: vae_ext.reparameterize(M, V, seed=1, noise=M),
        ValueError,
        "noise and seed were given",
    ),
    (
        lambda: vae_ext.reparameterize(M, V, seed=1, generator=generator()),
        ValueError,
        "seed and generator were given, expected at most one",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), CASES, ids=[c[2][:40] for c in CASES])
def test_error(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("case", [c for c in REDUCING if c.measured], ids=repr)
def test_each_argument_is_named(case: Case) -> None:
    """The type, the dtype and the device of every argument of every op."""
    tensors = [t.float() for t in case.inputs((3, 4))]
    for i, name in enumerate(case.arguments):
        is_parameter = case.likelihood and i > 1
        wrong_dtype = INT.to(torch.complex64) if name in case.fixed else INT
        expected = "'x', expected a float or" if is_parameter else "a str, expected a torch.Tensor"
        for wrong, error, message in (
            ("x", TypeError, f"{name} was {expected}"),
            (wrong_dtype, TypeError, f"{name} had dtype {wrong_dtype.dtype}, expected one of"),
            (M.to_sparse(), TypeError, f"{name} had layout torch.sparse_coo"),
            (NESTED, TypeError, f"{name} was a nested tensor"),
            (META, ValueError, f"{name} was on meta, exp|expected the device of {name}, meta"),
            (M[:, :3], ValueError, f"{name} .*{re.escape('[3, 3]')}"),
        ):
            with pytest.raises(error, match=message):
                case.function(*tensors[:i], wrong, *tensors[i + 1 :])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_parameters_of_the_loss(likelihood: str) -> None:
    entry = LIKELIHOODS[likelihood]
    x, t, *parameters = made_of(entry, *torch.randn(2 + len(entry.parameters), 3, 4))
    given = {f"obs_{n}": value for n, value in zip(entry.parameters, parameters, strict=True)}
    if entry.default is not None:
        given = {}
    tensors = (x, t, M, V)
    with pytest.raises(TypeError, match=r"obs_scale was given, expected .* for the likelihood"):
        vae_ext.elbo_loss(*tensors, likelihood=likelihood, obs_scale=1.0)
    if "logvar" not in entry.parameters:  # its default says nothing, another value would be lost
        assert vae_ext.nn.ELBOLoss(likelihood, obs_logvar=0.0, **given)(*tensors).isfinite()
        assert vae_ext.elbo_loss(
            *tensors, likelihood=likelihood, obs_logvar=0.0, **given
        ).isfinite()
        with pytest.raises(TypeError, match=r"obs_logvar.* was given, expected"):
            vae_ext.nn.ELBOLoss(likelihood, obs_logvar=1.0, **given)
        with pytest.raises(TypeError, match=r"obs_logvar.* was given, expected"):
            vae_ext.elbo_loss(*tensors, likelihood=likelihood, obs_logvar=1.0, **given)
    for name in entry.parameters:
        with pytest.raises(TypeError, match=f"{name} was 'x'"):
            vae_ext.elbo_loss(*tensors, likelihood=likelihood, **{**given, f"obs_{name}": "x"})
    if given:
        with pytest.raises(TypeError, match="no parameter was given, expected obs_"):
            vae_ext.elbo_loss(*tensors, likelihood=likelihood)


def test_numpy_numbers() -> None:
    assert torch.equal(
        vae_ext.reparameterize(M, V, seed=np.int64(3), n_samples=np.int32(2), stream=np.uint8(1)),
        vae_ext.reparameterize(M, V, seed=3, n_samples=2, stream=1),
    )
    assert torch.equal(
        vae_ext.gaussian_log_likelihood(M, V, np.float32(0.5), event_dims=np.int64(2)),
        vae_ext.gaussian_log_likelihood(M, V, 0.5, event_dims=2),
    )


@pytest.mark.parametrize("which", ["mu", "logvar", "z"])
def test_in_place_edits_of_saved_tensors_raise(which: str) -> None:
    mu = torch.randn(3, 4, requires_grad=True)
    logvar = torch.randn(3, 4, requires_grad=True)
    m, v = mu * 1, logvar * 1
    z, kl = vae_ext.reparameterize_with_kl(m, v)
    if which == "z":
        z.data.add_(1)  # not saved: the result is the caller's
        (z.sum() + kl.sum()).backward()
        return
    (m if which == "mu" else v).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (z.sum() + kl.sum()).backward()


def test_backward_twice() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    ll = vae_ext.bernoulli_log_likelihood(x, torch.rand(3, 4)).sum()
    first = torch.autograd.grad(ll, x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(ll, x)[0], first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(ll, x)
