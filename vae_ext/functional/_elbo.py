"""The loss of a variational autoencoder."""

from __future__ import annotations

import math
from array import array

import torch
from torch import Tensor

from .. import _checks as checks
from .. import _sample_checks as sample_checks
from .._formulas import LIKELIHOODS, Likelihood
from .._native.dispatch import tracing
from ._divergences import divergence
from ._groups import BY_NAME, is_group, sampled_group
from ._likelihoods import log_likelihood
from ._reduction import Reduction

__all__ = ["elbo_loss"]

OBSERVED = "obs_"  # before a parameter's name, since the latent has a logvar too
PARAMETERS = {
    f"{OBSERVED}{name}"
    for entry in LIKELIHOODS.values()
    for form in entry.forms
    for name in form.parameters
}


def likelihood_and_parameters(
    likelihood: str, given: dict[str, float | Tensor]
) -> tuple[Likelihood, int, dict[str, float | Tensor]]:
    """The likelihood of that name, the form that the parameters given make, and all parameters of
    that, by default where they are not given."""
    entry = LIKELIHOODS.get(likelihood) if isinstance(likelihood, str) else None
    if entry is None:
        known = [*LIKELIHOODS, *BY_NAME]
        raise ValueError(f"likelihood was {likelihood!r}, expected one of {known}")
    forms = [[f"{OBSERVED}{name}" for name in form.parameters] for form in entry.forms]
    own = {name for names in forms for name in names}

    def says_nothing(name: str) -> bool:
        # The 0 that another likelihood has by default.
        value = given[name]
        return name in PARAMETERS - own and type(value) in (int, float) and not value

    names = [name for name in given if not says_nothing(name)]
    for form, parameters in enumerate(forms):
        if set(names) == set(parameters) or (
            entry.default is not None and set(names) <= set(parameters)
        ):
            return entry, form, {n: given.get(n, entry.default or 0.0) for n in parameters}
    expected = " or ".join(", ".join(names) or "no parameters" for names in forms)
    raise TypeError(
        f"{', '.join(names) or 'no parameter'} was given, expected {expected} for the likelihood "
        f"{likelihood!r}"
    )


def dropped_where(off: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Zeros where `off` is true, with gradients that are exactly 0: of a term without effect."""
    return [torch.where(off, torch.zeros_like(t), t) for t in tensors]


def incoming(beta: float | Tensor, *tensors: Tensor) -> float:
    """The gradient that comes to the KL from beta times it: as the KL's dtype holds it."""
    if isinstance(beta, Tensor) or tracing():  # who records takes two passes
        return 1.0
    double = any(t.dtype is torch.float64 for t in tensors)
    factor = beta if double else array("f", (beta,))[0]
    return factor if factor and math.isfinite(factor) else 1.0


def sampled_log_likelihood(
    likelihood: str,
    given: tuple[Tensor, Tensor, Tensor],
    asked: Reduction,
    parameters: dict[str, float | Tensor],
) -> Tensor:
    """Of recon, target and mu, over whose samples it is averaged."""
    recon, target, mu = given
    entry, form, parameters = likelihood_and_parameters(likelihood, parameters)
    checks.tensor("recon", recon)
    checks.tensor("target", target, entry.target_dtypes)
    checks.tensor("mu", mu)
    checks.same_device("recon", recon, "target", target)
    checks.same_device("recon", recon, "mu", mu)
    sampled = recon.shape != target.shape
    if sampled and recon.shape[1:] != target.shape:
        raise ValueError(
            f"recon had shape {checks.shape_text(recon.shape)}, expected that of target, "
            f"{checks.shape_text(target.shape)}, or the same after a dimension of samples"
        )
    dims = checks.event_dims(asked.event_dims, target.ndim)
    sample_checks.same_events(target.shape[: target.ndim - dims], mu, asked.event_dims)
    n = sample_checks.samples_of("recon", recon) if sampled else None
    values = (*parameters.values(),)
    ll = log_likelihood(entry, recon, target, values, asked.of_samples(n, dims), form)
    return asked.averaged(ll, n)


def elbo_loss(
    recon: Tensor,
    target: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    likelihood: str = "bernoulli",
    beta: float | Tensor = 1.0,
    weights: Tensor | None = None,
    latent_weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "batchmean",
    count: int | None = None,
    **parameters: float | Tensor,
) -> Tensor:
    r"""The negative evidence lower bound −(log p(target|z) − beta KL(q ‖ N(0, I))).

    The estimator SGVB-B: the Kullback–Leibler term in closed form (4.5), the reconstruction term
    at the sampled z that `recon` was decoded from.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, equation (7).

    Args:
        recon: the decoder's output, which is the first argument of the likelihood: logits for
            "bernoulli", the mean for "gaussian" and "negative_binomial", the rate for "poisson"; in
            the shape of `target`, or
            [n_samples, \*target.shape], over whose samples the log-likelihood is averaged. For
            "categorical" the logits [batch, classes, ...], and for "discretized_logistic_mixture"
            its parameters [batch, parameters, ...], as those functions take them, or either after
            a dimension of samples.
        target: the data, as the likelihood takes it.
        mu, logvar: parameters of q(z|x); their events are the target's.
        likelihood: the name of a function without `_log_likelihood`, such as "bernoulli",
            "gaussian", "laplace", "poisson", "negative_binomial", "categorical" or
            "discretized_logistic_mixture".
        beta: weight of the KL term, a float or a scalar tensor. At exactly 0 the term is dropped,
            with its gradients, whatever the KL is.
        weights: of the elements of the target, floating, or bool, a mask, as in
            :func:`bernoulli_log_likelihood`: missing data, padding, weights of events.
        latent_weights: likewise of the elements of the latent, for the KL.
        event_dims: trailing dimensions of one event, for target and latent alike; None: all but
            the first of each.
        reduction: "event" (one loss per event), "sum" or "batchmean", which divides by the number
            of events whatever their weights are. "none" and "mean" raise: data and latent have
            different elements.
        count: of the events of all shards and micro-batches together, which "batchmean" divides by,
            as in :func:`bernoulli_log_likelihood`.
        parameters: those that the likelihood takes besides, each by its name after `obs_`, a float
            or a tensor: `obs_logvar` for "gaussian", `obs_log_scale` for "laplace",
            `obs_dispersion` or `obs_log_dispersion` for "negative_binomial" (with `obs_total_count`
            `recon` is logits), and `obs_zero_logits` with zero inflation. `obs_levels` and
            `obs_min_log_scale`, numbers, for "discretized_logistic_mixture".

    Returns:
        The loss in nats. Gradients flow to every tensor.

    Raises:
        TypeError: a dtype or type that is not supported; a parameter that the likelihood does not
            have, or lacks.
        ValueError: shapes that do not fit, devices that differ, an unknown `reduction` or
            `likelihood`, or `event_dims` out of range.
    """
    checks.reduction(reduction, ("event", "sum", "batchmean"))
    count = checks.count(count, reduction)
    beta = checks.scalar("beta", beta)
    asked = Reduction(weights, event_dims, reduction, count)
    given = (recon, target, mu)
    ll = (
        sampled_group(likelihood, given, asked, parameters)
        if is_group(likelihood)
        else sampled_log_likelihood(likelihood, given, asked, parameters)
    )
    latent_dims = checks.event_dims(event_dims, mu.ndim)
    # 0 times the KL of an encoder that overflows would be NaN, and so would its gradient.
    if isinstance(beta, Tensor):
        mu, logvar = dropped_where(beta.detach() == 0, mu, logvar)
    elif beta == 0:
        mu, logvar = dropped_where(torch.ones((), dtype=torch.bool, device=mu.device), mu, logvar)
    of_latent = Reduction(latent_weights, latent_dims, reduction, count)
    latent_shape = checks.pair("mu", mu, "logvar", logvar)
    kl = divergence(
        (mu, logvar, None, None), latent_shape, of_latent, expected=incoming(beta, mu, logvar)
    )
    if isinstance(beta, Tensor):
        beta = beta.to(kl.dtype)
    return beta * kl - ll
