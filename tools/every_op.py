"""One forward and backward pass of every op, at sizes with tails, for sanitizers to watch."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

import vae_ext
from tests.cases import REDUCING, Case
from tests.group_rows import GROUP_ROWS
from tests.mixture_rows import MIXTURE_ROWS
from vae_ext.distributions import DiagonalGaussian

SHAPES = [(1,), (3, 20), (9, 264), (2, 1271), (33, 513), (2, 3, 5, 7)]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
REDUCTIONS = ("none", "event", "sum", "mean")


def views(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Four tensors: two contiguous, two halves of a packed one."""
    packed = torch.randn(*shape[:-1], 2 * shape[-1]).to(dtype)
    tensors = [torch.randn(shape).to(dtype) for _ in range(2)] + list(packed.chunk(2, -1))
    return [t.detach().requires_grad_() for t in tensors]


def of_case(case: Case, tensors: Sequence[Tensor], reduction: str) -> Iterator[Tensor]:
    """An op of strided and of contiguous tensors, with all its inputs, with weights, with one input
    of one element and with a row of each that may be one."""
    c, a, d, b = tensors[2], tensors[0], tensors[3], tensors[1]
    made = zip(case.arguments, (c, a, d, b, a), strict=False)
    inputs = [case.makes.get(name, torch.clone)(t) for name, t in made]
    inputs = [
        t.detach() if name in case.fixed else t
        for name, t in zip(case.arguments, inputs, strict=True)
    ]
    yield case.function(*inputs, reduction=reduction)
    if case.measured:
        yield case.function(*inputs, weights=d.detach() > 0, reduction="event")
    if len(inputs) > 2:
        rows = [t.reshape(-1, t.shape[-1])[0] for t in inputs[2:]]
        yield case.function(*inputs[:2], *rows, reduction=reduction)
        *others, last = inputs
        yield case.function(*others, last.flatten()[:1].sum(), reduction=reduction)


def of_parameters(dtype: torch.dtype) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """The ops whose elements have several parameters, with their leaves: the rows of the tests, and
    more components, classes and events than a block of threads has."""
    for row in [*GROUP_ROWS, *MIXTURE_ROWS]:
        if row.module is None:
            leaves = row.leaves(dtype=dtype)
            yield row(*leaves), [t for t in leaves if t.requires_grad]
    z, means, logvars, weights, logits, parameters = (
        torch.randn(shape).to(dtype).requires_grad_()
        for shape in ((70, 33), (1100, 33), (1100, 33), (1100,), (5, 300, 2, 17), (2, 100, 9, 7))
    )
    mixture = (z, means, logvars, weights)
    yield vae_ext.mixture_log_density(*mixture), [*mixture]
    few = (means, z, z * 0.5, weights[:70])
    yield vae_ext.mixture_log_density(*few), [means, z, weights]
    classes = torch.randint(0, 300, (5, 2, 17))
    yield vae_ext.categorical_log_likelihood(logits, classes), [logits]
    of_rows = logits.movedim(1, -1).contiguous()
    yield vae_ext.categorical_log_likelihood(of_rows, classes, dim=-1), [logits]
    pixels = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    value = vae_ext.discretized_logistic_mixture_log_likelihood(parameters, pixels)
    yield value, [parameters]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="a few shapes, in two dtypes")
    args = parser.parse_args()
    torch.set_default_device(args.device)
    torch.manual_seed(0)
    calls = 0
    plan: Iterator[tuple[tuple[int, ...], torch.dtype, str]]
    plan = itertools.product(SHAPES, DTYPES, REDUCTIONS)
    if args.quick:
        plan = itertools.product(SHAPES[1:6:2], (torch.float32, torch.bfloat16), REDUCTIONS[:3])
    for shape, dtype, reduction in plan:
        a, b, c, d = views(shape, dtype)
        outs = [
            *vae_ext.reparameterize_with_kl(c, d, reduction=reduction),
            vae_ext.reparameterize(c, d, n_samples=3),
            vae_ext.reparameterize(a, d, noise=b),
            a + vae_ext.standard_normal(*shape, seed=1) + vae_ext.standard_normal(shape, seed=2),
            *vae_ext.reparameterize_with_kl(c, std=d.exp(), reduction=reduction),
            vae_ext.reparameterize(c, log_std=d, n_samples=2),
            vae_ext.gaussian_kl(a, std=b.exp(), prior_mu=c, prior_std=(0.25 * d).exp()),
            vae_ext.gaussian_log_likelihood(a, b, std=(0.25 * d).exp(), reduction=reduction),
            *vae_ext.estimators.draw(a, d, 5)[:3],
            vae_ext.estimators.draw(c, d, 2, gradient="score", event_dims=0).log_q,
            *vae_ext.estimators.draw(c, b, 2, gradient="sticking-the-landing")[:3],
            *DiagonalGaussian(c, d, bounds=(-1, 1)).rsample_with_kl(reduction=reduction),
            DiagonalGaussian(a, d, bounds=(-1, 1), soft=True).rsample((2,)),
            *DiagonalGaussian.from_moments(
                torch.stack((a, b)), 0, event_dims=1, bounds=(-1, 1), soft=True
            ).rsample_with_kl(),
            *(out for case in REDUCING for out in of_case(case, (a, b, c, d), reduction)),
        ]
        grads = torch.autograd.grad(outs, (a, b, c, d), [torch.randn_like(o) for o in outs])
        assert all(g.isfinite().all() for g in grads)
        calls += len(outs)
    for dtype in (torch.float32, torch.bfloat16) if args.quick else DTYPES:
        for out, leaves in of_parameters(dtype):
            grads = torch.autograd.grad(out, leaves, torch.randn_like(out))
            assert all(g.isfinite().all() for g in grads)
            calls += 1
    print(f"{calls} calls, forward and backward")


if __name__ == "__main__":
    main()
