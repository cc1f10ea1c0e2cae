"""Every public function in every way that PyTorch is run: eager's value and gradients, or a refusal
that docs/modes.md lists.

The rows are rows.py's. Programs are in test_compiled.py, test_programs.py and test_onnx.py.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
from torch import Tensor
from torch.func import functionalize, hessian, jacfwd, jacrev, jvp, vmap
from torch.utils.checkpoint import checkpoint

from tests.rows import OTHERS, ROWS, Row, public_names

SAMPLING = [row for row in ROWS if row.samples and row.name != "standard_normal"]
FORWARD = "doubly_reparameterized_iwae has no forward-mode derivative"

all_rows = pytest.mark.parametrize("row", ROWS, ids=repr)


def forward_mode(row: Row) -> AbstractContextManager[object]:
    """The one refusal of all transforms."""
    if row.name.startswith("doubly_reparameterized_iwae"):
        return pytest.raises(RuntimeError, match=FORWARD)
    return nullcontext()


def gradients(row: Row, value: Tensor, leaves: list[Tensor], **options: bool) -> list[Tensor]:
    wanted = [t for t in leaves if t.requires_grad]
    if not wanted:
        return []
    return list(torch.autograd.grad(value.sum(), wanted, **options))


def eager(row: Row, leaves: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    value = row(*leaves)
    return value.detach(), gradients(row, value, leaves, retain_graph=True)


def agree(row: Row, call: Callable[..., Tensor], leaves: list[Tensor]) -> None:
    """A call gives eager's value and gradients."""
    value, grads = eager(row, leaves)
    got = call(*leaves)
    torch.testing.assert_close(got.detach(), value)
    torch.testing.assert_close(gradients(row, got, leaves), grads)


def test_every_public_name_has_a_row() -> None:
    assert {name for row in ROWS for name in row.covers} == public_names() - OTHERS


# ---- Grad modes and contexts -----------------------------------------------------------------


@contextmanager
def default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@contextmanager
def anomaly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is slow
        with torch.autograd.detect_anomaly():
            yield


DEVICE = torch.empty(0).device
CONTEXTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "default dtype": default_dtype,
    "default device": lambda: torch.device(DEVICE),
    "deterministic": deterministic,
    "anomaly": anomaly,
    "autocast": lambda: torch.autocast(DEVICE.type, dtype=torch.bfloat16),
    "save_on_cpu": torch.autograd.graph.save_on_cpu,
    "multithreading off": lambda: torch.autograd.set_multithreading_enabled(False),
}


@all_rows
@pytest.mark.parametrize("name", CONTEXTS)
def test_contexts(row: Row, name: str) -> None:
    leaves = row.leaves()

    def call(*tensors: Tensor) -> Tensor:
        with CONTEXTS[name]():
            return row(*tensors)

    agree(row, call, leaves)


@all_rows
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=lambda m: m.__name__)
def test_without_gradients(row: Row, mode: Callable[[], AbstractContextManager[None]]) -> None:
    leaves = row.leaves()
    value, _ = eager(row, leaves)
    with mode():
        got = row(*leaves)
        torch.testing.assert_close(got, value)
        assert not got.requires_grad


@all_rows
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(row: Row, reentrant: bool) -> None:
    leaves = row.leaves()
    value, grads = eager(row, leaves)
    if not grads:
        return
    got = checkpoint(row, *leaves, use_reentrant=reentrant)
    torch.testing.assert_close(got.detach(), value)
    got.sum().backward()  # the reentrant kind knows nothing else
    torch.testing.assert_close([t.grad for t in leaves if t.requires_grad], grads)


@pytest.mark.parametrize("row", SAMPLING, ids=repr)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_draws_again(row: Row, reentrant: bool) -> None:
    """The region draws the same noise when it is computed again."""
    found = []
    if not eager(row, row.leaves())[1]:
        return

    def draw(*tensors: Tensor) -> Tensor:
        return row(*tensors, seed=None)

    for call in (draw, lambda *t: checkpoint(draw, *t, use_reentrant=reentrant)):
        leaves = row.leaves()
        torch.manual_seed(5)
        value = call(*leaves)
        value.square().sum().backward()
        found.append((value.detach(), [t.grad for t in leaves]))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("row", [r for r in ROWS if r.module], ids=repr)
def test_copies(row: Row) -> None:
    """A copy of a module is a module, with parameters of its own."""
    module = row.module
    copied = copy.deepcopy(module)
    for a, b in zip(module.state_dict().values(), copied.state_dict().values(), strict=True):
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()
    assert repr(copied) == repr(module)


def with_wanted(row: Row) -> tuple[list[Tensor], list[Tensor]]:
    """The leaves, and those of them that have a gradient."""
    leaves = row.leaves()
    return leaves, [t for t in leaves if t.requires_grad]


# ---- Higher derivatives and transforms -------------------------------------------------------


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
