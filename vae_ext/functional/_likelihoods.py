"""Log-likelihoods: what they all do, and each with its signature and documentation."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks as checks
from .._formulas import BERNOULLI, GAUSSIAN, LAPLACE, Likelihood
from .._native import library
from .._native.dispatch import REFERENCE, changes, is_dynamo_compiling, route
from .._reference import evaluate
from .._reference.numerics import as_tensor, result_dtype

if library.available:
    from .._autograd.formulas import LOG_LIKELIHOODS
    from .._autograd.function import apply_op

__all__ = ["bernoulli_log_likelihood", "gaussian_log_likelihood", "laplace_log_likelihood"]


def log_likelihood(
    of: Likelihood,
    prediction: Tensor,
    target: Tensor,
    parameters: tuple[float | Tensor, ...],
    event_dims: int | None,
    reduction: str,
) -> Tensor:
    """The arguments checked, and the op or its formula of them."""
    shape = checks.pair(of.prediction, prediction, "target", target, of.target_dtypes)
    tensors: list[Tensor | None] = [prediction, target]
    numbers: list[float] = []
    elementwise: torch.dtype | None = None
    for name, parameter in zip(of.parameters, parameters, strict=True):
        if isinstance(parameter, Tensor):
            checks.tensor(name, parameter)
            checks.same_device(of.prediction, prediction, name, parameter)
            checks.broadcastable_to(name, parameter, f"{of.prediction} and target", shape)
            tensors.append(parameter)
            numbers.append(0.0)
            continue
        number = checks.number(name, parameter, "a float or a tensor")
        if is_dynamo_compiling() and changes(number):  # the op would be compiled again for each
            elementwise = result_dtype(prediction, target)  # a number has no dtype
            tensors.append(as_tensor(number, prediction, target))
            numbers.append(0.0)
        else:
            tensors.append(None)
            numbers.append(float(number))
    dims = checks.event_dims(event_dims, len(shape))
    code = checks.reduction(reduction)
    way = route(prediction)
    if way == REFERENCE:
        if of.largest_target is not None:
            checks.target_range(target, of.largest_target)
        inputs = [n if t is None else t for t, n in zip(tensors, [0.0, 0.0, *numbers], strict=True)]
        ll = evaluate(of.terms, *inputs, event_dims=dims, reduction=reduction)
    else:
        native = LOG_LIKELIHOODS[of.name]
        try:
            ll = apply_op(way, native.direct, native.op, tuple(tensors), (*numbers, dims, code))
        except RuntimeError as error:
            checks.raise_as_value_error(error, "target had the value ")
    if elementwise is not None and reduction == "none":
        ll = ll.to(elementwise)
    return ll


def bernoulli_log_likelihood(
    logits: Tensor, target: Tensor, *, event_dims: int | None = None, reduction: str = "event"
) -> Tensor:
    """log p(target) under Bernoulli(sigmoid(logits)): target · logits − softplus(logits).

    The negative of binary cross-entropy with logits, accurate in relative terms where that loses
    everything: for logits −20 and target 0 it is −2.06e-9, not 0. An infinite logit that agrees
    with its target gives 0.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C.1.

    Args:
        logits: log-odds, of any shape.
        target: in [0, 1], soft values allowed, or bool or uint8 holding 0 and 1; broadcast with
            `logits`.
        event_dims: trailing dimensions of one event; None: all but the first.
        reduction: "none", "event", "sum", "mean" or "batchmean".

    Returns:
        The log-likelihood in nats, [batch] by default, as the leading dimensions of the broadcast
        shape are. Gradients flow to `logits`, and to a floating `target`.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`,
            `event_dims` out of range, or a target outside [0, 1]. The CPU's kernels see that as
            they read it; where a program was compiled or exported it is a RuntimeError of the same
            words, and on other devices, which would have to be waited for, the results are NaN.
    """
    return log_likelihood(BERNOULLI, logits, target, (), event_dims, reduction)


def gaussian_log_likelihood(
    mean: Tensor,
    target: Tensor,
    logvar: float | Tensor = 0.0,
    *,
    event_dims: int | None = None,
    reduction: str = "event",
) -> Tensor:
    """log N(target; mean, exp(logvar)): −½ (log 2π + logvar + (target − mean)² exp(−logvar)).

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C.2.

    Args:
        mean, target: of any shapes that broadcast.
        logvar: a float, a scalar tensor (one learned variance) or a tensor broadcastable to them.
        event_dims: trailing dimensions of one event; None: all but the first.
        reduction: "none", "event", "sum", "mean" or "batchmean".

    Returns:
        The log-likelihood in nats, constants included, [batch] by default, as the leading
        dimensions of the broadcast shape are. Gradients flow to `mean`, `logvar` and `target`.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`, or
            `event_dims` out of range.
    """
    return log_likelihood(GAUSSIAN, mean, target, (logvar,), event_dims, reduction)


def laplace_log_likelihood(
    loc: Tensor,
    target: Tensor,
    log_scale: float | Tensor = 0.0,
    *,
    event_dims: int | None = None,
    reduction: str = "event",
) -> Tensor:
    """log Laplace(target; loc, b), b = exp(log_scale): −(log 2 + log_scale + |target − loc| / b).

    The L1 loss with its scale and its constant. Source: Kotz, Kozubowski and Podgórski, "The
    Laplace distribution and generalizations", 2001.

    Args, Returns, Raises: as :func:`gaussian_log_likelihood`, in nats, of shape [batch] by default;
        the gradient by `loc` is 0 at `target`.
    """
    return log_likelihood(LAPLACE, loc, target, (log_scale,), event_dims, reduction)
