"""What `python -m vae_ext` checks: every function, beside the reference and what is usual."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal

import vae_ext

from . import _reference as reference
from ._formulas import GAUSSIAN_KL, LIKELIHOODS, Likelihood
from ._reference import groups, mixtures, numerics
from .distributions import DiagonalGaussian

Function = Callable[..., Tensor]
ROWS, COLUMNS = 64, 1024


@dataclass(frozen=True)
class Check:
    name: str
    ours: Function
    exact: Function  # the reference, in float64
    eager: Function  # what is usually written
    inputs: int
    makes: Sequence[Callable[[Tensor], Tensor] | None] = ()  # of normals, an input
    fixed: int | None = None  # the input without a gradient


def with_kl(z_and_kl: tuple[Tensor, Tensor]) -> Tensor:
    z, kl = z_and_kl
    return z.square().sum(1) + kl


def with_densities(draws: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    z, log_q, log_p = draws
    return z.square().sum(2) + log_p - log_q


def bounded(mu: Tensor, logvar: Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(mu, logvar, bounds=(-1, 1), soft=True, validate_args=False)


def eager_draw(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = eager_sample(mu.expand(4, *mu.shape), logvar.expand(4, *mu.shape))
    log_q = Normal(mu, torch.exp(0.5 * logvar)).log_prob(z).sum(-1)
    return z, log_q, Normal(0.0, 1.0).log_prob(z).sum(-1)


def eager_sample(mu: Tensor, logvar: Tensor) -> Tensor:
    std = torch.exp(0.5 * logvar)
    return mu + std * torch.randn_like(std)


def eager_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), 1)


def exact_kl(*inputs: Tensor) -> Tensor:
    return reference.evaluate(GAUSSIAN_KL.terms, *inputs, event_dims=1, reduction="event")


def check_of(likelihood: Likelihood) -> Check:
    """Against the formula, and against the same law of torch.distributions."""
    function = getattr(vae_ext, likelihood.formula.op)
    return Check(
        likelihood.formula.op,
        lambda *t: function(*t, reduction="mean"),
        lambda *t: reference.evaluate(likelihood.terms, *t, event_dims=1, reduction="mean"),
        lambda *t: likelihood.usual(*t).mean(),
        len(likelihood.formula.arguments),
        [likelihood.makes.get(name) for name in likelihood.formula.arguments],
        1 if "target" in likelihood.makes else None,
    )


def classes_of(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)


def mixtures_of(x: Tensor) -> Tensor:
    """Ten mixtures of three channels, for each of as many pixels as there are numbers for."""
    parameters: Tensor = x[:, : COLUMNS // 100 * 100].unflatten(1, (100, -1))
    return parameters


def pixels_of(x: Tensor) -> Tensor:
    return torch.linspace(-1, 1, COLUMNS // 100, dtype=x.dtype, device=x.device).expand(
        len(x), 3, -1
    )


def usual_mixture(x: Tensor) -> Tensor:
    parameters, pixels = mixtures_of(x).movedim(1, 0), pixels_of(x).movedim(1, 0)
    return groups.discretized_logistic_mixture_terms(parameters, pixels, 256, -7.0)


def of_events(function: Function) -> Function:
    """Of a mixture, in as many dimensions as latents have."""
    return lambda *tensors: function(*(t[:, :64] for t in tensors))


def exact_density(z: Tensor, means: Tensor, logvars: Tensor) -> Tensor:
    equal = torch.full((1, ROWS), -math.log(ROWS), dtype=z.dtype, device=z.device)
    events = (t[:, None] for t in (z, means, logvars))
    value, _ = mixtures.mixture_log_density((*events, equal))
    return value[:, 0]


def usual_density(z: Tensor, means: Tensor, logvars: Tensor) -> Tensor:
    each = Normal(means, torch.exp(0.5 * logvars)).log_prob(z[:, None]).sum(-1)
    value: Tensor = each.logsumexp(1) - math.log(ROWS)
    return value


CHECKS = [
    Check(
        "reparameterize",
        lambda m, v: vae_ext.reparameterize(m, v, seed=7),
        lambda m, v: reference.reparameterize(m, v, seed=7),
        eager_sample,
        2,
    ),
    Check(
        "reparameterize_with_kl",
        lambda m, v: with_kl(vae_ext.reparameterize_with_kl(m, v, seed=7)),
        lambda m, v: with_kl(reference.reparameterize_with_kl(m, v, seed=7)),
        lambda m, v: with_kl((eager_sample(m, v), eager_kl(m, v))),
        2,
    ),
    Check(
        "DiagonalGaussian, bounded",
        lambda m, v: with_kl(bounded(m, v).rsample_with_kl(seed=7)),
        lambda m, v: with_kl(
            reference.reparameterize_with_kl(m, numerics.bounded(v, -1, 1, True), seed=7)
        ),
        lambda m, v: with_kl((eager_sample(m, torch.tanh(v)), eager_kl(m, torch.tanh(v)))),
        2,
    ),
    Check(
        "estimators.draw",
        lambda m, v: with_densities(vae_ext.estimators.draw(m, v, 4, seed=7)[:3]),
        lambda m, v: with_densities(
            reference.sample_with_log_densities(
                m, v, n_samples=4, gradient="reparameterized", seed=7
            )
        ),
        lambda m, v: with_densities(eager_draw(m, v)),
        2,
    ),
    Check("gaussian_kl", vae_ext.gaussian_kl, exact_kl, eager_kl, 2),
    Check(
        "gaussian_kl, prior",
        vae_ext.gaussian_kl,
        exact_kl,
        lambda m, v, p, w: (
            0.5 * (w - v + torch.exp(v - w) + (m - p) ** 2 * torch.exp(-w) - 1).sum(1)
        ),
        4,
    ),
    *(check_of(likelihood) for likelihood in LIKELIHOODS.values()),
    Check(
        "categorical_log_likelihood",
        lambda x: vae_ext.categorical_log_likelihood(x, classes_of(x), reduction="mean"),
        lambda x: groups.categorical_terms(x.T, classes_of(x)).mean(),
        lambda x: -torch.nn.functional.cross_entropy(x, classes_of(x)),
        1,
    ),
    Check(
        "discretized_logistic_mixture_log_likelihood",
        lambda x: vae_ext.discretized_logistic_mixture_log_likelihood(
            mixtures_of(x), pixels_of(x), reduction="mean"
        ),
        lambda x: usual_mixture(x).mean(),
        lambda x: usual_mixture(x).mean(),
        1,
    ),
    Check(
        "mixture_log_density",
        of_events(vae_ext.mixture_log_density),
        of_events(exact_density),
        of_events(usual_density),
        3,
    ),
]
