"""The nodes of autograd's graph in C++ (csrc/node), which this torch has, against the Functions in
Python that serve with all others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo import compiled_autograd

import vae_ext
from tests.case import Case, wanted
from tests.cases import REDUCING, REDUCTIONS
from tests.devices import device
from tests.rows import ROWS, Row
from vae_ext import _ops
from vae_ext._autograd import DIRECT

ROOT = Path(__file__).resolve().parent.parent
all_rows = pytest.mark.parametrize("row", ROWS, ids=repr)


@pytest.fixture
def without_nodes() -> Iterator[Callable[[], object]]:
    """A function that takes them away for the rest of the test."""
    with pytest.MonkeyPatch.context() as patch:
        yield lambda: patch.setattr(_ops, "by_node", None)


def results(row: Row) -> tuple[list[Tensor], list[Tensor]]:
    """The value, and the gradients, twice; and the last alone."""
    leaves = row.leaves(dtype=torch.float32)
    variables = wanted(leaves)
    value = row(*leaves)
    if not variables:
        return [value], []
    total = value.sum()
    twice = [torch.autograd.grad(total, variables, retain_graph=True) for _ in range(2)]
    last = torch.autograd.grad(total, variables[-1:])
    return [value.detach(), *twice[0], *twice[1]], list(last)


def test_this_torch_has_them() -> None:
    assert _ops.by_node is not None
    # But a mixture's, which keeps more than its inputs.
    assert set(_ops.NODES) == set(DIRECT) - {"mixture_log_density"}


@all_rows
def test_the_same_bits_as_pythons(row: Row, without_nodes: Callable[[], object]) -> None:
    with_nodes, alone = results(row)
    without_nodes()
    want, last = results(row)
    for a, b in zip(with_nodes, want, strict=True):
        assert torch.equal(a, b)
    # Python's compute all gradients where one is asked for, by another loop.
    torch.testing.assert_close(alone, last, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", REDUCING, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.3])
def test_in_one_pass(
    case: Case,
    reduction: str,
    dtype: torch.dtype,
    factor: float,
    without_nodes: Callable[[], object],
) -> None:
    """Of the gradient that comes, whether it was expected or not."""
    tensors = [t.to(dtype) for t in case.inputs((3, 40))]

    def gradients() -> list[Tensor]:
        leaves = case.leaves(tensors)
        value = case.function(*leaves, reduction=reduction)
        incoming = torch.full_like(value, factor)
        return [value.detach(), *torch.autograd.grad(value, wanted(leaves), incoming)]

    with_nodes = gradients()
    without_nodes()
    for a, b in zip(with_nodes, gradients(), strict=True):
        assert torch.equal(a, b)


# Of torch's own code, which looks at the .grad of all tensors and means to hide that.
in_torch = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@in_torch
@all_rows
def test_compiled_autograd(row: Row) -> None:
    """torch.compile of the backward pass, in which a node is one call."""
    leaves = row.leaves()
    variables = wanted(leaves)
    if not variables:
        return
    want = torch.autograd.grad(row(*leaves).sum(), variables)
    with compiled_autograd._enable(torch.compile(backend="eager")):
        row(*leaves).sum().backward()
    torch.testing.assert_close([t.grad for t in variables], list(want))


@in_torch
def test_compiled_autograd_takes_any_seed() -> None:
    mu, logvar = (torch.randn(3, 5, requires_grad=True) for _ in range(2))
    programs = []

    def compiler(program: torch.fx.GraphModule, _: object) -> object:
        programs.append(program)
        return program

    torch._dynamo.reset()
    found = []
    for seed in range(10, 15):
        loss = vae_ext.reparameterize(mu, logvar, seed=seed).square().sum()
        want = torch.autograd.grad(loss, logvar, retain_graph=True)
        mu.grad = logvar.grad = None
        with compiled_autograd._enable(torch.compile(backend=compiler)):
            loss.backward()
        torch.testing.assert_close(logvar.grad, *want)
        found.append(len(programs))
    # For the first seed, and then for any.
    assert found[0] < found[1] == found[-1]


def test_their_names() -> None:
    """As torch prints them, and as its detection of anomalies says them."""
    x = torch.randn(2, 3, requires_grad=True)
    for value, name in [
        (vae_ext.gaussian_kl(x, x), "GaussianKL"),
        (vae_ext.bernoulli_log_likelihood(x, x.detach().sigmoid()), "BernoulliLogLikelihood"),
        (vae_ext.reparameterize(x, x), "Reparameterize"),
        (vae_ext.reparameterize_with_kl(x, x)[1], "ReparameterizeWithKL"),
    ]:
        assert value.grad_fn is not None
        assert value.grad_fn.name().endswith(f"::{name}>")


class Sub(Tensor):
    pass


def test_what_python_serves() -> None:
    x, w = torch.randn(2, 3, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    sub = torch.randn(2, 3).as_subclass(Sub).requires_grad_()
    values = [
        vae_ext.gaussian_kl(x, x, weights=w),
        vae_ext.reparameterize(x, x, noise=w),
        vae_ext.gaussian_kl(sub, sub),
    ]
    for value in values:
        assert isinstance(value.grad_fn, torch.autograd.function.BackwardCFunction)
        (grad,) = torch.autograd.grad(value.sum(), w if value is not values[2] else sub)
        assert bool(grad.abs().sum() > 0)


@pytest.mark.parametrize("reduction", ["event", "sum"])
@pytest.mark.parametrize("nodes", [True, False])
def test_what_a_backward_pass_refuses(
    reduction: str, nodes: bool, without_nodes: Callable[[], object]
) -> None:
    if not nodes:
        without_nodes()
    mu, logvar = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    kl = vae_ext.gaussian_kl(mu, logvar, reduction=reduction).sum()
    kl.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        kl.backward()
    kl = vae_ext.gaussian_kl(mu, logvar, reduction=reduction).sum()
    with torch.no_grad():
        mu += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kl.backward()


def test_an_error_of_python_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_ext._autograd import function

    def failing(*_: object) -> None:
        raise ArithmeticError("so it is")

    monkeypatch.setattr(function, "gradients_of_formula", failing)
    x = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(ArithmeticError, match="so it is"):
        torch.autograd.grad(vae_ext.gaussian_kl(x, x).sum(), x, create_graph=True)


OTHER = """
import torch, warnings
warnings.simplefilter("error")
torch.__version__ = "3.0.0"
import vae_ext
from vae_ext import _ops
assert _ops.by_node is None and not _ops.NODES
x = torch.randn(2, 3, requires_grad=True)
vae_ext.gaussian_kl(x, x).sum().backward()
assert type(x.grad) is torch.Tensor
"""


def test_another_torch_does_without() -> None:
    subprocess.run([sys.executable, "-c", OTHER], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "name", ["gradients", "modes", "transforms", "elbo", "draw", "memory", "weights"]
)
def test_the_suite_without_them(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--without-nodes", "--one-in", "4"]
    command += ["--device", device().type, f"tests/test_{name}.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "without nodes" in done.stdout
