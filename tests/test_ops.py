"""The dispatcher's side: schemas, fake kernels, and no gradient lost without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.autograd import forward_ad as fwAD
from torch.library import opcheck

import vae_ext
from tests.devices import device
from vae_ext import _C
from vae_ext._autograd import FUNCTIONS
from vae_ext._checks import GRADIENTS, REDUCTIONS
from vae_ext._formulas import FORMULAS, GROUPS, LIKELIHOODS, Formula, Group
from vae_ext._native.registration import INTERNAL
from vae_ext._reference.ops import HARD, SOFT

OPS = torch.ops.vae_ext
NONE, EVENT, SUM, MEAN = range(4)


def t(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape).to(dtype)


SEED = torch.tensor(3)
BF16 = torch.bfloat16
CL = t(2, 4, 3, 3).contiguous(memory_format=torch.channels_last)

Call = tuple[Callable[..., object], tuple[object, ...]]


def samples_of(formula: Formula) -> Iterator[Call]:
    """Calls of an op, of its backward op, and of the one that computes both."""
    entry = {e.op: e for e in LIKELIHOODS.values()}.get(formula.op)
    counts = entry is not None and not entry.target_gradient
    makes = entry.makes if entry else {}

    def made(*tensors: torch.Tensor) -> list[torch.Tensor]:
        """The last arguments of the op, where it takes no others than positive ones."""
        names = formula.arguments[-len(tensors) :] if tensors else ()
        return [
            makes.get(name, torch.clone)(x).detach() for name, x in zip(names, tensors, strict=True)
        ]

    def lead(x: torch.Tensor) -> torch.Tensor:
        return makes.get(formula.arguments[0], torch.clone)(x)

    def target(*shape: int) -> torch.Tensor:  # which that likelihood takes
        return torch.randint(3, shape, dtype=torch.int32) if counts else torch.rand(shape)

    first = [lead(t(3, 4)), target(3, 4)]
    absent: list[object] = [None] * (len(formula.arguments) - 2)
    weights = [torch.tensor([True, False, True]).view(3, 1), t(4), None]
    numbers: list[object] = [0.5] * formula.numbers
    if formula.forms > 1:
        numbers.append(0)
    over, numbers = [*numbers, 99], [*numbers, None]  # with a count, and without
    op, backward = (getattr(OPS, formula.op + end).default for end in ("", "_backward"))
    for w in weights:
        yield op, (*first, *absent, w, *numbers, 1, EVENT)
    yield op, (lead(t(2, 3, 4, dtype=BF16)), target(3, 4), *absent, None, *numbers, 1, NONE)
    last = target(*CL.shape).contiguous(memory_format=torch.channels_last)
    yield op, (lead(CL), last, *absent, None, *numbers, 3, NONE)
    mask = 1 if counts else 3
    yield backward, (t(3), *first, *absent, weights[1], *numbers, 1, EVENT, mask)
    variants: list[list[object]] = [absent]
    if absent:
        rows = [t(4), t(), t(4)][-len(absent) :] if len(absent) < 3 else [t(4), t(), t(3, 4)]
        rows = made(*rows)
        variants += [rows, made(*(t(3, 4, dtype=BF16) for _ in absent))]
        yield op, (*first, *rows, None, *numbers, 1, NONE)
        yield backward, (t(3, 4), *first, *rows, None, *numbers, 1, NONE, 29 if counts else 15)
    both = getattr(OPS, f"{formula.op}_with_gradients").default
    for more in variants:
        yield both, (*first, *more, None, *numbers, 1, SUM, -1.0, 13)
        yield both, (*first, *more, None, *over, 1, MEAN, 0.5, 13)
    yield both, (lead(t(3, 4)), target(4), *absent, weights[1], *numbers, 1, SUM, 1.0, mask)


def samples_of_group(group: Group) -> Iterator[Call]:
    """In both layouts, with and without weights, of every reduction and pass."""
    numbers = (32.0, -7.0) if group.channels else ()
    shape, dtype = ((3, 2, 4), torch.uint8) if group.channels else ((2, 4), torch.int64)
    target = torch.ones(shape, dtype=dtype)
    names = [f"{group.op}{end}" for end in ("", "_backward", "_with_gradients")]
    value, backward, one_pass = (getattr(OPS, name).default for name in names)
    last = t(2, 4, 20).movedim(-1, 0)
    for parameters, weights in (
        (t(20, 2, 4), None),
        (last, t(2, 1)),
        (t(20, 2, 4, dtype=BF16), None),
    ):
        given = (parameters, target, weights, *numbers)
        for reduction, grad in ((NONE, t(2, 4)), (EVENT, t(2)), (MEAN, t())):
            asked = (*given, None, 1, reduction)
            yield value, asked
            yield backward, (grad.to(parameters.dtype) if reduction == NONE else grad, *asked, 1)
        yield one_pass, (*given, None, 1, MEAN, -1.0, 1)


SAMPLES: list[Call] = [
    (OPS.reparameterize.default, (t(3, 4), t(3, 4), None, SEED, 0, 0, None, 0)),
    (OPS.reparameterize.default, (t(3, 4), t(4), None, None, 7, 1, None, 2)),
    (OPS.reparameterize.default, (t(3, 4), t(4), None, SEED, 0, 0, [5, 3, 9, 4, 1], 0)),
    (OPS.reparameterize.default, (t(3, 4), t(3, 4), t(3, 4), None, 0, 0, None, 0)),
    (OPS.reparameterize.default, (CL, CL, None, None, 7, 0, None, 0)),
    (OPS.reparameterize.default, (*CL.chunk(2, 1), None, None, 7, 0, None, 0)),
    (OPS.reparameterize_backward.default, (t(3, 4), t(3, 4), None, SEED, 0, 0, None, 0, 2)),
    (OPS.reparameterize_backward.default, (t(2, 3, 4), t(4), None, None, 1, 0, None, 2, 3)),
    (OPS.reparameterize_dnoise.default, (t(2, 3, 4), t(3, 4), t(2, 3, 4))),
    (
        OPS.reparameterize_with_kl.default,
        (t(3, 4), t(3, 4), None, SEED, 0, 0, None, 0, None, 1, EVENT),
    ),
    (
        OPS.reparameterize_with_kl.default,
        (t(3, 4, dtype=BF16), t(4), None, SEED, 0, 0, None, 3, None, 1, SUM),
    ),
    (
        OPS.reparameterize_with_kl_backward.default,
        (t(3, 4), t(3), t(3, 4), t(4), None, SEED, 0, 0, None, 0, None, 1, EVENT, 3),
    ),
    (
        OPS.reparameterize_with_kl_backward.default,
        (None, t(), t(3, 4), t(3, 4), None, SEED, 0, 0, None, 0, None, 1, SUM, 1),
    ),
    (
        OPS.latent.default,
        (t(3, 4), t(3, 4), None, SEED, 0, 0, None, 0, 0, 1, -1.0, 1.0, None, 1, EVENT, 0, 3),
    ),
    (
        OPS.latent.default,
        (t(3, 4), t(3, 4), None, None, 7, 0, None, 2, 0, 2, -1.0, 1.0, None, 1, SUM, 0, 1),
    ),
    (
        OPS.latent.default,
        (*CL.chunk(2, 1), None, None, 7, 0, None, 0, 1, 0, 0.0, 0.0, None, 3, 0, 0, 2),
    ),
    (
        OPS.latent.default,
        (CL, None, None, None, 7, 0, None, 0, 0, 2, -1.0, 1.0, None, 3, EVENT, 1, 3),
    ),
    (
        OPS.latent_backward.default,
        (
            t(3, 4),
            t(3),
            t(3, 4),
            t(3, 4),
            None,
            SEED,
            0,
            0,
            None,
            0,
            0,
            1,
            -1.0,
            1.0,
            None,
            1,
            EVENT,
            -1,
            3,
        ),
    ),
    (
        OPS.latent_backward.default,
        (
            t(2, 3, 4),
            t(3),
            t(3, 4),
            t(4).exp(),
            None,
            SEED,
            0,
            0,
            None,
            2,
            2,
            0,
            0.0,
            0.0,
            None,
            1,
            EVENT,
            0,
            3,
        ),
    ),
    (
        OPS.latent_backward.default,
        (
            CL[:, :2],
            None,
            CL,
            None,
            None,
            SEED,
            0,
            0,
            None,
            0,
            0,
            2,
            -1.0,
            1.0,
            None,
            3,
            EVENT,
            1,
            3,
        ),
    ),
    (OPS.sample_with_log_densities.default, (t(3, 4), t(3, 4), None, SEED, 0, 0, None, 2, 1, 0)),
    (
        OPS.sample_with_log_densities.default,
        (t(3, 4, dtype=BF16), t(4), None, None, 7, 1, None, 5, 0, 1),
    ),
    (OPS.sample_with_log_densities.default, (CL, CL, t(2, 2, 4, 3, 3), None, 0, 0, None, 2, 3, 2)),
    (
        OPS.sample_with_log_densities_backward.default,
        (t(2, 3, 4), t(2, 3), t(2, 3), t(3, 4), t(4), None, SEED, 0, 0, None, 2, 1, 0, 3),
    ),
    (
        OPS.sample_with_log_densities_backward.default,
        (None, t(2, 3), None, t(3, 4), t(3, 4), None, SEED, 0, 0, None, 2, 1, 1, 2),
    ),
    *(sample for formula in FORMULAS for sample in samples_of(formula)),
    *(sample for group in GROUPS for sample in samples_of_group(group)),
    (OPS.scale_gradient_.default, (t(3, 4), t(), -1.0)),
    (OPS.philox_words.default, (torch.empty(9, dtype=torch.int64), 1, 2)),
    (OPS.new_seed.default, (0,)),
]


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
