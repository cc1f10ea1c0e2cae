"""The log-density of a mixture of diagonal Gaussians in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .groups import log_sum
from .numerics import LOG_2PI, arithmetic_dtype, mul_exp


def mixture_log_density(
    tensors: Sequence[Any],
    options: Sequence[Any] = (),  # noqa: ARG001 (as all ops)
) -> tuple[Tensor, Tensor]:
    """Of events [rows, groups, dims] under components of that size, weighted by [1, components] or
    by each row's own: [rows, groups]; and the same without a gradient, which the op gives in
    float64."""
    dtype = arithmetic_dtype(*tensors)
    z, means, logvars, log_weights = (t.to(dtype) for t in tensors)
    distance = mul_exp(z - means[:, None], -0.5 * logvars[:, None])  # [components, rows, ...]
    half = 0.5 * distance.square() + (0.5 * (logvars + LOG_2PI))[:, None]
    most, others = log_sum(log_weights.t()[:, :, None] - half.sum(-1))
    value = most + others
    return value, value.detach()
