"""Every public function in programs that are exported or traced. The rows are rows.py's, as in
test_modes.py."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tests.rows import ROWS, Row
from tests.test_modes import DEVICE, SAMPLING, agree, all_rows, eager


class Module(nn.Module):
    def __init__(self, row: Row, seed: int | None = 7) -> None:
        super().__init__()
        self.row, self.seed = row, seed
        self.module = row.module  # whose parameters are this one's

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.row(*tensors, seed=self.seed)


# ---- Exported ----------------------------------------------------------------------------------


@all_rows
@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
def test_exported(row: Row, strict: bool) -> None:
    leaves = row.leaves(4, torch.float32)
    row(*leaves)  # torch keeps what it finds for a pair of laws, and an export warns of that
    program = torch.export.export(Module(row), tuple(leaves), strict=strict)
    agree(row, program.module(), leaves)


@all_rows
def test_exported_programs_transform(row: Row) -> None:
    """The ops themselves, under transforms of torch.func: as the functions that they came from."""
    leaves = row.leaves()
    plain = [t.detach() for t in leaves]
    module = torch.export.export(Module(row), tuple(leaves)).module()

    def first(call: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda t: call(t, *plain[1:]).sum()

    if row.name.startswith("doubly"):
        with pytest.raises(RuntimeError, match="The size of tensor"):
            torch.func.grad(first(module))(plain[0])
        return
    dims = (0,) * len(plain)
    stacked = [torch.stack([t, t]) for t in plain]
    torch.testing.assert_close(torch.vmap(module, dims)(*stacked), torch.vmap(row, dims)(*stacked))
    if not row.fixed:
        for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian):
            torch.testing.assert_close(
                transform(first(module))(plain[0]), transform(first(row))(plain[0])
            )


def check_that_it_draws_anew(module: Callable[..., Tensor], row: Row, leaves: list[Tensor]) -> None:
    """From torch's generator, as eager code does."""
    torch.manual_seed(1)
    want = row(*leaves, seed=None)
    torch.manual_seed(1)
    first = module(*leaves)
    torch.testing.assert_close(first, want)
    assert not torch.equal(module(*leaves), first)


@pytest.mark.parametrize("row", SAMPLING, ids=repr)
def test_exported_programs_draw_anew(row: Row) -> None:
    leaves = row.leaves(4, torch.float32)
    module = torch.export.export(Module(row, None), tuple(leaves)).module()
    check_that_it_draws_anew(module, row, leaves)


RUN = """
import sys, pathlib, torch
import vae_ext  # the ops that the programs are made of
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.pt2")):
    leaves, value, grads = torch.load(path.with_suffix(".pt"))
    got = torch.export.load(path).module()(*leaves)
    torch.testing.assert_close(got.detach(), value)
    wanted = [t for t in leaves if t.requires_grad]
    found = torch.autograd.grad(got.sum(), wanted) if wanted else ()
    torch.testing.assert_close(list(found), grads)
    print(path.name)
"""


def test_saved_and_loaded_in_a_new_process(tmp_path: Path) -> None:
    for i, row in enumerate(ROWS):
        leaves = row.leaves(4, torch.float32)
        torch.export.save(torch.export.export(Module(row), tuple(leaves)), tmp_path / f"{i}.pt2")
        torch.save((leaves, *eager(row, leaves)), tmp_path / f"{i}.pt")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(ROWS)


def test_packaged_by_aot_inductor(tmp_path: Path) -> None:
    """One package with a latent, a divergence, a likelihood and a loss in it, and eager's noise."""
    names = ("reparameterize_with_kl", "elbo_loss", "GaussianNLL", "GaussianLatent")
    rows = [r for r in ROWS if r.name in names]

    class All(nn.Module):
        def forward(self, *groups: list[Tensor]) -> list[Tensor]:
            return [
                row(*group, seed=None if row.name == "GaussianLatent" else 7)
                for row, group in zip(rows, groups, strict=True)
            ]

    groups = tuple([t.detach() for t in row.leaves(4, torch.float32)] for row in rows)
    program = torch.export.export(All(), groups)
    path = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / "model.pt2")
    )
    loaded = torch._inductor.aoti_load_package(path)
    for seed in (1, 2):
        found = []
        for call in (loaded, All()):
            torch.manual_seed(seed)
            found.append(list(call(*groups)))
        torch.testing.assert_close(*found)


# ---- Traced ------------------------------------------------------------------------------------


@all_rows
@pytest.mark.parametrize("mode", ["real", "symbolic"])
def test_make_fx(row: Row, mode: str) -> None:
    leaves = row.leaves(4, torch.float32)
    options: dict[str, Any] = {
        "tracing_mode": mode,
        "_allow_non_fake_inputs": row.module is not None,  # its parameters
    }
    agree(row, make_fx(lambda *t: row(*t), pre_dispatch=True, **options)(*leaves), leaves)
    # Below autograd a detach is nothing, so that such a program has the values alone.
    torch.testing.assert_close(
        make_fx(lambda *t: row(*t), **options)(*leaves)(*leaves), row(*leaves)
    )


@all_rows
def test_jit_trace(row: Row) -> None:
    """With torch's own check of the trace, and gradients."""
    leaves = row.leaves(4, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that become constants, of its deprecation
        traced = torch.jit.trace(Module(row), tuple(leaves))
    agree(row, traced, leaves)


@pytest.mark.parametrize("row", SAMPLING, ids=repr)
def test_jit_traces_draw_anew(row: Row) -> None:
    leaves = [t.detach() for t in row.leaves(4, torch.float32)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Module(row, None).eval(), tuple(leaves), check_trace=False)
        for module in (traced, torch.jit.freeze(traced)):
            check_that_it_draws_anew(module, row, leaves)


def test_fx_leaves() -> None:
    import vae_ext

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.latent = vae_ext.nn.GaussianLatent(4)
            self.loss = vae_ext.nn.BernoulliNLL()

        def forward(self, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
            z, kl = self.latent(mu, logvar, seed=1)
            return self.loss(z, x) + kl.mean() - vae_ext.gaussian_log_likelihood(z, x).mean()

    model = Model()
    args = torch.rand(3, 4), torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(*args), model(*args))

    from vae_ext import gaussian_kl

    with pytest.raises(TypeError, match=r"mu was a torch\.fx\.Proxy .*torch\.fx\.wrap"):
        torch.fx.symbolic_trace(lambda m: gaussian_kl(m, m))


@all_rows
def test_fake_tensors(row: Row) -> None:
    leaves = [t.detach() for t in row.leaves(4, torch.float32)]
    want = row(*leaves)
    if row.module:
        return  # whose parameters are no fakes
    with FakeTensorMode() as mode:
        got = row(*(mode.from_tensor(t) for t in leaves))
        assert (got.shape, got.dtype, got.device) == (want.shape, want.dtype, DEVICE)
