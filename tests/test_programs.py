"""Programs made of every public function, by everything in PyTorch that makes programs: compiled,
exported, traced, for ONNX. The rows are rows.py's, as in test_modes.py."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rows import ROWS, Row
from test_modes import DEVICE, SAMPLING, agree, all_rows, eager, gradients
from torch import Tensor, nn
from torch._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from vae_ext.weighting import COMPILED_FUNCTIONS_TRANSFORM

BATCHES = (8, 5, 1)


class Module(nn.Module):
    def __init__(self, row: Row, seed: int | None = 7) -> None:
        super().__init__()
        self.row, self.seed = row, seed
        self.module = row.module  # whose parameters are this one's

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.row(*tensors, seed=self.seed)


# ---- Compiled ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_everything_compiled_as_one_program(mode: str) -> None:
    """By Inductor, with gradients: the values of eager, at a second batch size too."""

    def everything(*groups: tuple[Tensor, ...]) -> list[Tensor]:
        return [row(*tensors) for row, tensors in zip(ROWS, groups, strict=True)]

    torch._dynamo.reset()
    call = torch.compile(everything, fullgraph=True, mode=mode)
    for b in (4, 6):
        found = []
        for function in (everything, call):
            groups = [row.leaves(b, torch.float32) for row in ROWS]
            values = function(*groups)
            torch.autograd.backward([v.sum() for v in values if v.requires_grad])
            found.append(([v.detach() for v in values], [[t.grad for t in g] for g in groups]))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def changing(name: str) -> tuple[Callable[[Any], Tensor], list[Any]]:
    import vae_ext

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


# ---- Exported ----------------------------------------------------------------------------------


@all_rows
@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
def test_exported(row: Row, strict: bool) -> None:
    leaves = row.leaves(4, torch.float32)
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


@pytest.mark.parametrize("row", SAMPLING, ids=repr)
def test_exported_programs_draw_anew(row: Row) -> None:
    leaves = row.leaves(4, torch.float32)
    module = torch.export.export(Module(row, None), tuple(leaves)).module()
    torch.manual_seed(1)
    want = row(*leaves, seed=None)
    torch.manual_seed(1)
    first = module(*leaves)
    torch.testing.assert_close(first, want)
    assert not torch.equal(module(*leaves), first)


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
            torch.manual_seed(1)
            want = row(*leaves, seed=None)
            torch.manual_seed(1)
            first = module(*leaves)
            torch.testing.assert_close(first, want)
            assert not torch.equal(module(*leaves), first)


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
