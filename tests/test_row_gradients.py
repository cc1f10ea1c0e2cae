"""Gradients of inputs that are one row for all: summed where they are computed, never expanded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import vae_ext
from tests.cases import REDUCING, Case, wanted
from tests.devices import allocated_by

WITH_ROWS = [c for c in REDUCING if len(c.arguments) > 2 and c.measured]


def leaves_of(case: Case, rows: int, columns: int, dtype: torch.dtype) -> list[Tensor]:
    """The arguments after the second as one row."""
    tensors = [t.to(dtype) for t in case.inputs((rows, columns))]
    return case.leaves(t if i < 2 else t[0].clone() for i, t in enumerate(tensors))


@pytest.mark.parametrize("case", WITH_ROWS, ids=repr)
@pytest.mark.parametrize("columns", [8, 264, 512, 2048, 1023])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sums_of_the_elements(case: Case, columns: int, dtype: torch.dtype) -> None:
    """One pass and two, for every incoming gradient, with and without the others."""
    leaves = leaves_of(case, 19, columns, dtype)
    rows = [i for i in range(2, len(leaves)) if leaves[i].requires_grad]
    full = case.leaves(t if i < 2 else t.expand(19, columns) for i, t in enumerate(leaves))
    sizes = case.gradient_magnitudes(*(t.detach().double() for t in full))
    for reduction in ("none", "event", "mean"):
        found, each = (
            torch.autograd.grad(case.function(*t, reduction=reduction).sum(), wanted(t))
            for t in (leaves, full)
        )
        numbers = [i for i, t in enumerate(leaves) if t.requires_grad]
        for i, got, terms in zip(numbers, found, each, strict=True):
            # The two may be of different loops, which round otherwise where terms cancel.
            size = sizes[i].expand_as(terms) / (terms.numel() if reduction == "mean" else 1)
            size = torch.maximum(size, terms.double().abs())
            want = terms.double()
            if i in rows:
                want, size = want.sum(0), size.sum(0)
            # Elementwise gradients of half precision are rounded before they are summed here.
            unit = {torch.bfloat16: 2**-8, torch.float32: 2**-23, torch.float64: 2**-50}[dtype]
            assert bool(((got.double() - want).abs() <= 8 * unit * size + 1e-37).all())
            assert got.dtype == dtype
    alone = [leaves[rows[0]]]
    (got,) = torch.autograd.grad(case.function(*leaves).sum(), alone)
    (again,) = torch.autograd.grad(case.function(*leaves).sum(), alone)
    assert torch.equal(got, again)


@pytest.mark.parametrize("reduction", ["event", "mean"])
def test_a_row_takes_no_memory_of_the_elements(reduction: str) -> None:
    cells, genes = 640, 1024
    mean, x = torch.rand(cells, genes), torch.ones(cells, genes)
    theta = torch.ones(genes, requires_grad=True)

    def backward() -> object:
        value = vae_ext.negative_binomial_log_likelihood(mean, x, theta, reduction=reduction)
        return torch.autograd.grad(value.sum(), theta)

    backward()
    assert allocated_by(backward) < 4 * cells * genes


@pytest.mark.parametrize(("rows", "columns"), [(200, 300), (300, 40), (1300, 7)])
def test_more_rows_than_one_block_has(rows: int, columns: int) -> None:
    mean = torch.rand(rows, columns, dtype=torch.float64) + 0.5
    counts = torch.randint(0, 5, (rows, columns)).double()
    dispersion = torch.rand(columns, dtype=torch.float64) + 0.5

    def gradient(theta: torch.Tensor) -> torch.Tensor:
        leaf = theta.clone().requires_grad_()
        value = vae_ext.negative_binomial_log_likelihood(mean, counts, leaf)
        return torch.autograd.grad(value.sum(), leaf)[0]

    of_each = gradient(dispersion.expand(rows, columns))
    torch.testing.assert_close(gradient(dispersion), of_each.sum(0))
