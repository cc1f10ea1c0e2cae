"""Calls of every op of the dispatcher, for test_ops.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from vae_ext._formulas import FORMULAS, GROUPS, LIKELIHOODS, Formula, Group

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


def samples_of_mixtures() -> Iterator[Call]:
    """A prior, and the dimensions one by one, each event with weights of its own."""
    value, backward = (
        OPS.mixture_log_density.default,
        OPS.mixture_log_density_backward.default,
    )
    shared = (t(4, 1, 3), t(5, 1, 3), t(1, 1, 3).expand(5, 1, 3), t(1, 5))
    own = (t(4, 3, 1, dtype=BF16), t(4, 3, 1), t(3, 4, 1).transpose(0, 1), t(4, 4))
    for inputs, mask, shape in ((shared, 15, (4, 1)), (own, 15, (4, 3)), (own, 2, (4, 3))):
        yield value, inputs
        yield backward, (t(*shape), t(*shape, dtype=torch.float64), *inputs, mask)


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
    *(sample for sample in samples_of_mixtures()),
    (OPS.scale_gradient_.default, (t(3, 4), t(), -1.0)),
    (OPS.philox_words.default, (torch.empty(9, dtype=torch.int64), 1, 2)),
    (OPS.new_seed.default, (0,)),
]
