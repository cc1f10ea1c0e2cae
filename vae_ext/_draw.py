"""Samples with their log-densities, from which :mod:`vae_ext.estimators` makes its estimates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import _checks as checks
from ._checks import GRADIENTS
from ._native.dispatch import REFERENCE, route, route_by_noise
from ._native.seeds import Drawing
from ._ops import run
from ._region import Region
from ._weighting import with_weights


class Samples(NamedTuple):
    """z [n_samples, *mu.shape] with log q(z|x) and log p(z), [n_samples, batch] each."""

    z: Tensor
    log_q: Tensor
    log_p: Tensor
    gradient: str
    # Zeros [n_samples, batch], by whose gradient doubly_reparameterized_iwae tells the backward
    # pass of the draw what each sample's z weighs (_weighting.py); that estimate takes them out.
    weights: list[Tensor]


def draw(
    mu: Tensor,
    logvar: Tensor,
    n_samples: int = 1,
    *,
    gradient: str = "reparameterized",
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    stream: int = 0,
    region: Region | None = None,
    event_dims: int | None = None,
) -> Samples:
    """Samples z = mu + σ ε with their log-densities, in one pass over `mu` and `logvar`.

    log q(z|x) = −½ Σ (log 2π + logvar + ε²) and log p(z) = −½ Σ (log 2π + z²), sums over each event
    in nats, p = N(0, I). Both are computed before z is rounded to its dtype. The backward pass
    draws the noise again: nothing of the size of z is kept or made but z and its gradient.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, (6), for what
    is made of them.

    Args:
        mu, logvar, seed, generator, noise, stream, region: as in :func:`vae_ext.reparameterize`.
        n_samples: draws for each event.
        gradient: what flows back to mu and logvar.
            "reparameterized": everything, through z and through log q.
            "score": only through log q at fixed z, as (5.9) needs.
            "sticking-the-landing": only through z, log q's parameters standing still. The estimate
            has the same expectation and no variance where q is the posterior (Roeder, Wu and
            Duvenaud, "Sticking the landing", NIPS 2017).
        event_dims: trailing dimensions of one event; None: all of mu's but the first.

    Returns:
        z [n_samples, *mu.shape] in the promoted dtype of `mu` and `logvar`; log q and log p
        [n_samples, batch] in float32, or float64 for float64 inputs. With "score", z and log
        p have no gradient.

    Raises:
        TypeError, ValueError: as :func:`vae_ext.reparameterize`; an unknown `gradient`.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient was {gradient!r}, expected one of {list(GRADIENTS)}")
    checks.pair("mu", mu, "logvar", logvar, to_first=True)
    if n_samples is None:
        raise TypeError("n_samples was None, expected an int")
    dims = checks.event_dims(event_dims, mu.ndim)
    way = route(mu)
    asked = Drawing(n_samples, seed, generator, noise, stream, region)
    tensors, numbers = asked.arguments(mu, way)
    way = route_by_noise(way, noise)
    options = (*numbers, dims, GRADIENTS.index(gradient))
    found = run(way, "sample_with_log_densities", (mu, logvar, *tensors), options)
    z, log_q, log_p, weights = found
    if way == REFERENCE and gradient == "sticking-the-landing":
        z, weights = with_weights(z, log_q)
    if weights is None or gradient != "sticking-the-landing":
        return Samples(z, log_q, log_p, gradient, [])
    return Samples(z, log_q, log_p, gradient, [weights])
