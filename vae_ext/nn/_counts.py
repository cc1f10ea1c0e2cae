"""The losses of counts as modules."""

from __future__ import annotations

from torch import Tensor

from .._formulas import (
    NEGATIVE_BINOMIAL,
    NEGATIVE_BINOMIAL_MIXTURE,
    POISSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
)
from ._likelihood import NLL, Value

__all__ = [
    "NegativeBinomialMixtureNLL",
    "NegativeBinomialNLL",
    "PoissonNLL",
    "ZeroInflatedNegativeBinomialNLL",
]

Maybe = Value | None


class PoissonNLL(NLL):
    """−log Poisson(target; rate), nats, with its constant: rate − x log rate + log x!.

    Args:
        log_input: `forward` takes the logarithm of the rate, as `torch.nn.PoissonNLLLoss` does by
            default.
        event_dims, reduction: as in :func:`vae_ext.poisson_log_likelihood`; the mean over all
            elements by default, as torch's losses.

    Source, Raises: as that function.

    Shape:
        rate, target [batch, ...], of the same shape, weights broadcastable to them → a scalar, or
        [batch] with "event".
    """

    def __init__(
        self, *, log_input: bool = False, event_dims: int | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(POISSON, event_dims, reduction)
        self.log_input = log_input

    def forward(
        self,
        rate: Tensor,
        target: Tensor,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(rate, target, weights, count, "log_rate" if self.log_input else "rate")

    def extra_repr(self) -> str:
        return f"log_input={self.log_input}, {super().extra_repr()}"


class NegativeBinomialNLL(NLL):
    """−log NB(target; mean, dispersion), nats: :func:`vae_ext.negative_binomial_log_likelihood`.

    Args:
        dispersion, log_dispersion, total_count: one of them, where `forward` is given none; a
            number, a tensor, which is a buffer, or an `nn.Parameter`, such as
            `log_dispersion=nn.Parameter(torch.zeros(genes))`. With `total_count` the first argument
            of `forward` is logits.
        event_dims, reduction: as in that function; the mean over all elements by default.

    Source, Raises: as that function.

    Shape:
        mean, target [batch, ...], of the same shape, weights broadcastable to them → a scalar, or
        [batch] with "event".
    """

    def __init__(
        self,
        dispersion: Maybe = None,
        *,
        log_dispersion: Maybe = None,
        total_count: Maybe = None,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            NEGATIVE_BINOMIAL,
            event_dims,
            reduction,
            dispersion=dispersion,
            log_dispersion=log_dispersion,
            total_count=total_count,
        )

    def forward(
        self,
        mean: Tensor,
        target: Tensor,
        dispersion: Maybe = None,
        *,
        log_dispersion: Maybe = None,
        total_count: Maybe = None,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(
            mean,
            target,
            weights,
            count,
            dispersion=dispersion,
            log_dispersion=log_dispersion,
            total_count=total_count,
        )


class ZeroInflatedNegativeBinomialNLL(NLL):
    """−log p(target) under :func:`vae_ext.zero_inflated_negative_binomial_log_likelihood`, nats.

    Args:
        zero_logits: the log-odds of an inflated 0 where `forward` is given none.

    The others, Source, Raises: as :class:`NegativeBinomialNLL`, of mean and target [batch, ...].
    """

    def __init__(
        self,
        dispersion: Maybe = None,
        zero_logits: Maybe = None,
        *,
        log_dispersion: Maybe = None,
        total_count: Maybe = None,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            ZERO_INFLATED_NEGATIVE_BINOMIAL,
            event_dims,
            reduction,
            dispersion=dispersion,
            zero_logits=zero_logits,
            log_dispersion=log_dispersion,
            total_count=total_count,
        )

    def forward(
        self,
        mean: Tensor,
        target: Tensor,
        dispersion: Maybe = None,
        zero_logits: Maybe = None,
        *,
        log_dispersion: Maybe = None,
        total_count: Maybe = None,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(
            mean,
            target,
            weights,
            count,
            dispersion=dispersion,
            zero_logits=zero_logits,
            log_dispersion=log_dispersion,
            total_count=total_count,
        )


class NegativeBinomialMixtureNLL(NLL):
    """−log p(target) under :func:`vae_ext.negative_binomial_mixture_log_likelihood`, nats.

    Args:
        mean2, mixture_logits: of that function, where `forward` is given none.

    The others, Source, Raises: as :class:`NegativeBinomialNLL`, of mean and target [batch, ...].
    """

    def __init__(
        self,
        mean2: Maybe = None,
        dispersion: Maybe = None,
        mixture_logits: Maybe = None,
        *,
        log_dispersion: Maybe = None,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            NEGATIVE_BINOMIAL_MIXTURE,
            event_dims,
            reduction,
            mean2=mean2,
            dispersion=dispersion,
            mixture_logits=mixture_logits,
            log_dispersion=log_dispersion,
        )

    def forward(
        self,
        mean1: Tensor,
        target: Tensor,
        mean2: Maybe = None,
        dispersion: Maybe = None,
        mixture_logits: Maybe = None,
        *,
        log_dispersion: Maybe = None,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(
            mean1,
            target,
            weights,
            count,
            mean2=mean2,
            dispersion=dispersion,
            mixture_logits=mixture_logits,
            log_dispersion=log_dispersion,
        )
