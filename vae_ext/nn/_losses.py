"""The losses as modules."""

from __future__ import annotations

import torch.fx
from torch import Tensor

from .. import _checks as checks
from .._formulas import BERNOULLI, CONTINUOUS_BERNOULLI, GAUSSIAN, LAPLACE, STUDENT_T, Likelihood
from ..functional._elbo import elbo_loss, likelihood_and_parameters
from ..functional._groups import is_group, numbers_of_group
from ..functional._scale import scale_of
from ._likelihood import NLL, Value, WithParameters
from ._options import options

__all__ = [
    "BernoulliNLL",
    "ContinuousBernoulliNLL",
    "ELBOLoss",
    "GaussianNLL",
    "LaplaceNLL",
    "StudentTNLL",
]

# torch.fx.symbolic_trace goes into modules; these are its leaves there.
torch.fx.wrap("elbo_loss")


class OfLogits(NLL):
    """Of logits and targets in [0, 1]."""

    _of: Likelihood

    def __init__(self, *, event_dims: int | None = None, reduction: str = "mean") -> None:
        super().__init__(self._of, event_dims, reduction)

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(logits, target, weights, count)


class BernoulliNLL(OfLogits):
    """−log p(target) under Bernoulli(sigmoid(logits)), nats: binary cross-entropy with logits that
    keeps its digits: softplus(logits) − target · logits.

    Args:
        event_dims, reduction: as in :func:`vae_ext.bernoulli_log_likelihood`; the mean over all
            elements by default, as torch's losses.

    Source, Raises: as that function.

    Shape:
        logits, target [batch, ...], of the same shape (as torch's losses: [B, 1] against [B] would
        be the mean over [B, B]), weights broadcastable to them → a scalar, or [batch] with "event".
        The mean is by the weights, if there are any, or over the `count` that `forward` is given.
    """

    _of = BERNOULLI


class ContinuousBernoulliNLL(OfLogits):
    """−log p(target) under the continuous Bernoulli of the logits, nats: log((exp(logits) − 1) /
    logits) − target · logits.

    Args: as :class:`BernoulliNLL`. Source, Raises: as
    :func:`vae_ext.continuous_bernoulli_log_likelihood`.

    Shape:
        logits, target [batch, ...], of the same shape → a scalar, or [batch] with "event".
    """

    _of = CONTINUOUS_BERNOULLI


class GaussianNLL(NLL):
    """−log p(target) under N(mean, exp(logvar)), nats, with its constant:
    ½ (log 2π + logvar + (target − mean)² exp(−logvar)).

    Args:
        logvar, log_std, std: the scale where `forward` is given none, in one of its forms; a
            float, or a tensor, which is a buffer.
        learned_variance: it is a parameter, [1], the one variance of all elements, which starts at
            `logvar`.
        event_dims, reduction: as in :func:`vae_ext.gaussian_log_likelihood`; the mean over all
            elements by default, as torch's losses.

    Source, Raises: as that function.

    Shape:
        mean, target [batch, ...], of the same shape, logvar and weights broadcastable to them → a
        scalar, or [batch] with "event".
    """

    def __init__(
        self,
        logvar: Value | None = None,
        *,
        log_std: Value | None = None,
        std: Value | None = None,
        learned_variance: bool = False,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        if logvar is log_std is std is None:
            logvar = 0.0
        _, name, scale = scale_of(logvar, log_std, std)
        super().__init__(GAUSSIAN, event_dims, reduction, learned_variance, **{name: scale})

    def forward(
        self,
        mean: Tensor,
        target: Tensor,
        logvar: Value | None = None,
        *,
        log_std: Value | None = None,
        std: Value | None = None,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(mean, target, weights, count, logvar=logvar, log_std=log_std, std=std)


class LaplaceNLL(NLL):
    """−log p(target) under Laplace(loc, exp(log_scale)), nats: log 2 + log_scale +
    |target − loc| exp(−log_scale), of loc and target [batch, ...].

    Args, Source, Raises: as :class:`GaussianNLL`, with `log_scale` for `logvar` and `learned_scale`
    for `learned_variance`.
    """

    log_scale: Value

    def __init__(
        self,
        log_scale: Value = 0.0,
        *,
        learned_scale: bool = False,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(LAPLACE, event_dims, reduction, learned_scale, log_scale=log_scale)

    def forward(
        self,
        loc: Tensor,
        target: Tensor,
        log_scale: Value | None = None,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(loc, target, weights, count, log_scale=log_scale)


class StudentTNLL(NLL):
    """−log t(target; df, loc, exp(log_scale)), nats, with its constants.

    Args:
        df, log_scale: where `forward` is given none; a float, a tensor, which is a buffer, or an
            `nn.Parameter`, such as `log_scale=nn.Parameter(torch.zeros(channels, 1, 1))`.
        event_dims, reduction: as in :func:`vae_ext.student_t_log_likelihood`; the mean over all
            elements by default.

    Source, Raises: as that function.

    Shape:
        loc, target [batch, ...], of the same shape, weights broadcastable to them → a scalar, or
        [batch] with "event".
    """

    df: Value
    log_scale: Value

    def __init__(
        self,
        df: Value,
        log_scale: Value = 0.0,
        *,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(STUDENT_T, event_dims, reduction, df=df, log_scale=log_scale)

    def forward(
        self,
        loc: Tensor,
        target: Tensor,
        df: Value | None = None,
        log_scale: Value | None = None,
        *,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return self._nll(loc, target, weights, count, df=df, log_scale=log_scale)


class ELBOLoss(WithParameters):
    """−(log-likelihood − β KL), nats: :func:`vae_ext.elbo_loss`, whose arguments these are.

    Args:
        likelihood: as in that function; what `recon` is follows from it.
        beta: the weight of the KL; `forward` takes another for schedules.
        parameters: the likelihood's own, after `obs_`, such as `obs_logvar` for "gaussian": a float
            (0 by default), a parameter, or a tensor, which is a buffer. `learned_variance=True`
            makes it a parameter, [1], that starts there; so for other likelihoods does the argument
            of that kind of their own module.

    Source, Raises: as that function; TypeError: a parameter that the likelihood does not have.

    Shape:
        recon, target [batch, ...], mu, logvar [batch, ...] → a scalar, or [batch] with "event".
    """

    def __init__(
        self,
        likelihood: str = "bernoulli",
        *,
        beta: float = 1.0,
        event_dims: int | None = None,
        reduction: str = "batchmean",
        **parameters: Value,
    ) -> None:
        flags = {n: bool(parameters.pop(n)) for n in list(parameters) if n.startswith("learned_")}
        learned = False
        if is_group(likelihood):
            numbers_of_group(likelihood, parameters)
        else:
            entry, _, parameters = likelihood_and_parameters(likelihood, parameters)
            learned = flags.pop(entry.learned, False)
        for name, wanted in flags.items():
            if wanted:
                raise ValueError(
                    f"{name} was True, expected False for the likelihood {likelihood!r}"
                )
        super().__init__(likelihood, parameters, learned)
        checks.reduction(reduction, ("event", "sum", "batchmean"))
        checks.scalar("beta", beta)
        self.likelihood, self.beta = likelihood, beta
        self.event_dims, self.reduction = event_dims, reduction

    def forward(
        self,
        recon: Tensor,
        target: Tensor,
        mu: Tensor,
        logvar: Tensor,
        beta: Value | None = None,
        *,
        weights: Tensor | None = None,
        latent_weights: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:
        return elbo_loss(
            recon,
            target,
            mu,
            logvar,
            likelihood=self.likelihood,
            beta=self.beta if beta is None else beta,
            weights=weights,
            latent_weights=latent_weights,
            event_dims=self.event_dims,
            reduction=self.reduction,
            count=count,
            **self._values(),
        )

    def extra_repr(self) -> str:
        return options(
            likelihood=self.likelihood,
            **self._shown(),
            beta=self.beta,
            event_dims=self.event_dims,
            reduction=self.reduction,
        )
