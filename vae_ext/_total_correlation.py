"""The KL divergence to N(0, I), averaged over the data, in three parts: what β-TCVAE weights."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from . import _checks as checks
from ._native.dispatch import is_dtensor
from .functional import gaussian_log_likelihood
from .functional._mixtures import of_groups, uniform

ESTIMATORS = ("stratified", "weighted", "batch")


class KLParts(NamedTuple):
    """Estimates for each sample of a batch, [batch], nats. Their sum is log q(z|x) − log p(z).

    Source: Chen et al., "Isolating sources of disentanglement in variational autoencoders", NeurIPS
    2018, (2).
    """

    mutual_information: Tensor  # log q(z|x) − log q(z)
    total_correlation: Tensor  # log q(z) − Σ_j log q(z_j)
    dimension_wise: Tensor  # Σ_j log q(z_j) − log p(z_j)


def log_weights_of(estimator: str, n_data: int | None, mu: Tensor) -> Tensor:
    """What each posterior of the batch counts in the aggregated one: [1, batch], or [batch, batch],
    of each sample its own."""
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator was {estimator!r}, expected one of {list(ESTIMATORS)}")
    batch = mu.shape[0]
    if estimator == "batch":
        return uniform(mu)
    if n_data is None:
        raise TypeError(
            f"n_data was None, expected the size of the data set for the estimator {estimator!r}"
        )
    checks.integer("n_data", n_data)
    if n_data < batch:
        raise ValueError(f"n_data was {n_data}, expected at least the batch's {batch}")
    if estimator == "weighted":
        return uniform(mu) - math.log(n_data)
    if batch < 2:
        raise ValueError('mu had one event, expected at least 2 for the estimator "stratified"')
    # By tensors, since a compiled program may have batches of many sizes.
    wide = torch.promote_types(mu.dtype, torch.float32)
    place = torch.arange(batch, device=mu.device)
    others = torch.ones(batch, dtype=wide, device=mu.device).sum() - 1
    # What is left for all of the data that is not in the batch, the next event is given.
    rest = (n_data - others) / (n_data * others)
    step = (place - place[:, None]) % batch
    weights = torch.where(step == 1, rest, 1 / others)
    return weights.masked_fill(step == 0, 1 / n_data).log()


def kl_parts(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    n_data: int | None = None,
    estimator: str = "stratified",
    log_weights: Tensor | None = None,
) -> KLParts:
    """The mutual information of x and z, the total correlation of z and the divergences of its
    dimensions, whose sum is in expectation the KL divergence of q(z|x) to N(0, I).

    The aggregated posterior q(z) = E_x q(z|x) is estimated from the posteriors of the batch. No
    tensor of batch × batch × dimensions is made (:func:`vae_ext.mixture_log_density`).

    Source: Chen et al., "Isolating sources of disentanglement in variational autoencoders", NeurIPS
    2018, (2) and appendix C.

    Args:
        z: one sample of each posterior, of the shape of mu.
        mu, logvar: the posteriors of a batch, [batch, ...].
        n_data: events of the data set.
        estimator: what the posteriors of the batch count in q(z).
            "stratified": of n_data, one is a sample's own and the others are estimated from the
            rest of the batch, which is unbiased for q(z).
            "weighted": each 1 / (batch · n_data), as if the data set were the batch n_data times
            over; biased, and the usual choice where the batch is small.
            "batch": each 1 / batch, for which n_data is not needed.
        log_weights: of one's own instead, [batch, batch]: of each sample, what each posterior
            counts.

    Returns:
        The three parts for each sample, [batch], nats.

    Raises:
        TypeError: a dtype or type that is not supported, or no n_data where it is needed.
        ValueError: shapes that do not fit, an unknown estimator, an n_data smaller than the batch,
            or one event for "stratified".
    """
    checks.pair("mu", mu, "logvar", logvar)
    checks.tensor("z", z)
    checks.same_device("mu", mu, "z", z)
    checks.same_shape("mu", mu, "logvar", logvar)
    checks.same_shape("mu", mu, "z", z)
    if mu.ndim < 1 or mu.shape[0] == 0:
        raise ValueError(f"mu had shape {checks.shape_text(mu.shape)}, expected [batch, ...]")
    batch, dims = mu.shape[0], math.prod(mu.shape[1:])
    if is_dtensor(mu):
        from ._sharding import whole_events

        z, mu, logvar = (whole_events(t) for t in (z, mu, logvar))
    if log_weights is None:
        weights = log_weights_of(estimator, n_data, mu)
    else:
        checks.tensor("log_weights", log_weights)
        checks.same_device("mu", mu, "log_weights", log_weights)
        if tuple(log_weights.shape) != (batch, batch):
            raise ValueError(
                f"log_weights had shape {checks.shape_text(log_weights.shape)}, expected "
                f"{checks.shape_text((batch, batch))}"
            )
        weights = log_weights

    def log_density(groups: int, size: int) -> Tensor:
        x, m, v = (t.reshape(batch, groups, size) for t in (z, mu, logvar))
        return of_groups(x, m, v, weights).sum(1)

    log_q, log_q_of_each = log_density(1, dims), log_density(dims, 1)
    log_q_given_x = gaussian_log_likelihood(mu, z, logvar, event_dims=mu.ndim - 1)
    log_p = gaussian_log_likelihood(z, torch.zeros_like(z), 0.0, event_dims=mu.ndim - 1)
    return KLParts(log_q_given_x - log_q, log_q - log_q_of_each, log_q_of_each - log_p)


def beta_tcvae(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    n_data: int | None = None,
    estimator: str = "stratified",
    log_weights: Tensor | None = None,
) -> Tensor:
    """α I(x; z) + β TC(z) + γ Σ_j KL(q(z_j) ‖ p(z_j)): the KL term of β-TCVAE, estimated from a
    batch. With all weights 1 it estimates the KL divergence to N(0, I).

    Source: Chen et al., "Isolating sources of disentanglement in variational autoencoders", NeurIPS
    2018, (4).

    Args:
        z, mu, logvar, n_data, estimator, log_weights: as in :func:`kl_parts`.
        alpha, beta, gamma: the weights of the parts.

    Returns:
        One value per event, [batch], nats.

    Raises:
        As :func:`kl_parts`.
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        checks.number(name, value)
    parts = kl_parts(z, mu, logvar, n_data=n_data, estimator=estimator, log_weights=log_weights)
    weights = (alpha, beta, gamma)
    first, second, third = (w * part for w, part in zip(weights, parts, strict=True))
    return first + second + third
