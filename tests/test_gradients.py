"""First and second derivatives of every op by every input, against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad as fwAD
from torch.autograd import gradcheck, gradgradcheck

import vae_ext
from tests.cases import REDUCING, REDUCTIONS, Case
from tests.row import made_of
from vae_ext._formulas import LIKELIHOODS, Likelihood


def inputs(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes)


FULL, ROW, ONE = (3, 4), (4,), ()


def sampling(n_samples: int | None, reduction: str) -> Callable[..., tuple[Tensor, Tensor]]:
    def function(mu: Tensor, logvar: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        seed = 5 if noise is None else None
        return vae_ext.reparameterize_with_kl(
            mu, logvar, seed=seed, noise=noise, n_samples=n_samples, reduction=reduction
        )

    return function


def of_case(case: Case, reduction: str, *shapes: tuple[int, ...]) -> tuple[object, ...]:
    """The op of inputs in these shapes, the last of them absent where there are fewer."""

    def function(*t: Tensor) -> Tensor:
        return case.function(*t, reduction=reduction)

    made = case.leaves(
        case.makes.get(name, torch.clone)(torch.randn(s, dtype=torch.float64))
        for name, s in zip(case.arguments, shapes, strict=False)
    )
    sizes = "x".join(str(len(s)) for s in shapes)
    return f"{case}-{sizes}-{reduction}", function, tuple(made)


def cases() -> list[tuple[object, ...]]:
    torch.manual_seed(0)
    found: list[tuple[object, ...]] = []
    for reduction in REDUCTIONS:
        for case in REDUCING:
            if case.name.startswith("bounded"):  # not twice differentiable at the bounds
                continue
            more = len(case.arguments) - 2
            found.append(of_case(case, reduction, *[FULL] * len(case.arguments)))
            if more:
                found.append(of_case(case, reduction, FULL, FULL, *[ROW, ONE, ROW][-more:]))
            if case.likelihood and case.least == 2 < len(case.arguments):
                found.append(of_case(case, reduction, FULL, FULL))

        def mu_prior(m: Tensor, v: Tensor, p: Tensor, reduction: str = reduction) -> Tensor:
            return vae_ext.gaussian_kl(m, v, p, None, reduction=reduction)

        def logvar_prior(m: Tensor, v: Tensor, p: Tensor, reduction: str = reduction) -> Tensor:
            return vae_ext.gaussian_kl(m, v, None, p, reduction=reduction)

        r = reduction
        found += [
            (f"kl-prior-mu-{r}", mu_prior, inputs(FULL, FULL, FULL)),
            (f"kl-prior-logvar-{r}", logvar_prior, inputs(FULL, FULL, ONE)),
            (f"sample-kl-{r}", sampling(None, r), inputs(FULL, FULL)),
            (f"sample-kl-3-{r}", sampling(3, r), inputs(FULL, FULL)),
            (f"sample-kl-row-{r}", sampling(None, r), inputs(FULL, ROW)),
            (f"sample-kl-noise-{r}", sampling(None, r), inputs(FULL, FULL, FULL)),
            (f"sample-kl-noise-2-{r}", sampling(2, r), inputs(FULL, FULL, (2, *FULL))),
        ]

    def sample(m: Tensor, v: Tensor) -> Tensor:
        return vae_ext.reparameterize(m, v, seed=3)

    def samples(m: Tensor, v: Tensor) -> Tensor:
        return vae_ext.reparameterize(m, v, seed=3, n_samples=4)

    def with_noise(m: Tensor, v: Tensor, e: Tensor) -> Tensor:
        return vae_ext.reparameterize(m, v, noise=e)

    found += [
        ("sample", sample, inputs(FULL, FULL)),
        ("sample-row", sample, inputs(FULL, ROW)),
        ("sample-one", sample, inputs(FULL, ONE)),
        ("samples", samples, inputs(FULL, FULL)),
        ("sample-noise", with_noise, inputs(FULL, FULL, FULL)),
    ]
    for likelihood, entry in LIKELIHOODS.items():
        for reduction in ("event", "sum", "batchmean"):

            def elbo(*t: Tensor, entry: Likelihood = entry, reduction: str = reduction) -> Tensor:
                recon, target, mu, logvar, beta, *parameters = t
                made = made_of(entry, recon, target, *parameters)
                recon, target, *parameters = made
                named = zip(entry.parameters, parameters, strict=True)
                return vae_ext.elbo_loss(
                    recon,
                    target,
                    mu,
                    logvar,
                    beta=beta,
                    likelihood=entry.name,
                    reduction=reduction,
                    **{f"obs_{name}": value for name, value in named},
                )

            more = [ONE] * len(entry.parameters)
            for shape in ((3, 5), (2, 3, 5)):
                name = f"elbo-{likelihood}-{reduction}-{len(shape)}d"
                leaves = inputs(shape, (3, 5), FULL, FULL, ONE, *more)
                leaves[1].requires_grad_(entry.target_gradient)
                found.append((name, elbo, leaves))
    return found


CASES = cases()


@pytest.mark.parametrize(("function", "tensors"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_gradcheck(function: Callable[..., object], tensors: tuple[Tensor, ...]) -> None:
    assert gradcheck(function, tensors)
    assert gradgradcheck(function, tensors)


@pytest.mark.parametrize(("function", "tensors"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_each_input_alone(function: Callable[..., object], tensors: tuple[Tensor, ...]) -> None:
    """The gradient of one input does not depend on whether the others need theirs."""

    def total(args: tuple[Tensor, ...]) -> Tensor:
        out = function(*args)
        parts = out if isinstance(out, tuple) else (out,)
        return sum((p * torch.linspace(1, 2, p.numel()).view(p.shape)).sum() for p in parts)  # type: ignore[return-value]

    leaves = [i for i, t in enumerate(tensors) if t.requires_grad]
    together = torch.autograd.grad(total(tensors), [tensors[i] for i in leaves])
    for i, want in zip(leaves, together, strict=True):
        args = tuple(t.detach().requires_grad_(j == i) for j, t in enumerate(tensors))
        (alone,) = torch.autograd.grad(total(args), args[i])
        # To rounding: where all are wanted value and gradients may come from one loop, in which a
        # compiler fuses other products and sums.
        digits = 32 * torch.finfo(want.dtype).eps
        largest = float(want.abs().max()) if want.numel() else 0.0
        torch.testing.assert_close(alone, want, rtol=digits, atol=digits * largest)


def test_derivatives_at_the_seams() -> None:
    """Where the formulas switch: around 0, around |logvar| = 1, and far out."""
    points = [0.0, 1e-9, -1e-9, 1.0, -1.0, 1 - 1e-9, 1 + 1e-9, -40.0, 30.0]
    logvar = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(
        vae_ext.gaussian_kl(torch.zeros_like(logvar), logvar, reduction="sum"), logvar
    )
    torch.testing.assert_close(grad, 0.5 * torch.expm1(logvar).detach(), rtol=1e-15, atol=0)
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    (grad,) = torch.autograd.grad(
        vae_ext.bernoulli_log_likelihood(x, t, reduction="sum"), x, create_graph=True
    )
    torch.testing.assert_close(grad, t - 0.5)


def test_double_backward_of_a_dependent_input() -> None:
    """logvar computed from mu: the partial derivatives must not follow that path twice."""
    mu = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def function(m: Tensor) -> Tensor:
        return vae_ext.gaussian_kl(m, m.sin(), reduction="sum")

    assert gradcheck(function, (mu,))
    assert gradgradcheck(function, (mu,))


def test_forward_mode_goes_through_the_reference() -> None:
    mu, logvar, t = (torch.randn(3, 4, dtype=torch.float64) for _ in range(3))
    with fwAD.dual_level():
        dual = fwAD.make_dual(logvar, t)
        tangent = fwAD.unpack_dual(vae_ext.gaussian_kl(mu, dual)).tangent
    torch.testing.assert_close(tangent, (0.5 * torch.expm1(logvar) * t).sum(1))


def test_transforms_go_through_the_reference() -> None:
    mu, logvar = (torch.randn(3, 4, dtype=torch.float64) for _ in range(2))

    def total(m: Tensor) -> Tensor:
        return vae_ext.gaussian_kl(m, logvar, reduction="sum")

    torch.testing.assert_close(torch.func.grad(total)(mu), mu)
    hessian = torch.func.hessian(total)(mu).reshape(12, 12)
    torch.testing.assert_close(hessian, torch.eye(12, dtype=torch.float64))
    rows = torch.func.vmap(lambda m, v: vae_ext.gaussian_kl(m, v, event_dims=1))(mu, logvar)
    torch.testing.assert_close(rows, vae_ext.gaussian_kl(mu, logvar))


def test_unused_outputs() -> None:
    mu = torch.randn(3, 4, requires_grad=True)
    logvar = torch.randn(3, 4, requires_grad=True)
    z, kl = vae_ext.reparameterize_with_kl(mu, logvar, seed=1)
    from_kl = torch.autograd.grad(kl.sum(), (mu, logvar), retain_graph=True)
    want = torch.autograd.grad(vae_ext.gaussian_kl(mu, logvar).sum(), (mu, logvar))
    assert all(torch.equal(a, b) for a, b in zip(from_kl, want, strict=True))
    from_z = torch.autograd.grad(z.sum(), (mu, logvar))
    want = torch.autograd.grad(vae_ext.reparameterize(mu, logvar, seed=1).sum(), (mu, logvar))
    assert all(torch.equal(a, b) for a, b in zip(from_z, want, strict=True))
    noise = torch.randn(3, 4, requires_grad=True)
    _, kl = vae_ext.reparameterize_with_kl(mu, logvar, noise=noise)
    assert torch.autograd.grad(kl.sum(), noise, allow_unused=True) == (None,)
