"""Log-likelihoods: what they all do, and each with its signature and documentation."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from .. import _checks as checks
from .._formulas import (
    BERNOULLI,
    CONTINUOUS_BERNOULLI,
    GAUSSIAN,
    LAPLACE,
    STUDENT_T,
    Form,
    Likelihood,
)
from .._native.dispatch import REFERENCE, changes, is_dynamo_compiling, route
from .._ops import run
from .._reference.numerics import as_tensor, result_dtype
from ._reduction import Reduction
from ._scale import scale_of

__all__ = [
    "bernoulli_log_likelihood",
    "continuous_bernoulli_log_likelihood",
    "gaussian_log_likelihood",
    "laplace_log_likelihood",
    "student_t_log_likelihood",
]


Maybe = Tensor | None
LOSS_GRADIENT = -1.0  # a loss subtracts a log-likelihood


def form_of(of: Likelihood, names: Collection[str]) -> int:
    """The form that has exactly these arguments besides the target."""
    for i, form in enumerate(of.forms):
        if {form.prediction, *form.parameters} == set(names):
            return i
    expected = " or ".join(f"({', '.join((f.prediction, *f.parameters))})" for f in of.forms)
    raise TypeError(f"the arguments given were ({', '.join(names)}), expected {expected}")


def form_with(of: Likelihood, parameters: Collection[str], prediction: str = "") -> int:
    """The form that has exactly these parameters, and the prediction of that name if one is."""
    for i, form in enumerate(of.forms):
        if set(form.parameters) == set(parameters) and prediction in ("", form.prediction):
            return i
    expected = " or ".join(f"({', '.join(f.parameters)})" for f in of.forms)
    raise TypeError(f"the parameters given were ({', '.join(parameters)}), expected {expected}")


def checked(
    of: Form,
    parameters: tuple[float | Tensor, ...],
    prediction: Tensor,
    target: Tensor,
    shape: Sequence[int],
) -> tuple[tuple[Maybe, ...], tuple[float, ...], torch.dtype | None]:
    """The parameters as the op takes them: tensors or None, and the numbers for those. The dtype of
    elementwise results where that is not the promoted one."""
    tensors: tuple[Maybe, ...] = ()
    numbers: tuple[float, ...] = ()
    elementwise: torch.dtype | None = None
    for i, parameter in enumerate(parameters):
        name, number = of.parameters[i], 0.0
        tensor: Maybe = None
        if isinstance(parameter, Tensor):
            tensor = parameter
            checks.tensor(name, tensor)
            checks.same_device(of.prediction, prediction, name, tensor)
            if tensor.shape != shape:
                checks.broadcastable_to(name, tensor, f"{of.prediction} and target", shape)
        else:
            number = checks.number(name, parameter, "a float or a tensor")
            if is_dynamo_compiling() and changes(number):
                # As a number the op would be compiled again for each; a number has no dtype.
                tensor, number = as_tensor(number, prediction, target), 0.0
                elementwise = result_dtype(prediction, target)
        tensors += (tensor,)
        numbers += (float(number),)
    return tensors, numbers, elementwise


def log_likelihood(
    of: Likelihood,
    prediction: Tensor,
    target: Tensor,
    parameters: tuple[float | Tensor, ...],
    asked: Reduction,
    form: int = 0,
) -> Tensor:
    """The arguments checked, and the op or its formula of them."""
    named = of.forms[form]
    shape = checks.pair(named.prediction, prediction, "target", target, of.target_dtypes)
    if not of.target_gradient and target.requires_grad and torch.is_grad_enabled():
        raise ValueError("target required a gradient, expected counts, which have none: detach it")
    tensors: tuple[Maybe, ...] = (prediction, target)
    elementwise: torch.dtype | None = None
    options: tuple[float | None, ...] = asked.arguments(named.prediction, prediction, shape)
    if parameters:
        more, numbers, elementwise = checked(named, parameters, prediction, target, shape)
        tensors = tensors + more
        options = (*numbers, *options) if len(of.forms) == 1 else (*numbers, form, *options)
    elif len(of.forms) > 1:
        options = (form, *options)
    way = route(prediction)
    if way == REFERENCE and of.largest_target is not None:
        checks.target_range(target, of.largest_target, asked.weights)
    try:
        ll: Tensor = run(way, of.op, (*tensors, asked.weights), options, LOSS_GRADIENT)
    except RuntimeError as error:
        checks.raise_as_value_error(error, "target had the value ")
    if elementwise is not None and asked.reduction == "none":
        ll = ll.to(elementwise)
    return asked.finished(ll, shape)


def bernoulli_log_likelihood(
    logits: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
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
        weights: of the elements, floating, or bool, a mask; broadcastable to them. An element of
            weight 0 adds exactly 0 and has gradients of exactly 0, whatever stands there, NaN and
            targets out of range included.
        event_dims: trailing dimensions of one event; None: all but the first.
        reduction: "none", "event", "sum", "mean" or "batchmean". With weights the mean is divided
            by their sum; "batchmean" by the number of events all the same.
        count: what "mean" and "batchmean" divide by instead: the elements or events of all shards
            and micro-batches together, whose results and gradients then add up to those of the
            whole.

    Returns:
        The log-likelihood in nats, [batch] by default, as the leading dimensions of the broadcast
        shape are. Gradients flow to `logits`, and to a floating `target` and `weights`.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`,
            `event_dims` out of range, a `count` below 1 or where nothing is divided, or a target
            outside [0, 1]. The CPU's kernels see that as they read it; where a program was compiled
            or exported it is a RuntimeError of the same words, and on other devices, which would
            have to be waited for, the results are NaN.
    """
    return log_likelihood(
        BERNOULLI, logits, target, (), Reduction(weights, event_dims, reduction, count)
    )


def continuous_bernoulli_log_likelihood(
    logits: Tensor,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log p(target) under the continuous Bernoulli: target · logits − log((exp(logits) − 1) /
    logits), a density over [0, 1].

    For pixels in [0, 1], of which :func:`bernoulli_log_likelihood` is no density. Its normalizer
    keeps its digits everywhere, logits of 0 included, where λ = sigmoid(logits) is ½ and its usual
    form is 0 / 0. The mean is 1 / (1 − exp(−logits)) − 1 / logits, not λ.

    Source: Loaiza-Ganem and Cunningham, "The continuous Bernoulli: fixing a pervasive error in
    variational autoencoders", NeurIPS 2019.

    Args, Returns, Raises: as :func:`bernoulli_log_likelihood`, in nats, of shape [batch] by
        default; densities may exceed 1, and their logarithms 0. An infinite logit that agrees with
        its target gives inf.
    """
    asked = Reduction(weights, event_dims, reduction, count)
    return log_likelihood(CONTINUOUS_BERNOULLI, logits, target, (), asked)


def gaussian_log_likelihood(
    mean: Tensor,
    target: Tensor,
    logvar: float | Tensor = 0.0,
    *,
    log_std: float | Tensor | None = None,
    std: float | Tensor | None = None,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log N(target; mean, exp(logvar)): −½ (log 2π + logvar + (target − mean)² exp(−logvar)).

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C.2.

    Args:
        mean, target: of any shapes that broadcast.
        logvar: a float, a scalar tensor (one learned variance) or a tensor broadcastable to them.
        log_std, std: instead of it, its half or the exponential of that, σ.
        weights, event_dims, reduction, count: as in :func:`bernoulli_log_likelihood`.

    Returns:
        The log-likelihood in nats, constants included, [batch] by default, as the leading
        dimensions of the broadcast shape are. Gradients flow to all tensors.

    Raises:
        TypeError: a dtype or type that is not supported; more than one scale.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`, or
            `event_dims` out of range.
    """
    form, scale = 0, logvar
    if log_std is not None or std is not None:
        said = logvar if isinstance(logvar, Tensor) or logvar != 0 else None  # 0 by default
        form, _, scale = scale_of(said, log_std, std)
    asked = Reduction(weights, event_dims, reduction, count)
    return log_likelihood(GAUSSIAN, mean, target, (scale,), asked, form)


def laplace_log_likelihood(
    loc: Tensor,
    target: Tensor,
    log_scale: float | Tensor = 0.0,
    *,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log Laplace(target; loc, b), b = exp(log_scale): −(log 2 + log_scale + |target − loc| / b).

    The L1 loss with its scale and its constant. Source: Kotz, Kozubowski and Podgórski, "The
    Laplace distribution and generalizations", 2001.

    Args, Returns, Raises: as :func:`gaussian_log_likelihood`, in nats, of shape [batch] by default;
        the gradient by `loc` is 0 at `target`.
    """
    asked = Reduction(weights, event_dims, reduction, count)
    return log_likelihood(LAPLACE, loc, target, (log_scale,), asked)


def student_t_log_likelihood(
    loc: Tensor,
    target: Tensor,
    df: float | Tensor,
    log_scale: float | Tensor = 0.0,
    *,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log t(target; df, loc, σ), Student's t with σ = exp(log_scale): log Γ((df + 1)/2) −
    log Γ(df/2) − ½ log(π df) − log_scale − (df + 1)/2 · log(1 + (target − loc)² / (df σ²)).

    A reconstruction that forgives outliers: its gradient by `loc` is at most
    (df + 1) / (2 √df σ). The larger `df`, the nearer to the Gaussian, whose digits it keeps: the
    usual difference of log Γ has lost all of them at 1e7 in float32.

    Source: Lange, Little and Taylor, "Robust statistical modeling using the t distribution", 1989;
    in a VAE: Takahashi et al., "Student-t variational autoencoder for robust density estimation",
    IJCAI 2018.

    Args:
        loc, target: of any shapes that broadcast.
        df: degrees of freedom, above 0; a float, a scalar tensor or a tensor broadcastable to them.
            What is not above 1e-37 gives NaN.
        log_scale: likewise, the logarithm of the scale, which is not the standard deviation.
        weights, event_dims, reduction, count: as in :func:`bernoulli_log_likelihood`.

    Returns:
        The log-likelihood in nats, [batch] by default. Gradients flow to all tensors.

    Raises:
        TypeError, ValueError: as :func:`gaussian_log_likelihood`.
    """
    asked = Reduction(weights, event_dims, reduction, count)
    return log_likelihood(STUDENT_T, loc, target, (df, log_scale), asked)
