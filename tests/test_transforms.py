"""Every public function under higher derivatives and torch.func's transforms: what they give agrees
with each other, or is a refusal that docs/modes.md lists. The rows are rows.py's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor
from torch.func import functionalize, hessian, jacfwd, jacrev, jvp, vmap

from tests.rows import Row
from tests.test_modes import FORWARD, SAMPLING, all_rows, eager, gradients


def forward_mode(row: Row) -> AbstractContextManager[object]:
    """The one refusal of all transforms."""
    if row.name.startswith("doubly_reparameterized_iwae"):
        return pytest.raises(RuntimeError, match=FORWARD)
    return nullcontext()


def with_wanted(row: Row) -> tuple[list[Tensor], list[Tensor]]:
    """The leaves, and those of them that have a gradient."""
    leaves = row.leaves()
    return leaves, [t for t in leaves if t.requires_grad]


@all_rows
def test_double_backward(row: Row) -> None:
    """Against the derivative of the same in forward mode."""
    leaves, wanted = with_wanted(row)
    if not wanted:
        return
    grads = torch.autograd.grad(row(*leaves).square().sum(), wanted, create_graph=True)
    if not any(g.requires_grad for g in grads):
        return
    directions = [torch.linspace(-1, 1, t.numel()).to(t).view(t.shape) for t in wanted]
    along = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    got = torch.autograd.grad(along, wanted, allow_unused=True, materialize_grads=True)

    def gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
        fresh = iter(tensors)
        args = [next(fresh) if t.requires_grad else t for t in leaves]
        return torch.func.grad(
            lambda *w: row(*_put(args, leaves, w)).square().sum(), tuple(range(len(wanted)))
        )(*tensors)

    if "score" in row.name or row.name.startswith("doubly"):
        return  # estimates, whose gradient is no derivative: there is no second one to compare
    _, want = jvp(gradient, tuple(t.detach() for t in wanted), tuple(directions))
    torch.testing.assert_close(list(got), list(want))


def _put(args: list[Tensor], leaves: list[Tensor], wanted: tuple[Tensor, ...]) -> list[Tensor]:
    fresh = iter(wanted)
    return [next(fresh) if t.requires_grad else a for a, t in zip(args, leaves, strict=True)]


@all_rows
def test_reverse_transforms(row: Row) -> None:
    """torch.func.grad, vjp under vmap (jacrev)."""
    leaves = row.leaves()
    value, grads = eager(row, leaves)
    wanted = tuple(i for i, t in enumerate(leaves) if t.requires_grad)
    if not wanted:
        return
    plain = [t.detach() for t in leaves]
    got = torch.func.grad(lambda *t: row(*t).sum(), wanted)(*plain)
    torch.testing.assert_close(list(got), grads)
    jacobians = jacrev(row, wanted)(*plain)
    sums = [j.flatten(0, value.ndim - 1).sum(0) if value.ndim else j for j in jacobians]
    torch.testing.assert_close(sums, grads)


@all_rows
def test_forward_mode(row: Row) -> None:
    leaves = row.leaves()
    _, grads = eager(row, leaves)
    wanted = [t for t in leaves if t.requires_grad]
    directions = [torch.linspace(-1, 2, t.numel()).to(t).view(t.shape) for t in wanted]
    want = sum((g * d).sum() for g, d in zip(grads, directions, strict=True))
    plain = tuple(t.detach() for t in wanted)
    if not wanted:
        return

    def call(*tensors: Tensor) -> Tensor:
        return row(*_put([t.detach() for t in leaves], leaves, tensors)).sum()

    with forward_mode(row):
        torch.testing.assert_close(jvp(call, plain, tuple(directions))[1], want)
    with forward_mode(row):
        columns = jacfwd(call, tuple(range(len(plain))))(*plain)
        torch.testing.assert_close(list(columns), grads)
    with forward_mode(row):
        torch.testing.assert_close(hessian(call)(*plain), jacrev(jacrev(call))(*plain))


@all_rows
def test_batched_gradients(row: Row) -> None:
    leaves, wanted = with_wanted(row)
    if not wanted:
        return
    value = row(*leaves)
    vectors = torch.linspace(-1, 2, 3 * value.numel()).to(value).view(3, *value.shape)
    want = [torch.autograd.grad(value, wanted, v, retain_graph=True) for v in vectors]
    got = torch.autograd.grad(value, wanted, vectors, is_grads_batched=True)
    torch.testing.assert_close(list(got), [torch.stack(g) for g in zip(*want, strict=True)])

    def total(*tensors: Tensor) -> Tensor:
        return row(*_put(leaves, leaves, tensors)).sum()

    plain = tuple(t.detach() for t in wanted)
    jacobians = [
        torch.autograd.functional.jacobian(total, plain, vectorize=v) for v in (False, True)
    ]
    torch.testing.assert_close(*jacobians)


def leaves_of(row: Row) -> list[Tensor]:
    return [t.detach() if t.is_floating_point() else t for t in row.leaves()]


def varied(t: Tensor) -> Tensor:
    """Three examples."""
    return torch.stack([t, t / 2, t / 3]) if t.is_floating_point() else torch.stack([t, t, t])


@all_rows
def test_vmap_over_each_input(row: Row) -> None:
    """Over one at a time, and over all."""
    plain = leaves_of(row)
    one_by_one = [
        tuple(0 if j == i else None for j in range(len(plain))) for i in range(len(plain))
    ]
    for dims in (*one_by_one, (0,) * len(plain)):
        args = [t if d is None else varied(t) for t, d in zip(plain, dims, strict=True)]
        want = [
            row(*(t if d is None else t[k] for t, d in zip(args, dims, strict=True)))
            for k in range(3)
        ]
        torch.testing.assert_close(vmap(row, in_dims=dims)(*args), torch.stack(want))


@pytest.mark.parametrize("row", SAMPLING, ids=repr)
def test_vmap_randomness(row: Row) -> None:
    """Of equal examples: independent noise, one noise, or torch's error."""
    plain = leaves_of(row)
    args = [torch.stack([t, t]) for t in plain]

    def call(*tensors: Tensor) -> Tensor:
        return row(*tensors, seed=None)

    first, second = vmap(call, randomness="different")(*args)
    assert not torch.equal(first, second)
    first, second = vmap(call, randomness="same")(*args)
    assert torch.equal(first, second)
    again = vmap(call, randomness="same")(*args)[0]
    assert not torch.equal(first, again)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(call)(*args)


@pytest.mark.parametrize("row", SAMPLING, ids=repr)
def test_transforms_draw_the_noise_of_eager(row: Row) -> None:
    leaves = row.leaves()
    wanted = tuple(i for i, t in enumerate(leaves) if t.requires_grad)
    if not wanted:
        return
    torch.manual_seed(3)
    value = row(*leaves, seed=None)
    want = gradients(row, value, leaves)
    torch.manual_seed(3)
    got = torch.func.grad(lambda *t: row(*t, seed=None).sum(), wanted)(*leaves_of(row))
    torch.testing.assert_close(list(got), want)


@all_rows
def test_functionalize(row: Row) -> None:
    plain = leaves_of(row)
    torch.testing.assert_close(functionalize(row)(*plain), row(*plain))
