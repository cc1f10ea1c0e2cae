"""Each op in plain PyTorch, by the arguments of the op: its tensors, and then its numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .._checks import GRADIENTS
from .._formulas import ALL, FORMULAS, GROUPS, Formula, Group
from . import groups, mixtures
from . import samples as plain
from .formulas import REDUCTION_NAMES, evaluate

Maybe = Tensor | None
Arguments = Sequence[Any]
HARD, SOFT = 1, 2  # Bounds::Kind of csrc/ops/arguments.h
# What the ops' numbers are called.
NOISE = ("seed_value", "stream", "places", "n_samples")
REDUCED = ("count", "event_dims", "reduction")
BOUNDS = ("bounds", "low", "high")
OPTION_NAMES = {
    "reparameterize": NOISE,
    "reparameterize_with_kl": (*NOISE, *REDUCED),
    "latent": (*NOISE, "form", *BOUNDS, *REDUCED, "dim", "outputs"),
    "sample_with_log_densities": (*NOISE, "event_dims", "gradient"),
    "mixture_log_density": (),
    **{f.op: (*f.options, *REDUCED) for f in ALL},
}


def formula(of: Formula, tensors: Arguments, options: Arguments) -> Tensor:
    *numbers, count, event_dims, reduction = options
    *inputs, weights = tensors
    terms = of.terms
    if of.forms > 1:
        terms = functools.partial(terms, form=numbers.pop())
    for i, number in enumerate(numbers, len(inputs) - len(numbers)):
        if inputs[i] is None:
            inputs[i] = number
    return evaluate(terms, *inputs, weights=weights, **reduced(count, event_dims, reduction))


def group(of: Group, tensors: Arguments, options: Arguments) -> Tensor:
    *numbers, count, event_dims, reduction = options
    *inputs, weights = tensors
    of_result = reduced(count, event_dims, reduction)
    return groups.evaluate(of.terms, *inputs, *numbers, weights=weights, **of_result)


def reduced(count: int | None, event_dims: int, reduction: int) -> dict[str, Any]:
    return {"count": count, "event_dims": event_dims, "reduction": REDUCTION_NAMES[reduction]}


def draws(
    noise: Maybe,
    seed: Maybe,
    seed_value: int | None,
    stream: int,
    places: Sequence[int] | None,
    n_samples: int,
) -> dict[str, Any]:
    return {
        "noise": noise,
        "seed": seed_value if seed is None else seed,
        "stream": stream,
        "places": places,
        "n_samples": n_samples or None,
    }


def reparameterize(tensors: Arguments, options: Arguments) -> Tensor:
    mu, logvar, *noise = tensors
    return plain.reparameterize(mu, logvar, **draws(*noise, *options))


def reparameterize_with_kl(tensors: Arguments, options: Arguments) -> tuple[Tensor, Tensor]:
    mu, logvar, *noise = tensors
    *numbers, count, event_dims, reduction = options
    of_kl = reduced(count, event_dims, reduction)
    return plain.reparameterize_with_kl(mu, logvar, **of_kl, **draws(*noise, *numbers))


def latent(tensors: Arguments, options: Arguments) -> tuple[Maybe, Maybe]:
    mu, scale, *noise = tensors
    *numbers, form, bounds, low, high, count, event_dims, reduction, dim, outputs = options
    if scale is None:
        mu, scale = mu.chunk(2, dim)
    return plain.latent(
        mu,
        scale,
        form=form,
        bounds=(low, high, bounds == SOFT) if bounds else None,
        outputs=outputs,
        **reduced(count, event_dims, reduction),
        **draws(*noise, *numbers),
    )


def sample_with_log_densities(
    tensors: Arguments, options: Arguments
) -> tuple[Tensor, Tensor, Tensor, None]:
    """Without the zeros by which samples are weighted."""
    mu, logvar, *noise = tensors
    *numbers, event_dims, gradient = options
    found = plain.sample_with_log_densities(
        mu, logvar, event_dims=event_dims, gradient=GRADIENTS[gradient], **draws(*noise, *numbers)
    )
    return (*found, None)


PLAIN: dict[str, Callable[[Arguments, Arguments], Any]] = {
    "reparameterize": reparameterize,
    "reparameterize_with_kl": reparameterize_with_kl,
    "latent": latent,
    "sample_with_log_densities": sample_with_log_densities,
    "mixture_log_density": mixtures.mixture_log_density,
    **{f.op: functools.partial(formula, f) for f in FORMULAS},
    **{f.op: functools.partial(group, f) for f in GROUPS},
}
