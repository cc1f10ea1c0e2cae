"""The functions as modules, with torch's conventions: parameters, state, `extra_repr`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
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


def options(**values: object) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


class GaussianLatent(nn.Module):
    """Samples z ~ N(mu, exp(logvar)) and the KL divergence of that from the prior, in nats.

    Args:
        prior_shape: of a learned diagonal prior, broadcastable to the latent's shape: (C, 1, 1) has
            one mean and log-variance a channel. They are parameters, 0 at first, which is N(0, I).
            None: N(0, I), for good.
        event_dims, reduction: of the KL, as in :func:`vae_ext.gaussian_kl`.

    Source: (4.5) of docs/derivations.md, and its general form.

    Raises:
        TypeError, ValueError: as :func:`vae_ext.reparameterize` and :func:`vae_ext.gaussian_kl`.

    Shape:
        mu, logvar [batch, ...] → z of the shape of mu, or [n_samples, *mu.shape]; kl [batch].
    """

    def __init__(
        self,
        prior_shape: Sequence[int] | None = None,
        *,
        event_dims: int | None = None,
        reduction: str = "event",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        checks.reduction(reduction)
        self.event_dims, self.reduction = event_dims, reduction
        for name in ("prior_mu", "prior_logvar"):
            value = None
            if prior_shape is not None:
                value = nn.Parameter(torch.empty(*prior_shape, device=device, dtype=dtype))
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
    ) -> tuple[Tensor, Tensor]:
        """z and the KL divergence; arguments as in :func:`vae_ext.reparameterize`."""
        if self.prior_mu is None:
            return reparameterize_with_kl(
                mu,
                logvar,
                n_samples=n_samples,
                seed=seed,
                generator=generator,
                event_dims=self.event_dims,
                reduction=self.reduction,
            )
        z = reparameterize(mu, logvar, n_samples=n_samples, seed=seed, generator=generator)
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
        logits, target [batch, ...] → a scalar, or [batch] with "event".
    """

    def __init__(self, *, event_dims: int | None = None, reduction: str = "mean") -> None:
        super().__init__()
        checks.reduction(reduction)
        self.event_dims, self.reduction = event_dims, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return -bernoulli_log_likelihood(
            logits, target, event_dims=self.event_dims, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        return options(event_dims=self.event_dims, reduction=self.reduction)


class GaussianNLL(nn.Module):
    """−log p(target) under N(mean, exp(logvar)), nats, with its constant:
    ½ (log 2π + logvar + (target − mean)² exp(−logvar)).

    Args:
        logvar: the log-variance where `forward` is given none.
        learned: it is a parameter, the one variance of all elements, which starts at `logvar`.
        event_dims, reduction: as in :func:`vae_ext.gaussian_log_likelihood`; the mean over all
            elements by default, as torch's losses.

    Source, Raises: as that function.

    Shape:
        mean, target [batch, ...], logvar broadcastable to them → a scalar, or [batch] with "event".
    """

    def __init__(
        self,
        logvar: float = 0.0,
        *,
        learned: bool = False,
        event_dims: int | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        checks.reduction(reduction)
        checks.scalar("logvar", logvar)
        self.event_dims, self.reduction = event_dims, reduction
        self.logvar: float | Tensor
        self.logvar = nn.Parameter(torch.tensor(float(logvar))) if learned else logvar

    def forward(self, mean: Tensor, target: Tensor, logvar: float | Tensor | None = None) -> Tensor:
        return -gaussian_log_likelihood(
            mean,
            target,
            self.logvar if logvar is None else logvar,
            event_dims=self.event_dims,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        learned = isinstance(self.logvar, Tensor)
        shown = {"learned": True} if learned else {"logvar": self.logvar}
        return options(**shown, event_dims=self.event_dims, reduction=self.reduction)


class ELBOLoss(nn.Module):
    """−(log-likelihood − β KL), nats: :func:`vae_ext.elbo_loss`, whose arguments these are.

    Args:
        likelihood: "bernoulli" (recon is logits) or "gaussian" (recon is the mean).
        obs_logvar: log-variance of the Gaussian likelihood.
        learned_variance: it is a parameter that starts at `obs_logvar`.
        beta: the weight of the KL; `forward` takes another for schedules.

    Source, Raises: as that function; ValueError: a learned variance of a Bernoulli likelihood.

    Shape:
        recon, target [batch, ...], mu, logvar [batch, ...] → a scalar, or [batch] with "event".
    """

    def __init__(
        self,
        likelihood: str = "bernoulli",
        *,
        obs_logvar: float = 0.0,
        learned_variance: bool = False,
        beta: float = 1.0,
        event_dims: int | None = None,
        reduction: str = "batchmean",
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood was {likelihood!r}, expected one of {list(LIKELIHOODS)}")
        if learned_variance and likelihood != "gaussian":
            raise ValueError("learned_variance was True, expected False for a Bernoulli likelihood")
        checks.reduction(reduction, ("event", "sum", "batchmean"))
        checks.scalar("obs_logvar", obs_logvar)
        self.likelihood, self.beta = likelihood, beta
        self.event_dims, self.reduction = event_dims, reduction
        self.obs_logvar: float | Tensor = obs_logvar
        if learned_variance:
            self.obs_logvar = nn.Parameter(torch.tensor(float(obs_logvar)))

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
            learned = isinstance(self.obs_logvar, Tensor)
            shown |= {"learned_variance": True} if learned else {"obs_logvar": self.obs_logvar}
        return options(
            **shown, beta=self.beta, event_dims=self.event_dims, reduction=self.reduction
        )
