"""KL divergences in closed form."""

from __future__ import annotations

from torch import Tensor

from .. import _checks as checks
from .._native.dispatch import route
from .._ops import run
from ._weights import mean_by, reduction_code

__all__ = ["gaussian_kl"]


def gaussian_kl(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
) -> Tensor:
    """KL(q ‖ p) of the diagonal Gaussians q = N(mu, exp(logvar)) and p.

    With p = N(prior_mu, exp(prior_logvar)), d = logvar − prior_logvar and
    s = (mu − prior_mu) / σ_prior, the sum over each event of ½ (s² + exp(d) − 1 − d), which for
    p = N(0, I) is (4.5): ½ (mu² + exp(logvar) − 1 − logvar). Never negative.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B.

    Args:
        mu, logvar: parameters of q, of any shapes that broadcast.
        prior_mu, prior_logvar: parameters of p, broadcastable with them; None means 0.
        weights, event_dims, reduction: as in :func:`bernoulli_log_likelihood`.

    Returns:
        The divergence in nats, [batch] by default, one value per event. Gradients flow to all
        tensors.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`, or
            `event_dims` out of range.
    """
    if prior_mu is None and prior_logvar is None:
        shape = checks.pair("mu", mu, "logvar", logvar)
    else:
        priors = {"prior_mu": prior_mu, "prior_logvar": prior_logvar}
        checks.tensor("mu", mu)
        for name, t in {"logvar": logvar, **priors}.items():
            if t is not None:
                checks.tensor(name, t)
                checks.same_device("mu", mu, name, t)
        shape = checks.broadcast(mu=mu, logvar=logvar, **priors)
    dims = checks.event_dims(event_dims, len(shape))
    code = reduction_code(reduction, weights)
    if weights is not None:
        checks.weights(weights, "mu", mu, shape)
    way = route(mu)
    tensors = (mu, logvar, prior_mu, prior_logvar, weights)
    kl: Tensor = run(way, "gaussian_kl", tensors, (dims, code))
    if reduction == "mean" and weights is not None:
        kl = mean_by(weights, kl, shape)
    return kl
