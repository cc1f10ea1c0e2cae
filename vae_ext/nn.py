"""The functions as modules, with torch's conventions: parameters, state, `extra_repr`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from . import checks
from .elbo import LIKELIHOODS, elbo_loss
from .functional import (
    bernoulli_log_likelihood,
    gaussian_kl,
    gaussian_log_likelihood,
    reparameterize,
    reparameterize_with_kl,
)

__all__ = ["BernoulliNLL", "ELBOLoss", "GaussianLatent", "GaussianNLL"]


def prior_fits(prior: Tensor, mu: Tensor) -> None:
    """A prior larger than the latent would make more of the batch, in silence."""
    checks.tensor("mu", mu)
    checks.broadcastable_to("prior_shape", prior, "mu", mu.shape)


def alike(first_name: str, first: Tensor, target: Tensor) -> None:
    """Prediction and target of one shape, as torch's losses: [B, 1] against [B] would be [B, B]."""
    checks.pair(first_name, first, "target", target, checks.TARGETS)
    checks.same_shape(first_name, first, "target", target)


# torch.fx.symbolic_trace goes into modules; these are its leaves there.
torch.fx.wrap("alike")
torch.fx.wrap("prior_fits")
torch.fx.wrap("bernoulli_log_likelihood")
torch.fx.wrap("elbo_loss")
torch.fx.wrap("gaussian_kl")
torch.fx.wrap("gaussian_log_likelihood")
torch.fx.wrap("reparameterize")
torch.fx.wrap("reparameterize_with_kl")


def options(**values: object) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


class Variance(nn.Module):
    """A module with a log-variance of observations: a number, a tensor or a parameter.

    A tensor is a buffer, so that it is saved and moves with the module. A parameter has one element
    in one dimension: there are sharded trainers that refuse parameters without a dimension.
    """

    def __init__(self, name: str, value: float | Tensor, learned: bool) -> None:
        super().__init__()
        self._name, self._learned = name, learned
        if learned:
            self._start = float(checks.scalar(name, value))
            setattr(self, name, nn.Parameter(torch.empty(1)))
            self.reset_parameters()
        elif isinstance(value, nn.Parameter) or not isinstance(value, Tensor):
            setattr(self, name, value if isinstance(value, Tensor) else checks.number(name, value))
        else:
            checks.tensor(name, value)
            self.register_buffer(name, value)

    def reset_parameters(self) -> None:
        """The learned log-variance as it was at first."""
        if self._learned:
            nn.init.constant_(getattr(self, self._name), self._start)

    def _variance(self) -> dict[str, object]:
        """For `extra_repr`."""
        value = getattr(self, self._name)
        if self._learned:
            return {self._name: self._start, "learned_variance": True}
        return {self._name: tuple(value.shape) if isinstance(value, Tensor) else value}


class GaussianLatent(nn.Module):
    """Samples z ~ N(mu, exp(logvar)) and the KL divergence of that from the prior, in nats.

    Args:
        prior_shape: of a learned diagonal prior, broadcastable to the latent's shape: (C, 1, 1) has
            one mean and log-variance a channel, and 20 or (20,) one for each of 20 dimensions. They
            are parameters, 0 at first, which is N(0, I). With () there is one of each, in a tensor
            of shape [1], since there are sharded trainers that refuse parameters without a
            dimension. None: N(0, I), for good.
        event_dims, reduction: of the KL, as in :func:`vae_ext.gaussian_kl`.

    Source: (4.5) of docs/derivations.md, and its general form.

    Raises:
        TypeError, ValueError: as :func:`vae_ext.reparameterize` and :func:`vae_ext.gaussian_kl`.

    Shape:
        mu, logvar [batch, ...] → z of the shape of mu, or [n_samples, *mu.shape]; kl [batch].
    """

    def __init__(
        self,
        prior_shape: int | Sequence[int] | None = None,
        *,
        event_dims: int | None = None,
        reduction: str = "event",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        checks.reduction(reduction)
        self.event_dims, self.reduction = event_dims, reduction
        shape = None
        if prior_shape is not None:
            given = prior_shape if isinstance(prior_shape, Sequence) else (prior_shape,)
            shape = checks.size("prior_shape", given) or (1,)
        for name in ("prior_mu", "prior_logvar"):
            value = None
            if shape is not None:
                value = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, value)
        self.reset_parameters()

    prior_mu: Tensor | None
    prior_logvar: Tensor | None

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        mu: Tensor,
        logvar: Tensor,
        *,
        n_samples: int | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        stream: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """z and the KL divergence; arguments as in :func:`vae_ext.reparameterize`."""
        drawn: dict[str, Any] = {
            "n_samples": n_samples,
            "seed": seed,
            "generator": generator,
            "noise": noise,
            "stream": stream,
        }
        if self.prior_mu is None:
            return reparameterize_with_kl(
                mu, logvar, **drawn, event_dims=self.event_dims, reduction=self.reduction
            )
        prior_fits(self.prior_mu, mu)
        z = reparameterize(mu, logvar, **drawn)
        kl = gaussian_kl(
            mu,
            logvar,
            self.prior_mu,
            self.prior_logvar,
            event_dims=self.event_dims,
            reduction=self.reduction,
        )
        return z, kl

    def extra_repr(self) -> str:
        prior = None if self.prior_mu is None else tuple(self.prior_mu.shape)
        return options(prior_shape=prior, event_dims=self.event_dims, reduction=self.reduction)


class BernoulliNLL(nn.Module):
    """−log p(target) under Bernoulli(sigmoid(logits)), nats: binary cross-entropy with logits that
    keeps its digits: softplus(logits) − target · logits.

    Args:
        event_dims, reduction: as in :func:`vae_ext.bernoulli_log_likelihood`; the mean over all
            elements by default, as torch's losses.

    Source, Raises: as that function.

    Shape:
        logits, target [batch, ...], of the same shape (as torch's losses: [B, 1] against [B] would
        be the mean over [B, B]) → a scalar, or [batch] with "event".
    """

    def __init__(self, *, event_dims: int | None = None, reduction: str = "mean") -> None:
        super().__init__()
        checks.reduction(reduction)
        self.event_dims, self.reduction = event_dims, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        alike("logits", logits, target)
        return -bernoulli_log_likelihood(
            logits, target, event_dims=self.event_dims, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        return options(event_dims=self.event_dims, reduction=self.reduction)


class GaussianNLL(Variance):
    """−log p(target) under N(mean, exp(logvar)), nats, with its constant:
    ½ (log 2π + logvar + (target − mean)² exp(−logvar)).

    Args:
        logvar: the log-variance where `forward` is given none; a float, or a tensor, which is a
            buffer.
        learned_variance: it is a parameter, [1], the one variance of all elements, which starts at
            `logvar`.
        event_dims, reduction: as in :func:`vae_ext.gaussian_log_likelihood`; the mean over all
            elements by default, as torch's losses.

    Source, Raises: as that function.

    Shape:
        mean, target [batch, ...], of the same shape, logvar broadcastable to them → a scalar, or
        [batch] with "event".
    """

    def __init__(
        self,
        logvar: float | Tensor = 0.0,
        *,
        learned_variance: bool = False,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__("logvar", logvar, learned_variance)
        checks.reduction(reduction)
        self.event_dims, self.reduction = event_dims, reduction

    logvar: float | Tensor

    def forward(self, mean: Tensor, target: Tensor, logvar: float | Tensor | None = None) -> Tensor:
        alike("mean", mean, target)
        return -gaussian_log_likelihood(
            mean,
            target,
            self.logvar if logvar is None else logvar,
            event_dims=self.event_dims,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        return options(**self._variance(), event_dims=self.event_dims, reduction=self.reduction)


class ELBOLoss(Variance):
    """−(log-likelihood − β KL), nats: :func:`vae_ext.elbo_loss`, whose arguments these are.

    Args:
        likelihood: "bernoulli" (recon is logits) or "gaussian" (recon is the mean).
        obs_logvar: log-variance of the Gaussian likelihood, a float, or a tensor, which is a
            buffer.
        learned_variance: it is a parameter, [1], that starts at `obs_logvar`.
        beta: the weight of the KL; `forward` takes another for schedules.

    Source, Raises: as that function; ValueError: a learned variance of a Bernoulli likelihood.

    Shape:
        recon, target [batch, ...], mu, logvar [batch, ...] → a scalar, or [batch] with "event".
    """

    def __init__(
        self,
        likelihood: str = "bernoulli",
        *,
        obs_logvar: float | Tensor = 0.0,
        learned_variance: bool = False,
        beta: float = 1.0,
        event_dims: int | None = None,
        reduction: str = "batchmean",
    ) -> None:
        super().__init__("obs_logvar", obs_logvar, learned_variance)
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood was {likelihood!r}, expected one of {list(LIKELIHOODS)}")
        if learned_variance and likelihood != "gaussian":
            raise ValueError("learned_variance was True, expected False for a Bernoulli likelihood")
        checks.reduction(reduction, ("event", "sum", "batchmean"))
        checks.scalar("beta", beta)
        self.likelihood, self.beta = likelihood, beta
        self.event_dims, self.reduction = event_dims, reduction

    obs_logvar: float | Tensor

    def forward(
        self,
        recon: Tensor,
        target: Tensor,
        mu: Tensor,
        logvar: Tensor,
        beta: float | Tensor | None = None,
    ) -> Tensor:
        return elbo_loss(
            recon,
            target,
            mu,
            logvar,
            likelihood=self.likelihood,
            obs_logvar=self.obs_logvar,
            beta=self.beta if beta is None else beta,
            event_dims=self.event_dims,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        shown: dict[str, object] = {"likelihood": self.likelihood}
        if self.likelihood == "gaussian":
            shown |= self._variance()
        return options(
            **shown, beta=self.beta, event_dims=self.event_dims, reduction=self.reduction
        )
