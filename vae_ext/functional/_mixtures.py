"""The log-density of a mixture of diagonal Gaussians: a prior, or the aggregated posterior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks as checks
from .._native.dispatch import is_dtensor, route
from .._ops import run

__all__ = ["mixture_log_density"]


def of_groups(z: Tensor, means: Tensor, logvars: Tensor, log_weights: Tensor) -> Tensor:
    """Of z [rows, groups, dims] under components of that size, [rows, groups]; log_weights [1,
    components], or of each row its own."""
    tensors = (z, means, logvars, log_weights)
    value: Tensor = run(route(z), "mixture_log_density", tensors, ())[0]
    return value


def uniform(means: Tensor) -> Tensor:
    """The logarithms of as many equal weights as there are components, [1, components]."""
    return normalized(torch.zeros(means.shape[0], dtype=means.dtype, device=means.device))


def normalized(logits: Tensor) -> Tensor:
    return logits.log_softmax(0, torch.promote_types(logits.dtype, torch.float32))[None]


def components(means: Tensor, logvars: Tensor, logits: Tensor | None) -> None:
    """The parameters of a mixture are."""
    checks.tensor("means", means)
    checks.tensor("logvars", logvars)
    checks.same_device("means", means, "logvars", logvars)
    if means.ndim < 1 or means.shape[0] == 0:
        raise ValueError(
            f"means had shape {checks.shape_text(means.shape)}, expected [components, ...], at "
            "least one"
        )
    checks.broadcastable_to("logvars", logvars, "means", means.shape)
    if logits is None:
        return
    checks.tensor("logits", logits)
    checks.same_device("means", means, "logits", logits)
    if tuple(logits.shape) != (means.shape[0],):
        raise ValueError(
            f"logits had shape {checks.shape_text(logits.shape)}, expected "
            f"{checks.shape_text(means.shape[:1])}, one for each component"
        )


def mixture_log_density(
    z: Tensor, means: Tensor, logvars: Tensor, logits: Tensor | None = None
) -> Tensor:
    """log Σ_k w_k N(z; means_k, diag exp(logvars_k)), w = softmax(logits): the log-density of each
    event under a mixture of diagonal Gaussians.

    It is the prior of a VampPrior or of a mixture prior, and the aggregated posterior of a batch.
    Nothing of the size events × components × dimensions is in memory: a block of events meets a
    panel of components while their squared distances stay in registers, and the backward pass
    computes again what each component weighs. One number for each event is kept for it.

    Source: Tomczak and Welling, "VAE with a VampPrior", AISTATS 2018, (9), for such a prior.

    Args:
        z: [..., *event], any leading dimensions.
        means: [components, *event].
        logvars: broadcastable to means. Below −177 in float32 a component is as wide as there.
        logits: [components], the logarithms of the weights up to a constant; None: equal weights.

    Returns:
        The density in nats, [...], one value for each event, in float32, or float64 if an input is.
        Gradients flow to all tensors; sums over dimensions, components and events end in float64.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not fit, or devices that differ.
    """
    checks.tensor("z", z)
    components(means, logvars, logits)
    checks.same_device("z", z, "means", means)
    event = means.shape[1:]
    lead = z.ndim - len(event)
    if lead < 0 or tuple(z.shape[lead:]) != tuple(event):
        raise ValueError(
            f"z had shape {checks.shape_text(z.shape)}, expected one that ends with that of the "
            f"components of means, {checks.shape_text(event)}"
        )
    if is_dtensor(z):
        from .._sharding import everywhere, whole_events

        # Reshaped below, which is no matter of shards as long as those are of the first dimension.
        z, means, logvars = whole_events(z, min(lead, 1)), everywhere(means), everywhere(logvars)
        logits = None if logits is None else everywhere(logits)
    n, dims = means.shape[0], math.prod(event)
    found = of_groups(
        z.reshape(math.prod(z.shape[:lead]), 1, dims),
        means.reshape(n, 1, dims),
        logvars.expand(means.shape).reshape(n, 1, dims),
        uniform(means) if logits is None else normalized(logits),
    )
    return found.reshape(z.shape[:lead])
