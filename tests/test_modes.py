"""Every public function in every way that PyTorch is run: eager's value and gradients, or a refusal
that docs/modes.md lists.

The rows are rows.py's. Programs are in test_compiled.py, test_programs.py and test_onnx.py.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.rows import OTHERS, ROWS, Row, public_names

SAMPLING = [row for row in ROWS if row.samples and row.name != "standard_normal"]
FORWARD = "doubly_reparameterized_iwae has no forward-mode derivative"

all_rows = pytest.mark.parametrize("row", ROWS, ids=repr)


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
