"""Log-likelihoods of counts, as single-cell models have them."""

from __future__ import annotations

from torch import Tensor

from .. import _checks as checks
from .._formulas import (
    NEGATIVE_BINOMIAL,
    NEGATIVE_BINOMIAL_MIXTURE,
    POISSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    Likelihood,
)
from ._likelihoods import form_of, log_likelihood
from ._reduction import Reduction

__all__ = [
    "negative_binomial_log_likelihood",
    "negative_binomial_mixture_log_likelihood",
    "poisson_log_likelihood",
    "zero_inflated_negative_binomial_log_likelihood",
]

Value = float | Tensor


def of_counts(
    of: Likelihood,
    target: Tensor | None,
    asked: Reduction,
    **given: Value | None,
) -> Tensor:
    """The log-likelihood in the form of the parameters that are given."""
    values = {name: value for name, value in given.items() if value is not None}
    form = form_of(of, values)
    names = of.forms[form]
    prediction, parameters = values[names.prediction], tuple(values[n] for n in names.parameters)
    checks.tensor(names.prediction, prediction)
    checks.tensor("target", target, of.target_dtypes)
    assert isinstance(prediction, Tensor)
    assert target is not None
    return log_likelihood(of, prediction, target, parameters, asked, form)


def poisson_log_likelihood(
    rate: Tensor | None = None,
    target: Tensor | None = None,
    *,
    log_rate: Tensor | None = None,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log Poisson(target; rate): x log rate − rate − log x!, with x for the target.

    Computed as a deviance from the rate, which loses nothing for large counts. A rate of 0 gives 0
    for a count of 0, and −inf for any other.

    Source: Loader, "Fast and accurate computation of binomial probabilities", 2000.

    Args:
        rate: of any shape; or instead of it
        log_rate: its logarithm, whose exponential is taken in the kernel.
        target: counts, broadcast with the rate: floating, bool, uint8, int16, uint16, int32 or
            int64, read as they are; at least 0.
        weights, event_dims, reduction, count: as in :func:`bernoulli_log_likelihood`.

    Returns:
        The log-likelihood in nats, constants included, [batch] by default. Gradients flow to all
        but the target.

    Raises:
        TypeError: a dtype or type that is not supported; parameters that do not go together.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`,
            `event_dims` out of range, a target that requires a gradient, or one below 0 (as for
            :func:`bernoulli_log_likelihood`, a RuntimeError in compiled programs, and NaN on other
            devices than the CPU). A rate below 0 gives NaN.
    """
    asked = Reduction(weights, event_dims, reduction, count)
    return of_counts(POISSON, target, asked, rate=rate, log_rate=log_rate)


def negative_binomial_log_likelihood(
    mean: Tensor | None = None,
    target: Tensor | None = None,
    dispersion: Value | None = None,
    *,
    log_dispersion: Value | None = None,
    total_count: Value | None = None,
    logits: Tensor | None = None,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log NB(target; mean μ, dispersion θ), whose variance is μ + μ² / θ.

    With x for the target: log Γ(x + θ) − log Γ(θ) − log x! + θ log(θ / (θ + μ)) +
    x log(μ / (θ + μ)), computed so that neither value nor gradients lose their digits for a large
    θ, where the differences of log Γ do: in float32 it has the sign of ∂/∂θ right at θ = 1e6. A
    mean of 0 gives 0 for a count of 0. For θ → ∞ it is the Poisson's.

    Source: Loader, "Fast and accurate computation of binomial probabilities", 2000; Lopez et al.,
    "Deep generative modeling for single-cell transcriptomics", 2018.

    Args:
        mean: μ, of any shape.
        dispersion: θ, a number or a tensor that broadcasts to mean and target, such as [genes]: it
            is not expanded, and its gradient is summed in the kernel. Or instead of it
        log_dispersion: its logarithm, whose exponential is taken in the kernel. Or
        total_count, logits: θ and log(μ / θ) instead of mean and dispersion, as
            `torch.distributions.NegativeBinomial` has them.
        target, weights, event_dims, reduction, count: as in :func:`poisson_log_likelihood`.

    Returns, Raises: as that function, in nats, of shape [batch] by default. A mean or a dispersion
        below 0 gives NaN.
    """
    return of_counts(
        NEGATIVE_BINOMIAL,
        target,
        Reduction(weights, event_dims, reduction, count),
        mean=mean,
        dispersion=dispersion,
        log_dispersion=log_dispersion,
        total_count=total_count,
        logits=logits,
    )


def zero_inflated_negative_binomial_log_likelihood(
    mean: Tensor | None = None,
    target: Tensor | None = None,
    dispersion: Value | None = None,
    zero_logits: Value | None = None,
    *,
    log_dispersion: Value | None = None,
    total_count: Value | None = None,
    logits: Tensor | None = None,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log p(target) of what is 0 with probability σ(zero_logits), and a negative binomial of mean μ
    and dispersion θ otherwise.

    At 0 it is log(σ(π) + σ(−π) exp(a)) with π for the logits and a = −θ log(1 + μ / θ), elsewhere
    the negative binomial's less softplus(π). Near 0 a difference of softplus loses its digits: at
    (π, μ, θ) = (−20, 1e-5, 1) this is −9.9999497e-6, to the last.

    Source: Lopez et al., "Deep generative modeling for single-cell transcriptomics", 2018.

    Args:
        zero_logits: the log-odds of an inflated 0, a number or a tensor that broadcasts to mean and
            target.
        mean, target, dispersion, log_dispersion, total_count, logits, weights, event_dims,
            reduction, count: as in :func:`negative_binomial_log_likelihood`.

    Returns, Raises: as that function, in nats, of shape [batch] by default.
    """
    return of_counts(
        ZERO_INFLATED_NEGATIVE_BINOMIAL,
        target,
        Reduction(weights, event_dims, reduction, count),
        mean=mean,
        dispersion=dispersion,
        zero_logits=zero_logits,
        log_dispersion=log_dispersion,
        total_count=total_count,
        logits=logits,
    )


def negative_binomial_mixture_log_likelihood(
    mean1: Tensor | None = None,
    target: Tensor | None = None,
    mean2: Value | None = None,
    dispersion: Value | None = None,
    mixture_logits: Value | None = None,
    *,
    log_dispersion: Value | None = None,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """log(σ(l) NB(target; mean1, θ) + σ(−l) NB(target; mean2, θ)), l for `mixture_logits` and θ for
    the dispersion: foreground and background of protein counts.

    Source: Gayoso et al., "Joint probabilistic modeling of single-cell multi-omic data with
    totalVI", 2021.

    Args:
        mean1, mean2: of the two parts; the second a number or a tensor that broadcasts to the
            first and the target, as dispersion and logits are.
        mixture_logits: the log-odds of the first part.
        target, dispersion, log_dispersion, weights, event_dims, reduction, count: as in
            :func:`negative_binomial_log_likelihood`.

    Returns, Raises: as that function, in nats, of shape [batch] by default.
    """
    return of_counts(
        NEGATIVE_BINOMIAL_MIXTURE,
        target,
        Reduction(weights, event_dims, reduction, count),
        mean1=mean1,
        mean2=mean2,
        dispersion=dispersion,
        mixture_logits=mixture_logits,
        log_dispersion=log_dispersion,
    )
