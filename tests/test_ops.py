"""The dispatcher's side: schemas, fake kernels, and no gradient lost without a word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.autograd import forward_ad as fwAD
from torch.library import opcheck

import vae_ext
from tests.devices import device
from tests.op_samples import SAMPLES
from vae_ext import _C
from vae_ext._autograd import FUNCTIONS
from vae_ext._checks import GRADIENTS, REDUCTIONS
from vae_ext._formulas import FORMULAS, GROUPS, Formula, Group
from vae_ext._native.registration import INTERNAL
from vae_ext._reference.ops import HARD, SOFT

OPS = torch.ops.vae_ext


def name_of(argument: object) -> str:
    """Of the op alone: the tensors are random."""
    return str(argument) if isinstance(argument, torch._ops.OpOverload) else ""


@pytest.mark.parametrize("group", GROUPS, ids=lambda f: f.op)
def test_schemas_are_those_of_the_groups(group: Group) -> None:
    arguments = getattr(OPS, group.op).default._schema.arguments
    assert tuple(a.name for a in arguments if "Tensor" in str(a.type)) == group.tensors
    assert tuple(a.name for a in arguments if str(a.type) == "float") == group.options


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.op)
def test_schemas_are_those_of_the_table(formula: Formula) -> None:
    arguments = getattr(OPS, formula.op).default._schema.arguments
    tensors = [a.name for a in arguments if "Tensor" in str(a.type)]
    assert tuple(tensors) == formula.tensors
    numbers = [a.name for a in arguments if str(a.type) == "float"]
    last = formula.arguments[len(formula.arguments) - formula.numbers :]
    assert numbers == [f"{name}_value" for name in last]
    assert (formula.forms > 1) == ("form" in [a.name for a in arguments])


def test_codes_are_those_of_the_library() -> None:
    """Of what has a number on both sides."""
    codes = _C.codes
    assert codes["reductions"] == REDUCTIONS
    assert codes["draw_gradients"] == {name: i for i, name in enumerate(GRADIENTS)}
    assert codes["bounds"] == {"none": 0, "hard": HARD, "soft": SOFT}


def test_every_op_is_checked() -> None:
    registered = {
        n.split("::")[1] for n in torch._C._dispatch_get_all_op_names() if n.startswith("vae_ext::")
    }
    assert {op._schema.name.split("::")[1] for op, _ in SAMPLES} == registered  # type: ignore[attr-defined]


@pytest.mark.parametrize(("op", "args"), SAMPLES, ids=name_of)
def test_opcheck(op: Callable[..., object], args: tuple[object, ...]) -> None:
    pytest.importorskip("expecttest")  # which opcheck imports
    # The seed op is random by design: two calls differ.
    seeds = "new_seed" in str(op)
    kwargs = {"device": device()} if seeds else {}
    skip = {"test_aot_dispatch_dynamic"} if seeds else set()
    utils = (
        "test_schema",
        "test_autograd_registration",
        "test_faketensor",
        "test_aot_dispatch_dynamic",
    )
    opcheck(op, args, kwargs, test_utils=[u for u in utils if u not in skip])  # type: ignore[arg-type]


def leaf(a: object, dtype: torch.dtype | None = None) -> object:
    if not (isinstance(a, torch.Tensor) and a.is_floating_point()):
        return a
    return a.detach().to(a.dtype if dtype is None else dtype).requires_grad_()


def name(op: object) -> str:
    return str(op._schema.name).removeprefix("vae_ext::")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("op", "args"), [s for s in SAMPLES if name(s[0]) in INTERNAL], ids=name_of
)
def test_parts_of_derivatives_refuse_to_lose_a_gradient(
    op: Callable[..., object], args: tuple[object, ...]
) -> None:
    with pytest.raises(RuntimeError, match="has no derivative: it is part of one"):
        op(*[leaf(a) for a in args])
    with torch.no_grad():
        op(*[leaf(a) for a in args])


OF_OP = {f.op: f for f in FUNCTIONS}


@pytest.mark.parametrize(("op", "args"), [s for s in SAMPLES if s[0] in OF_OP], ids=name_of)
def test_ops_have_derivatives(op: Callable[..., object], args: tuple[object, ...]) -> None:
    """What was exported or traced calls them alone. Also twice, and forward."""
    function = OF_OP[op]
    n = function.n_tensors
    wide = [leaf(a, torch.float64) for a in args]
    leaves = [a for a in wide[:n] if isinstance(a, torch.Tensor) and a.requires_grad]

    def weighted(outputs: object) -> torch.Tensor:
        # Not the zeros of sample_with_log_densities, whose gradient weighs that of z.
        outputs = outputs[:3] if isinstance(outputs, tuple) else (outputs,)
        total = torch.zeros((), dtype=torch.float64)
        for i, o in enumerate(o for o in outputs if o is not None and o.numel()):
            total = total + (o * torch.linspace(1, 2 + i, o.numel()).view(o.shape)).sum()
        return total.square()

    got = weighted(op(*wide))
    want = weighted(function.formula(wide[:n], tuple(wide[n:])))  # type: ignore[arg-type]
    torch.testing.assert_close(got, want)
    found = []
    for value in (got, want):
        # Noise given to some ops is not differentiated.
        first = torch.autograd.grad(value, leaves[:2], create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(
            sum(g.square().sum() for g in first), leaves[:2], materialize_grads=True
        )
        found.append((first, second))
    torch.testing.assert_close(*found)
    with fwAD.dual_level():
        tensors = [
            fwAD.make_dual(a.detach(), torch.ones_like(a)) if i == 0 else a  # type: ignore[union-attr, attr-defined]
            for i, a in enumerate(wide)
        ]
        tangent = fwAD.unpack_dual(weighted(op(*tensors))).tangent
    score = name(op) == "sample_with_log_densities" and args[-1] == 1
    if not score:  # whose z stands still in reverse mode alone
        torch.testing.assert_close(tangent, found[0][0][0].sum())


def test_meta_tensors_have_shapes() -> None:
    mu = torch.empty(3, 4, device="meta", requires_grad=True)
    z, kl = vae_ext.reparameterize_with_kl(mu, mu, seed=0)
    assert (z.shape, kl.shape, z.device.type) == ((3, 4), (3,), "meta")
    assert vae_ext.bernoulli_log_likelihood(mu, mu, reduction="mean").shape == ()


def test_fake_tensors_draw_a_seed_op() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda m: vae_ext.reparameterize(m, m))(torch.randn(3, 4))
    assert "new_seed" in str(graph.code)
    assert not torch.equal(graph(torch.zeros(3, 4)), graph(torch.zeros(3, 4)))
