"""The rows of a likelihood, which follow from its entry in the package's own table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

import vae_ext
from tests.row import D, Row, made_of, module_row, normal, two
from vae_ext._formulas import Form, Likelihood


def likelihood_rows(entry: Likelihood) -> Iterator[Row]:
    """The function of elements and of sums, with parameters of each kind; the loss; the module."""
    name, parameters = entry.formula.op, len(entry.parameters)
    function = getattr(vae_ext, name)

    fixed = () if entry.target_gradient else (1,)

    def inputs(*shapes: tuple[int, ...], extra: int = 0) -> Callable[[int], list[Tensor]]:
        def make(b: int) -> list[Tensor]:
            made = normal((b, D), (b, D), *shapes)
            return [*made_of(entry, *made), *two(b)[:extra]]

        return make

    def elements(*t: Tensor) -> Tensor:
        value: Tensor = function(*t, reduction="none")
        return value

    def mean(*t: Tensor) -> Tensor:
        value: Tensor = function(*t, reduction="mean")
        return value

    yield Row(name, [name], function, inputs(*[(D,)] * parameters), fixed=fixed)
    if parameters:
        numbers = [0.5] * parameters
        yield Row(
            f"{name}, numbers", [name], lambda *t: function(*t, *numbers), inputs(), fixed=fixed
        )
        yield Row(f"{name}, one of each", [name], mean, inputs(*[()] * parameters), fixed=fixed)
    yield Row(f"{name}, elements", [name], elements, inputs(*[(1, D)] * parameters), fixed=fixed)

    def loss(x: Tensor, t: Tensor, m: Tensor, v: Tensor, beta: Tensor, *more: Tensor) -> Tensor:
        named = {f"obs_{p}": value for p, value in zip(entry.parameters, more, strict=True)}
        x = torch.stack((x, x + 0.5))  # two samples
        return vae_ext.elbo_loss(
            x, t, m, v, likelihood=entry.name, beta=beta, reduction="event", event_dims=1, **named
        )

    def loss_inputs(b: int) -> list[Tensor]:
        x, t, *more = inputs(*[(D,)] * parameters)(b)
        return [x, t, *two(b), *normal(()), *more]

    def weighted(*t: Tensor) -> Tensor:
        *given, weights = t
        value: Tensor = function(*given, weights=weights, reduction="mean")
        return value

    def with_weights(b: int) -> list[Tensor]:
        return [*inputs(*[(D,)] * parameters)(b), torch.rand(b, 1, dtype=torch.float64)]

    yield Row(f"{name}, weights", [name], weighted, with_weights, fixed=fixed)

    yield Row(f"elbo_loss, {entry.name}", ["elbo_loss"], loss, loss_inputs, fixed=fixed)
    module = getattr(vae_ext.nn, f"{''.join(map(str.capitalize, entry.name.split('_')))}NLL")
    options = {entry.learned: True} if entry.learned else {}
    if entry.default is None:
        options = {p: torch.nn.Parameter(torch.full((D,), 0.5)) for p in entry.parameters}
    yield module_row(
        module.__name__, lambda: module(**options), lambda m, x, t: m(x, t), inputs(), fixed=fixed
    )
    for form in entry.others:
        yield form_row(entry, form, fixed)


def form_row(entry: Likelihood, form: Form, fixed: Sequence[int]) -> Row:
    """Another form of the parameters, given by their names."""
    name = entry.formula.op
    names = (form.prediction, "target", *form.parameters)
    makes = {**entry.makes, "total_count": torch.exp}

    def function(*t: Tensor) -> Tensor:
        value: Tensor = getattr(vae_ext, name)(**dict(zip(names, t, strict=True)))
        return value

    def inputs(b: int) -> list[Tensor]:
        made = normal((b, D), (b, D), *[(D,)] * len(form.parameters))
        return [makes.get(n, torch.clone)(t) for n, t in zip(names, made, strict=True)]

    return Row(f"{name}, {', '.join(names)}", [name], function, inputs, fixed=fixed)
