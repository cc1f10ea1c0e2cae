"""KL divergences in closed form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .. import _checks as checks
from .._native.dispatch import route
from .._ops import run
from .._reference.formulas import STD
from ._reduction import Reduction
from ._scale import scale_of

__all__ = ["gaussian_kl"]


def divergence(
    tensors: Sequence[Tensor | None],
    shape: Sequence[int],
    asked: Reduction,
    form: int = 0,
    expected: float = 1.0,
) -> Tensor:
    """The op of arguments that are checked. `expected`: the factor of the KL in a loss, for which
    the gradients of a scalar are written with the value."""
    first = tensors[0]
    assert first is not None
    options = (form, *asked.arguments("mu", first, shape))
    kl: Tensor = run(route(first), "gaussian_kl", (*tensors, asked.weights), options, expected)
    return asked.finished(kl, shape)


def gaussian_kl(
    mu: Tensor,
    logvar: Tensor | None = None,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    *,
    log_std: Tensor | None = None,
    prior_log_std: Tensor | None = None,
    std: Tensor | None = None,
    prior_std: Tensor | None = None,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """KL(q ‖ p) of the diagonal Gaussians q = N(mu, exp(logvar)) and p.

    With p = N(prior_mu, exp(prior_logvar)), d = logvar − prior_logvar and
    s = (mu − prior_mu) / σ_prior, the sum over each event of ½ (s² + exp(d) − 1 − d), which for
    p = N(0, I) is (4.5): ½ (mu² + exp(logvar) − 1 − logvar). Never negative.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B.

    Args:
        mu, logvar: parameters of q, of any shapes that broadcast.
        prior_mu, prior_logvar: parameters of p, broadcastable with them; None means 0.
        log_std, std: instead of logvar, its half or the exponential of that, σ; a prior's in the
            same form, `prior_log_std` or `prior_std`. From σ nothing is lost where it is near that
            of the prior; at 0 the divergence is infinite, below 0 it is NaN.
        weights, event_dims, reduction, count: as in :func:`bernoulli_log_likelihood`.

    Returns:
        The divergence in nats, [batch] by default, one value per event. Gradients flow to all
        tensors.

    Raises:
        TypeError: a dtype or type that is not supported; no scale, or more than one.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`, or
            `event_dims` out of range.
    """
    form, name, scale = scale_of(logvar, log_std, std)
    prior_scale: Tensor | None = None
    if prior_mu is None and prior_logvar is prior_log_std is prior_std is None:
        shape = checks.pair("mu", mu, name, scale)
    else:
        prior_name = f"prior_{name}"
        scales = (prior_logvar, prior_log_std, prior_std)
        if any(t is not None for t in scales):
            prior_form, given, prior_scale = scale_of(*scales, prefix="prior_")
            if prior_form != form:
                raise TypeError(f"{given} was given with {name}, expected {prior_name}")
        others = {name: scale, "prior_mu": prior_mu, prior_name: prior_scale}
        checks.tensor("mu", mu)
        for other, t in others.items():
            if t is not None:
                checks.tensor(other, t)
                checks.same_device("mu", mu, other, t)
        shape = checks.broadcast(mu=mu, **others)
        if form == STD and prior_scale is None:
            prior_scale = scale.new_ones(())
    asked = Reduction(weights, event_dims, reduction, count)
    return divergence((mu, scale, prior_mu, prior_scale), shape, asked, form)
