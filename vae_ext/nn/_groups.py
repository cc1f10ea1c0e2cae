"""The losses of elements that have several parameters, as modules."""

from __future__ import annotations

from typing import Any

import torch.fx
from torch import Tensor, nn

from .. import _checks as checks
from ..functional._groups import BY_NAME
from ._options import options

__all__ = ["CategoricalNLL", "DiscretizedLogisticMixtureNLL"]


def group_nll(likelihood: str, parameters: Tensor, target: Tensor, **keywords: Any) -> Tensor:
    function, _ = BY_NAME[likelihood]
    return -function(parameters, target, **keywords)


# torch.fx.symbolic_trace goes into modules; this is a leaf there.
torch.fx.wrap("group_nll")


class GroupNLL(nn.Module):
    """The negative of a function of BY_NAME, whose further arguments are attributes."""

    dim: int
    event_dims: int | None
    reduction: str

    def __init__(self, likelihood: str, reduction: str, **keywords: Any) -> None:
        super().__init__()
        checks.reduction(reduction)
        self._likelihood = likelihood
        self._names = (*keywords, "reduction")
        for name, value in (*keywords.items(), ("reduction", reduction)):
            setattr(self, name, value)

    def _keywords(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def _nll(
        self, parameters: Tensor, target: Tensor, weights: Tensor | None, count: int | None
    ) -> Tensor:
        given = {"weights": weights, "count": count}
        return group_nll(self._likelihood, parameters, target, **given, **self._keywords())

    def extra_repr(self) -> str:
        return options(**self._keywords())


class CategoricalNLL(GroupNLL):
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
        super().__init__("categorical", reduction, dim=dim, event_dims=event_dims)

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(logits, target, weights, count)


class DiscretizedLogisticMixtureNLL(GroupNLL):
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
        super().__init__(
            "discretized_logistic_mixture",
            reduction,
            dim=dim,
            levels=levels,
            min_log_scale=min_log_scale,
            event_dims=event_dims,
        )

    def forward(
        self,
        parameters: Tensor,
        target: Tensor,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(parameters, target, weights, count)
