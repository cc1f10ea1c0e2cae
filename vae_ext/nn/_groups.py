"""The losses of elements that have several parameters, as modules."""

from __future__ import annotations

import torch.fx
from torch import Tensor, nn

from .. import _checks as checks
from ..functional._groups import (
    categorical_log_likelihood,
    discretized_logistic_mixture_log_likelihood,
)
from ._options import options

__all__ = ["CategoricalNLL", "DiscretizedLogisticMixtureNLL"]

# torch.fx.symbolic_trace goes into modules; these are its leaves there.
torch.fx.wrap("categorical_log_likelihood")
torch.fx.wrap("discretized_logistic_mixture_log_likelihood")


class CategoricalNLL(nn.Module):
    """−log softmax(logits)[target], nats: cross-entropy that keeps its digits where a class is
    nearly certain.

    Args:
        dim: the classes' dimension, 1 as in torch's losses.
        event_dims, reduction: as in :func:`vae_ext.categorical_log_likelihood`; the mean over all
            elements by default, as torch's losses.

    Source, Raises: as that function.

    Shape:
        logits [batch, classes, ...], target [batch, ...], weights broadcastable to it → a scalar,
        or [batch] with "event".
    """

    def __init__(
        self, dim: int = 1, *, event_dims: int | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__()
        checks.reduction(reduction)
        self.dim, self.event_dims, self.reduction = dim, event_dims, reduction

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return -categorical_log_likelihood(
            logits,
            target,
            dim=self.dim,
            weights=weights,
            event_dims=self.event_dims,
            reduction=self.reduction,
            count=count,
        )

    def extra_repr(self) -> str:
        return options(dim=self.dim, event_dims=self.event_dims, reduction=self.reduction)


class DiscretizedLogisticMixtureNLL(nn.Module):
    """−log p of pixels under a mixture of discretized logistic densities, nats.

    Args:
        dim: the dimension of parameters and channels, 1 or −1.
        levels: of a pixel.
        min_log_scale: what smaller log-scales are.
        event_dims, reduction: as in :func:`vae_ext.discretized_logistic_mixture_log_likelihood`;
            the mean over all pixels by default, as torch's losses.

    Source, Raises: as that function.

    Shape:
        parameters [batch, 10 M, ...] with target [batch, 3, ...], or [batch, 3 M, ...] with
        [batch, 1, ...]; weights broadcastable to [batch, ...] → a scalar, or [batch] with "event".
    """

    def __init__(
        self,
        dim: int = 1,
        *,
        levels: int = 256,
        min_log_scale: float = -7.0,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        checks.reduction(reduction)
        self.dim, self.levels, self.min_log_scale = dim, levels, min_log_scale
        self.event_dims, self.reduction = event_dims, reduction

    def forward(
        self,
        parameters: Tensor,
        target: Tensor,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return -discretized_logistic_mixture_log_likelihood(
            parameters,
            target,
            dim=self.dim,
            levels=self.levels,
            min_log_scale=self.min_log_scale,
            weights=weights,
            event_dims=self.event_dims,
            reduction=self.reduction,
            count=count,
        )

    def extra_repr(self) -> str:
        return options(
            dim=self.dim,
            levels=self.levels,
            min_log_scale=self.min_log_scale,
            event_dims=self.event_dims,
            reduction=self.reduction,
        )
