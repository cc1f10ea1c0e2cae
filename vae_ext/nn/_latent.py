"""The latent of a variational autoencoder as a module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.fx
from torch import Tensor, nn

from .. import _checks as checks
from .._native.seeds import Drawing
from .._region import Region
from ..functional import gaussian_kl, reparameterize, reparameterize_with_kl
from ..functional._reduction import Reduction
from ._options import options

__all__ = ["GaussianLatent"]


def prior_fits(prior: Tensor, mu: Tensor) -> None:
    """A prior larger than the latent would silently enlarge the batch."""
    checks.tensor("mu", mu)
    checks.broadcastable_to("prior_shape", prior, "mu", mu.shape)


# torch.fx.symbolic_trace goes into modules; these are its leaves there.
torch.fx.wrap("prior_fits")
torch.fx.wrap("gaussian_kl")
torch.fx.wrap("reparameterize")
torch.fx.wrap("reparameterize_with_kl")


class GaussianLatent(nn.Module):
    """Samples z ~ N(mu, exp(logvar)) and the KL divergence of that from the prior, in nats.

    Args:
        prior_shape: of a learned diagonal prior, broadcastable to the latent's shape: (C, 1, 1) has
            one mean and log-variance a channel, and 20 or (20,) one for each of 20 dimensions. They
            are parameters, 0 at first, which is N(0, I). With () there is one of each, in a tensor
            of shape [1], since there are sharded trainers that refuse parameters without a
            dimension. None: N(0, I), permanently.
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
        region: Region | None = None,
        weights: Tensor | None = None,
        count: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """z and the KL divergence; arguments as in :func:`vae_ext.reparameterize_with_kl`."""
        drawn = Drawing(n_samples, seed, generator, noise, stream, region)._asdict()
        asked = Reduction(weights, self.event_dims, self.reduction, count).keywords
        if self.prior_mu is None:
            return reparameterize_with_kl(mu, logvar, **drawn, **asked)
        prior_fits(self.prior_mu, mu)
        z = reparameterize(mu, logvar, **drawn)
        return z, gaussian_kl(mu, logvar, self.prior_mu, self.prior_logvar, **asked)

    def extra_repr(self) -> str:
        prior = None if self.prior_mu is None else tuple(self.prior_mu.shape)
        return options(prior_shape=prior, event_dims=self.event_dims, reduction=self.reduction)
