"""The likelihoods of csrc/math/groups.h in plain PyTorch: of elements that have several parameters,
along the first dimension. Stable, and differentiable any number of times."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .formulas import Terms
from .numerics import arithmetic_dtype, log_sinhc, reduce, result_dtype


def evaluate(
    terms: Terms,
    parameters: Tensor,
    target: Tensor,
    *numbers: float,
    event_dims: int,
    reduction: str,
    weights: Tensor | None = None,
    count: int | None = None,
) -> Tensor:
    """Terms of tensors in any dtypes, reduced. An element of weight 0 is left out, whatever it
    holds."""
    dtype = arithmetic_dtype(parameters, target)
    wide = parameters.to(dtype)
    if target.is_floating_point():
        target = target.to(dtype)
    if weights is not None:
        weights = weights.to(dtype)
        out = weights == 0
        # 0 is a class, and the middle of [-1, 1].
        wide, target = wide.masked_fill(out, 0.0), target.masked_fill(out, 0)
    found = terms(wide, target, *numbers)
    if weights is not None:
        found = (found * weights).masked_fill(out, 0.0)
    return reduce(found, event_dims, reduction, result_dtype(parameters, target), count)


def log_sum(x: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of a sum of exponentials over the first dimension, in two parts: the largest
    term, and what the others add to it, of which log1p loses nothing."""
    largest = x.detach().argmax(0, keepdim=True)
    most = x.gather(0, largest)
    others = torch.exp(x - most).scatter(0, largest, 0.0).sum(0)
    return most[0], torch.log1p(others)


def categorical_terms(logits: Tensor, target: Tensor) -> Tensor:
    target = target.to(torch.int64)
    # Where nobody can refuse a target that is no class it becomes NaN.
    refused = (target < 0) | (target >= logits.shape[0])
    chosen = logits.gather(0, target.masked_fill(refused, 0)[None])[0]
    most, others = log_sum(logits)
    return ((chosen - most) - others).masked_fill(refused, math.nan)


def softplus(x: Tensor) -> Tensor:
    """Relative to the value; torch's is linear from 20 on."""
    positive = x > 0
    linear = x.masked_fill(~positive, 0.0)
    return linear + torch.log1p(torch.exp(torch.where(positive, -x, x)))


def log_bin(
    c: Tensor, log_scale: Tensor, first: Tensor, last: Tensor, half: float, least: float
) -> Tensor:
    """The logarithm of what a logistic density gives to the bin of a pixel, c beyond its mean."""
    log_scale = log_scale.masked_fill(log_scale < least, least)
    inverse = torch.exp(-log_scale)
    delta = 2 * half * inverse
    # log(1 − exp(−δ)), on either side of where both forms are good.
    thin = delta < math.log(2)
    small = delta.masked_fill(~thin, 0.0)
    near = (math.log(2 * half) - log_scale) + (log_sinhc(small) - 0.5 * small)
    far = torch.log1p(-torch.exp(-delta.masked_fill(thin, 1.0)))
    inside = torch.where(thin, near, far).masked_fill(first | last, 0.0)
    above = softplus((-(c + half) * inverse).masked_fill(last, -math.inf))
    below = softplus(((c - half) * inverse).masked_fill(first, -math.inf))
    return inside - above - below


def discretized_logistic_mixture_terms(
    parameters: Tensor, target: Tensor, levels: float, min_log_scale: float
) -> Tensor:
    channels = target.shape[0]
    kinds = 2 if channels == 1 else 3
    mixtures = parameters.shape[0] // (1 + kinds * channels)
    if not target.is_floating_point():
        # However it is rounded, within [-1, 1]: fused, a product less 1 need not be.
        target = (target.to(parameters.dtype) - (levels - 1) / 2) * (2 / (levels - 1))
    # Where nobody can refuse a target that is no pixel it becomes NaN.
    x = target.masked_fill((target < -1) | (target > 1), math.nan)
    half = 1 / (levels - 1)
    edge = 1 - 0.25 * half
    logits, rest = parameters[:mixtures], parameters[mixtures:]
    of_kind = rest.reshape(channels, kinds, mixtures, *parameters.shape[1:])
    means = [of_kind[c, 0] for c in range(channels)]
    if channels > 1:
        k = torch.tanh(of_kind[:, 2])
        means[1] = means[1] + k[0] * x[0]
        means[2] = means[2] + k[1] * x[0] + k[2] * x[1]
    joint = logits
    for c in range(channels):
        first, last = x[c] < -edge, x[c] > edge
        joint = joint + log_bin(x[c] - means[c], of_kind[c, 1], first, last, half, min_log_scale)
    most, others = log_sum(joint)
    most_weight, other_weights = log_sum(logits)
    return (most + others) - (most_weight + other_weights)
