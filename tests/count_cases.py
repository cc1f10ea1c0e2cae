"""The cases of counts, for the table in cases.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import exact
from . import exact_counts as counts
from .case import Naive, Quantity, likelihood, plain
from .inputs import Draw, Sets, count_sets


def lgamma_differences(mean: Tensor, x: Tensor, theta: Tensor, eps: float = 1e-8) -> Tensor:
    """As single-cell packages write it."""
    log_total = torch.log(theta + mean + eps)
    return (
        theta * (torch.log(theta + eps) - log_total)
        + x * (torch.log(mean + eps) - log_total)
        + torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
    )


def softplus_differences(mean: Tensor, x: Tensor, theta: Tensor, logits: Tensor) -> Tensor:
    eps = 1e-8
    softplus = F.softplus(-logits)
    log_failure = torch.log(theta + eps) - torch.log(theta + mean + eps)
    from_logits = -logits + theta * log_failure
    none = F.softplus(from_logits) - softplus
    some = lgamma_differences(mean, x, theta) - logits - softplus
    return torch.where(x < eps, none, some)


def mixture_as_written(
    mean1: Tensor, x: Tensor, mean2: Tensor, theta: Tensor, logits: Tensor
) -> Tensor:
    first, second = (lgamma_differences(mean, x, theta) for mean in (mean1, mean2))
    return torch.logaddexp(first, second - logits) - F.softplus(-logits)


POISSON = likelihood(
    "poisson",
    Quantity("Poisson", counts.poisson, magnitude=counts.poisson_magnitude),
    {"rate": (Quantity("∂/∂rate", counts.poisson_drate),)},
    lambda d: {name: inputs[:2] for name, inputs in count_sets(d).items()},
    {
        "F": Naive(
            lambda r, x, **how: F.poisson_nll_loss(r, x, log_input=False, full=True, **how), -1
        )
    },
    words=3,
)
NEGATIVE_BINOMIAL = likelihood(
    "negative_binomial",
    Quantity(
        "Negative binomial",
        counts.negative_binomial,
        magnitude=counts.negative_binomial_magnitude,
    ),
    {
        "mean": (Quantity("∂/∂mean", counts.negative_binomial_dmean),),
        "dispersion": (Quantity("∂/∂dispersion", counts.negative_binomial_ddispersion),),
    },
    count_sets,
    {"eager": plain(lgamma_differences)},
    words=5,
)
ZERO_INFLATED = likelihood(
    "zero_inflated_negative_binomial",
    Quantity("Zero-inflated", counts.zero_inflated, magnitude=counts.zero_inflated_magnitude),
    {
        "mean": (
            Quantity(
                "∂/∂mean",
                counts.zero_inflated_dmean,
                magnitude=counts.zero_inflated_dmean_magnitude,
            ),
        ),
        "dispersion": (
            Quantity(
                "∂/∂dispersion",
                counts.zero_inflated_ddispersion,
                magnitude=counts.zero_inflated_ddispersion_magnitude,
            ),
        ),
        "zero_logits": (
            Quantity(
                "∂/∂zero_logits",
                counts.zero_inflated_dlogits,
                magnitude=counts.zero_inflated_dlogits_magnitude,
            ),
        ),
    },
    lambda d: count_sets(d, 1),
    {"eager": plain(softplus_differences)},
    words=7,
)


def mixture_sets(d: Draw) -> Sets:
    """The second mean beside the count, too."""
    sets = count_sets(d, 1)
    return {
        name: [mean, x, mean * d.positive(0.1, 10), *more]
        for name, (mean, x, *more) in sets.items()
    }


def of_mixture(name: str, terms: exact.Terms) -> tuple[Quantity]:
    return (Quantity(name, terms, magnitude=counts.spread_of(terms)),)


MIXTURE = likelihood(
    "negative_binomial_mixture",
    Quantity("Mixture", counts.mixture, magnitude=counts.mixture_value_magnitude),
    {
        "mean1": of_mixture("∂/∂mean1", counts.mixture_dmean1),
        "mean2": of_mixture("∂/∂mean2", counts.mixture_dmean2),
        "dispersion": of_mixture("∂/∂dispersion", counts.mixture_ddispersion),
        "mixture_logits": (
            Quantity(
                "∂/∂mixture_logits",
                counts.mixture_dlogits,
                magnitude=counts.mixture_dlogits_magnitude,
            ),
        ),
    },
    mixture_sets,
    {"eager": plain(mixture_as_written)},
    words=9,
)
