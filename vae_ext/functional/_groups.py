"""Log-likelihoods of elements that have several parameters each: classes, and mixtures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from .. import _sample_checks as sample_checks
from .._formulas import CATEGORICAL, DISCRETIZED_LOGISTIC_MIXTURE, Group
from .._native.dispatch import REFERENCE, route
from .._ops import run
from ._likelihoods import LOSS_GRADIENT
from ._reduction import Reduction

__all__ = ["categorical_log_likelihood", "discretized_logistic_mixture_log_likelihood"]

INTEGERS = (torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64)
PIXELS = (*checks.FLOATING, torch.uint8)


def without(shape: Sequence[int], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], *shape[dim + 1 :])


def dimension(name: str, t: Tensor, dim: int) -> int:
    dim = checks.integer("dim", dim)
    if not -t.ndim <= dim < t.ndim:
        raise ValueError(
            f"dim was {dim}, expected a dimension of {name}, which had the shape "
            f"{checks.shape_text(t.shape)}"
        )
    return dim % t.ndim


def first(t: Tensor, dim: int) -> Tensor:
    return t if dim == 0 else t.movedim(dim, 0)


def mixtures_of(parameters: Tensor, channels: int, dim: int) -> int:
    """How many of so many channels the parameters are."""
    if channels not in (1, 3):
        raise ValueError(f"channels was {channels}, expected 1 or 3")
    n, each = parameters.shape[dim], 3 if channels == 1 else 10
    if n == 0 or n % each:
        raise ValueError(
            f"parameters had {n} entries in dimension {dim}, expected a multiple of {each} for "
            f"{channels} {'channel' if channels == 1 else 'channels'}"
        )
    return n // each


def levels_of(value: int) -> int:
    levels = checks.integer("levels", value)
    if not 2 <= levels <= 65536:
        raise ValueError(f"levels was {levels}, expected 2 to 65536")
    return levels


def log_likelihood(
    of: Group,
    parameters: Tensor,
    target: Tensor,
    numbers: tuple[float, ...],
    asked: Reduction,
) -> Tensor:
    """Of tensors whose first dimension is the parameters', and the channels'; checked but for
    that."""
    name = of.arguments[0]
    if target.requires_grad and torch.is_grad_enabled():
        raise ValueError("target required a gradient, expected data, which has none: detach it")
    shape = parameters.shape[1:]
    options = (*numbers, *asked.arguments(name, parameters, shape))
    way = route(parameters)
    if way == REFERENCE:
        looked_at(of, parameters, target, asked.weights)
    try:
        ll: Tensor = run(way, of.op, (parameters, target, asked.weights), options, LOSS_GRADIENT)
    except RuntimeError as error:
        checks.raise_as_value_error(error, "target had the value ")
    return asked.finished(ll, shape)


def looked_at(of: Group, parameters: Tensor, target: Tensor, weights: Tensor | None) -> None:
    """Refuses targets as the native kernels of the CPU do themselves."""
    if not of.channels:
        most = parameters.shape[0] - 1
        expected = f"a class of at least 0 and below {most + 1}"
        checks.within(target, 0, most, weights, expected)
    elif target.is_floating_point():
        checks.within(target, -1, 1, weights, "values in [-1, 1]")


def categorical_log_likelihood(
    logits: Tensor,
    target: Tensor,
    *,
    dim: int = 1,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log softmax(logits)[target], classes along a dimension: logits[target] − log Σ exp(logits).

    The negative of cross-entropy, accurate in relative terms where that loses everything: of a
    class that is nearly certain, log p and its gradient are what the others have left. A logit of
    −inf rules its class out.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4.

    Args:
        logits: [batch, classes, ...], or with the classes along another dimension.
        target: the classes, from 0 on, uint8, int16, uint16, int32 or int64; of the shape of
            `logits` without the dimension of the classes.
        dim: the classes' dimension, 1 as in torch's losses; −1 where they come last.
        weights: of the elements, floating, or bool, a mask; broadcastable to `target`. An element
            of weight 0 is left out, whatever its class is, such as −100.
        event_dims: trailing dimensions of one event, of `target`; None: all but the first.
        reduction, count: as in :func:`bernoulli_log_likelihood`.

    Returns:
        The log-likelihood in nats, [batch] by default. Gradients flow to `logits` and `weights`.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not fit, devices that differ, an unknown `reduction`, `dim` or
            `event_dims` out of range, or a target that is no class (as for
            :func:`bernoulli_log_likelihood`, a RuntimeError in compiled programs, and NaN on other
            devices than the CPU).
    """
    checks.tensor("logits", logits)
    checks.tensor("target", target, INTEGERS)
    checks.same_device("logits", logits, "target", target)
    dim = dimension("logits", logits, dim)
    expected = without(logits.shape, dim)
    if tuple(target.shape) != expected:
        raise ValueError(
            f"target had shape {checks.shape_text(target.shape)}, expected that of logits without "
            f"dimension {dim}, {checks.shape_text(expected)}"
        )
    classes = logits.shape[dim]
    if not 0 < classes <= 2**24:
        raise ValueError(f"logits had {classes} classes in dimension {dim}, expected 1 to 2**24")
    asked = Reduction(weights, event_dims, reduction, count)
    return log_likelihood(CATEGORICAL, first(logits, dim), target, (), asked)


def discretized_logistic_mixture_log_likelihood(
    parameters: Tensor,
    target: Tensor,
    *,
    dim: int = 1,
    levels: int = 256,
    min_log_scale: float = -7.0,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    r"""log p of pixels under a mixture of logistic densities, each over the pixel's bin:
    log Σ_m softmax(logits)[m] Π_c (sigmoid(a) − sigmoid(b)), a, b = (x_c − mean ± 1/255) exp(−s).

    The first and the last bin are open to the outside. Of three channels the mean of the second is
    moved by tanh(k₀) x₀, that of the third by tanh(k₁) x₀ + tanh(k₂) x₁. The logarithm of a bin is
    −softplus(−a) − softplus(b) + log(1 − exp(−2/255 exp(−s))), which keeps its digits where the
    difference of sigmoids has none and the usual code takes the density instead.

    Source: Salimans et al., "PixelCNN++", ICLR 2017, section 2; the layout of its parameters is
    also that of NVAE and VDVAE.

    Args:
        parameters: [batch, 10 M, ...] of M mixtures for 3 channels: M logits, and then for each
            channel M means, M log-scales s and M coefficients k; [batch, 3 M, ...] for 1 channel:
            logits, means, log-scales.
        target: [batch, channels, ...], 3 or 1; floating in [−1, 1], or the bytes themselves.
        dim: the dimension of parameters and channels, 1, or −1 where they come last.
        levels: of a pixel; 256, or 32 for 5 bits.
        min_log_scale: s below it is that, without a gradient.
        weights: of the pixels, floating, or bool, a mask; broadcastable to `target` without its
            channels. A pixel of weight 0 is left out, whatever it holds.
        event_dims: trailing dimensions of one event, of `target` without its channels; None: all
            but the first.
        reduction, count: as in :func:`bernoulli_log_likelihood`; the elements are pixels.

    Returns:
        The log-likelihood in nats, [batch] by default. Gradients flow to `parameters` and
        `weights`.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not fit, devices that differ, an unknown `reduction`, `dim`,
            `levels` or `event_dims` out of range, or a target outside [−1, 1] (as for
            :func:`bernoulli_log_likelihood`, a RuntimeError in compiled programs, and NaN on other
            devices than the CPU).
    """
    checks.tensor("parameters", parameters)
    checks.tensor("target", target, PIXELS)
    checks.same_device("parameters", parameters, "target", target)
    dim = dimension("parameters", parameters, dim)
    if target.ndim != parameters.ndim or without(target.shape, dim) != without(
        parameters.shape, dim
    ):
        raise ValueError(
            f"target had shape {checks.shape_text(target.shape)}, expected that of parameters, "
            f"{checks.shape_text(parameters.shape)}, but for dimension {dim}"
        )
    channels = target.shape[dim]
    if channels not in (1, 3):
        raise ValueError(f"target had {channels} channels in dimension {dim}, expected 1 or 3")
    mixtures_of(parameters, channels, dim)
    levels = levels_of(levels)
    if target.dtype == torch.uint8 and levels > 256:
        raise ValueError(f"levels was {levels} for a target of bytes, expected at most 256")
    least = checks.number("min_log_scale", min_log_scale)
    asked = Reduction(weights, event_dims, reduction, count)
    numbers = (float(levels), float(least))
    return log_likelihood(
        DISCRETIZED_LOGISTIC_MIXTURE, first(parameters, dim), first(target, dim), numbers, asked
    )


# By the likelihood's name.
BY_NAME: dict[str, tuple[Callable[..., Tensor], Group]] = {
    "categorical": (categorical_log_likelihood, CATEGORICAL),
    "discretized_logistic_mixture": (
        discretized_logistic_mixture_log_likelihood,
        DISCRETIZED_LOGISTIC_MIXTURE,
    ),
}


def is_group(likelihood: object) -> bool:
    return isinstance(likelihood, str) and likelihood in BY_NAME


def numbers_of_group(likelihood: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Given after `obs_`, and here without it."""
    names = BY_NAME[likelihood][1].options
    numbers = {name.removeprefix("obs_"): value for name, value in parameters.items()}
    if unknown := set(numbers) - set(names):
        raise TypeError(
            f"{', '.join(f'obs_{n}' for n in sorted(unknown))} was given, expected "
            f"{' or '.join(f'obs_{n}' for n in names) or 'no parameters'} for the likelihood "
            f"{likelihood!r}"
        )
    return numbers


def sampled_group(
    likelihood: str,
    given: tuple[Tensor, Tensor, Tensor],
    asked: Reduction,
    parameters: dict[str, float | Tensor],
) -> Tensor:
    """Of recon, target and mu, for :func:`elbo_loss`: [batch, parameters, ...], or with a dimension
    of samples before it, over which it is averaged."""
    recon, target, mu = given
    function, of = BY_NAME[likelihood]
    numbers = numbers_of_group(likelihood, parameters)
    checks.tensor("recon", recon)
    checks.tensor("target", target, (*PIXELS, *INTEGERS))
    checks.tensor("mu", mu)
    checks.same_device("recon", recon, "mu", mu)
    # Channels are a dimension of the target, and none of its elements.
    sampled = recon.ndim == target.ndim + (1 if of.channels else 2)
    dims = checks.event_dims(asked.event_dims, target.ndim) - of.channels
    if dims < 0:
        raise ValueError("event_dims was 0, expected at least the channels")
    events = target.shape[: target.ndim - of.channels - dims]
    sample_checks.same_events(events, mu, asked.event_dims)
    n = sample_checks.samples_of("recon", recon) if sampled else None
    data = target if n is None else target.expand(n, *target.shape)
    keywords = {"dim": 2 if sampled else 1, **numbers, **asked.of_samples(n, dims).keywords}
    return asked.averaged(function(recon, data, **keywords), n)
