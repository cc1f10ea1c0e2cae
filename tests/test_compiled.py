"""Every public function compiled: whole graphs, at every batch size, with numbers that change. The
rows are rows.py's, as in test_modes.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.eval_frame import _debug_get_cache_entry_list

import vae_ext
from tests.rows import ROWS, Row
from tests.test_modes import SAMPLING, agree, all_rows, eager, gradients
from vae_ext._weighting import COMPILED_FUNCTIONS_TRANSFORM

BATCHES = (8, 5, 1)


def programs(function: Callable[..., Tensor]) -> int:
    """How many programs were compiled of a function."""
    return len(_debug_get_cache_entry_list(function.__code__))  # type: ignore[no-untyped-call]


def compiled(row: Row, **options: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    torch._dynamo.reset()
    row(*row.leaves())  # torch.distributions remembers a look-up, and programs look at its memory

    def function(*tensors: Tensor) -> Tensor:
        return row(*tensors)

    return torch.compile(function, fullgraph=True, backend="aot_eager", **options), function


@all_rows
@pytest.mark.parametrize("dynamic", [True, None], ids=["dynamic", "automatic"])
def test_compiled_at_each_batch_size(row: Row, dynamic: bool | None) -> None:
    """One program for a size of 1, which torch always takes by itself, and one for all others; left
    to find that out, torch makes one for the first size too."""
    call, function = compiled(row, dynamic=dynamic)
    for b in BATCHES:
        agree(row, call, row.leaves(b, torch.float32))
    assert programs(function) <= (2 if dynamic else 3)


@all_rows
def test_compiled_with_a_marked_dimension(row: Row) -> None:
    call, function = compiled(row)
    for b in BATCHES:
        leaves = row.leaves(b, torch.float32)
        for t, other in zip(leaves, row.leaves(b + 1), strict=True):
            for d in range(t.ndim):
                if t.shape[d] != other.shape[d] and t.shape[d] > 1:
                    torch._dynamo.mark_dynamic(t, d)
        agree(row, call, leaves)
    assert programs(function) <= 2


@all_rows
def test_compiled_without_gradients(row: Row) -> None:
    call, function = compiled(row, dynamic=True)
    for b in BATCHES:
        leaves = [t.detach() for t in row.leaves(b, torch.float32)]
        torch.testing.assert_close(call(*leaves), row(*leaves))
    assert programs(function) <= 2


@pytest.mark.parametrize("row", [r for r in ROWS if not r.module], ids=repr)
def test_compiled_on_meta_tensors(row: Row) -> None:
    """Meta tensors: nothing is asked of the CPU."""
    call, function = compiled(row, dynamic=True)
    for b in BATCHES:
        leaves = row.leaves(b, torch.float32)
        want = row(*leaves)
        meta = [t.detach().to("meta").requires_grad_(t.requires_grad) for t in leaves]
        got = call(*meta)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        gradients(row, got, meta)
    assert programs(function) <= 2


@pytest.mark.parametrize(("mode", "every"), [("default", 1), ("reduce-overhead", 8)])
def test_everything_compiled_as_one_program(mode: str, every: int) -> None:
    """By Inductor, with gradients: the values of eager, at a second batch size too. The other mode
    differs in how a program is run, not in what it computes: one in eight."""
    rows = ROWS[::every]

    def everything(*groups: tuple[Tensor, ...]) -> list[Tensor]:
        return [row(*tensors) for row, tensors in zip(rows, groups, strict=True)]

    torch._dynamo.reset()
    call = torch.compile(everything, fullgraph=True, mode=mode)
    for b in (4, 6):
        found = []
        for function in (everything, call):
            groups = [row.leaves(b, torch.float32) for row in rows]
            values = function(*groups)
            torch.autograd.backward([v.sum() for v in values if v.requires_grad])
            found.append(([v.detach() for v in values], [[t.grad for t in g] for g in groups]))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def changing(name: str) -> tuple[Callable[[Any], Tensor], list[Any]]:
    m, x, z = torch.randn(3, 4), torch.rand(3, 4), torch.randn(3, 2)
    numbers: list[Any] = [0.5 * i for i in range(12)]
    q = vae_ext.distributions.DiagonalGaussian
    functions: dict[str, Callable[[Any], Tensor]] = {
        "beta": lambda v: vae_ext.elbo_loss(m, x, z, z, beta=v),
        "logvar": lambda v: vae_ext.gaussian_log_likelihood(m, x, v),
        "logvar of halves": lambda v: vae_ext.gaussian_log_likelihood(
            m.bfloat16(), x.bfloat16(), v, reduction="none"
        ),
        "obs_logvar": lambda v: vae_ext.elbo_loss(m, x, z, z, likelihood="gaussian", obs_logvar=v),
        "bounds": lambda v: q(z, z, bounds=(-2, v), validate_args=False).kl(),
        "soft bounds": lambda v: q(z, z, bounds=(-2, v), soft=True, validate_args=False).rsample(
            seed=1
        ),
        "n_samples": lambda n: vae_ext.reparameterize(z, z, n_samples=n, seed=1),
        "seed": lambda n: vae_ext.reparameterize(z, z, seed=n),
        "stream": lambda n: vae_ext.reparameterize(z, z, seed=1, stream=n),
        "samples": lambda n: vae_ext.estimators.draw(z, z, n, seed=1).log_q.sum(0),
        "capacity": lambda v: vae_ext.objectives.capacity(z[0], v, v),
        "warm-up": lambda n: z * vae_ext.objectives.linear_warmup(n, 10),
        "free_bits": lambda v: vae_ext.objectives.free_bits(z, v),
    }
    whole = name in ("n_samples", "seed", "stream", "samples", "warm-up")
    return functions[name], list(range(1, 13)) if whole else numbers


NUMBERS = ["beta", "logvar", "logvar of halves", "obs_logvar", "bounds", "soft bounds"]
NUMBERS += ["n_samples", "seed", "stream", "samples", "capacity", "warm-up", "free_bits"]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_change_do_not_compile_again(name: str) -> None:
    """A warm-up, an annealed variance: some of 0 and 1, which torch takes as constants, and one
    program for all others."""
    function, numbers = changing(name)
    torch._dynamo.reset()
    call = torch.compile(function, fullgraph=True, backend="aot_eager")
    for v in numbers:
        got, want = call(v), function(v)
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want)
    assert programs(function) <= 3


@pytest.mark.parametrize("row", SAMPLING, ids=repr)
def test_compiled_programs_draw_the_noise_of_eager(row: Row) -> None:
    leaves = row.leaves(4, torch.float32)
    torch._dynamo.reset()
    call = torch.compile(lambda *t: row(*t, seed=None), fullgraph=True, backend="aot_eager")
    for seed in (1, 2):
        torch.manual_seed(seed)
        want = row(*leaves, seed=None)
        torch.manual_seed(seed)
        torch.testing.assert_close(call(*leaves), want)


@all_rows
def test_compiled_transforms(row: Row) -> None:
    """torch.func.grad and vmap inside of a compiled program."""
    leaves = row.leaves(4, torch.float32)
    _, grads = eager(row, leaves)
    wanted = tuple(i for i, t in enumerate(leaves) if t.requires_grad)
    plain = [t.detach() for t in leaves]
    torch._dynamo.reset()
    dims = tuple(0 if i == 0 else None for i in range(len(plain)))
    stacked = [torch.stack([t, t / 2]) if i == 0 else t for i, t in enumerate(plain)]

    def mapped(*tensors: Tensor) -> Tensor:
        return torch.vmap(row, in_dims=dims)(*tensors)

    call = torch.compile(mapped, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(call(*stacked), mapped(*stacked))
    if row.name.startswith("doubly") and not COMPILED_FUNCTIONS_TRANSFORM:
        with pytest.raises(Exception, match="each draw serves one estimate"):
            torch.compile(torch.func.grad(lambda *t: row(*t).sum()), fullgraph=True)(*plain)
    elif wanted:
        call = torch.compile(
            torch.func.grad(lambda *t: row(*t).sum(), wanted), fullgraph=True, backend="aot_eager"
        )
        torch.testing.assert_close(list(call(*plain)), grads)
