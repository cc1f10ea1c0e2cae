"""Estimates of the evidence lower bound and of the evidence from samples, and of their gradients.

Draw once, decode, and choose the estimate::

    s = estimators.draw(mu, logvar, n_samples=16)
    ll = vae_ext.bernoulli_log_likelihood(decode(s.z), x, event_dims=1)  # [n_samples, batch]
    loss = -estimators.iwae(ll, s).mean()

All in nats, one value per event; log-likelihoods are [n_samples, batch]. What the gradient is
depends on how the samples were drawn (`gradient=`), and the estimates check that it fits.

The prior is N(0, I), or any other whose log-density `log_prior` computes of z: a learned mixture, a
flow, an autoregressive model::

    loss = -estimators.iwae(ll, s, log_prior=prior.log_prob).mean()
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import _checks as checks
from . import _sample_checks as sample_checks
from ._draw import Samples, draw
from ._native.dispatch import differentiating_forward, is_dtensor

__all__ = ["Samples", "doubly_reparameterized_iwae", "draw", "iwae", "log_evidence"]
__all__ += ["score_function", "sgvb_a", "sgvb_b"]


LogPrior = Callable[[Tensor], Tensor]


def of_samples(name: str, value: Tensor, samples: Samples) -> None:
    checks.tensor(name, value)
    if value.shape != samples.log_q.shape:
        raise ValueError(
            f"{name} had shape {checks.shape_text(value.shape)}, expected that of the samples, "
            f"{checks.shape_text(samples.log_q.shape)}: one value per sample and event"
        )


def joint(
    log_likelihood: Tensor, samples: Samples, log_prior: LogPrior | None
) -> tuple[Tensor, Samples]:
    """log p(x|z), and the samples with log p(z); of another prior log p(x, z), and the samples with
    0 for it: outside of the draw the one depends on z and on parameters as the other does."""
    of_samples("log_likelihood", log_likelihood, samples)
    if log_prior is None:
        return log_likelihood, samples
    if not callable(log_prior):
        raise TypeError(
            f"log_prior was a {type(log_prior).__name__}, expected a function of z, such as the "
            "log_prob of a distribution"
        )
    log_p = log_prior(samples.z)
    of_samples("log_prior(z)", log_p, samples)
    return log_likelihood + log_p, samples._replace(log_p=torch.zeros_like(samples.log_p))


def log_weights(log_likelihood: Tensor, samples: Samples) -> Tensor:
    """log p(x, z) − log q(z|x), [n_samples, batch]."""
    found = log_likelihood + samples.log_p - samples.log_q
    if is_dtensor(found):  # sums over ranks, of which the estimates are not linear
        from ._sharding import replicated

        found = replicated(found)
    return found


def log_mean_exp(weights: Tensor) -> Tensor:
    return weights.logsumexp(0) - math.log(weights.shape[0])


def drawn_with(samples: Samples, *allowed: str) -> None:
    if samples.gradient not in allowed:
        raise ValueError(
            f"the samples were drawn with gradient={samples.gradient!r}, expected one of "
            f"{list(allowed)}"
        )


def sgvb_a(
    log_likelihood: Tensor, samples: Samples, *, log_prior: LogPrior | None = None
) -> Tensor:
    """1/L Σ_l [log p(x|z^l) + log p(z^l) − log q(z^l|x)], an unbiased estimate of the bound.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, (6).

    Args:
        log_likelihood: log p(x|z), [n_samples, batch].
        samples: from :func:`draw`, "reparameterized" or "sticking-the-landing".
        log_prior: takes z, [n_samples, *mu.shape], and returns log p(z), [n_samples, batch];
            gradients flow to its parameters, and through z. None: N(0, I).

    Returns:
        [batch], nats.

    Raises:
        TypeError: a `log_prior` that is no function, or a value that is no tensor.
        ValueError: shapes that do not fit, or samples drawn for another gradient.
    """
    drawn_with(samples, "reparameterized", "sticking-the-landing")
    return log_weights(*joint(log_likelihood, samples, log_prior)).mean(0)


def sgvb_b(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    """1/L Σ_l log p(x|z^l) − KL(q ‖ p): the same bound, with the divergence in closed form (4.5).

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, (7).

    Args:
        log_likelihood: log p(x|z), [n_samples, batch].
        kl: from :func:`vae_ext.gaussian_kl`, [batch].

    Returns:
        [batch], nats.

    Raises:
        TypeError, ValueError: arguments that are not tensors, or whose shapes do not fit.
    """
    checks.tensor("log_likelihood", log_likelihood)
    checks.tensor("kl", kl)
    if log_likelihood.shape[1:] != kl.shape or log_likelihood.ndim != kl.ndim + 1:
        raise ValueError(
            f"log_likelihood had shape {checks.shape_text(log_likelihood.shape)}, expected "
            f"[n_samples, *{checks.shape_text(kl.shape)}], the shape of kl after the samples"
        )
    return log_likelihood.mean(0) - kl


def score_function(
    log_likelihood: Tensor,
    samples: Samples,
    *,
    baseline: bool = True,
    log_prior: LogPrior | None = None,
) -> Tensor:
    """The bound, with the score-function gradient (5.9): z need not be differentiable.

    The value is that of :func:`sgvb_a`. The gradient by φ is 1/L Σ_l (f_l − b_l) ∇ log q(z^l|x),
    f = log p(x, z) − log q(z|x), and b_l the mean of the other samples' f: unbiased, with less
    variance.

    Source: Williams, "Simple statistical gradient-following algorithms for connectionist
    reinforcement learning", 1992; Mnih and Rezende, "Variational inference for Monte Carlo
    objectives", ICML 2016, for the baseline.

    Args:
        log_likelihood: log p(x|z), [n_samples, batch].
        samples: from :func:`draw`, "score".
        baseline: leave-one-out; it needs two samples or more.
        log_prior: as in :func:`sgvb_a`.

    Returns:
        [batch], nats.

    Raises:
        TypeError: as :func:`sgvb_a`.
        ValueError: shapes that do not fit, samples drawn for another gradient, or one alone with a
            baseline.
    """
    drawn_with(samples, "score")
    joint_likelihood, samples = joint(log_likelihood, samples, log_prior)
    value = log_weights(joint_likelihood, samples._replace(log_q=samples.log_q.detach()))
    signal = value.detach()
    n = signal.shape[0]
    if baseline:
        if n < 2:
            raise ValueError(f"baseline was True with {n} sample, expected two samples or more")
        signal = (signal - signal.mean(0)) * (n / (n - 1))
    surrogate = (signal * samples.log_q).mean(0)
    return value.mean(0) + (surrogate - surrogate.detach())


def iwae(log_likelihood: Tensor, samples: Samples, *, log_prior: LogPrior | None = None) -> Tensor:
    """log 1/L Σ_l w_l, w = p(x, z)/q(z|x): the importance-weighted bound, which rises with L to
    the evidence.

    Source: Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, (8).

    Args:
        log_likelihood: log p(x|z), [n_samples, batch].
        samples: from :func:`draw`, "reparameterized" or "sticking-the-landing".
        log_prior: as in :func:`sgvb_a`.

    Returns:
        [batch], nats.

    Raises:
        TypeError: a `log_prior` that is no function, or a value that is no tensor.
        ValueError: shapes that do not fit, or samples drawn for another gradient.
    """
    drawn_with(samples, "reparameterized", "sticking-the-landing")
    return log_mean_exp(log_weights(*joint(log_likelihood, samples, log_prior)))


def doubly_reparameterized_iwae(
    log_likelihood: Tensor, samples: Samples, *, log_prior: LogPrior | None = None
) -> Tensor:
    """:func:`iwae` with the doubly reparameterized gradient by φ, Σ_l w̃_l² ∂log w_l/∂z_l ∂z_l/∂φ, w̃
    being the normalized weights: unbiased, and its signal does not vanish as L grows.

    Source: Tucker et al., "Doubly reparameterized gradient estimators for Monte Carlo objectives",
    ICLR 2019, (8).

    Args:
        log_likelihood: log p(x|z), [n_samples, batch].
        samples: from :func:`draw`, "sticking-the-landing". They can be used once where a gradient
            is wanted, since the one that comes to z is weighted from here on.
        log_prior: as in :func:`sgvb_a`.

    Returns:
        [batch], nats.

    Raises:
        TypeError: a `log_prior` that is no function, or a value that is no tensor.
        ValueError: shapes that do not fit, or samples drawn for another gradient.
        RuntimeError: samples that were used before; forward-mode differentiation, since the
            gradient is an estimate and not the derivative of the value.
    """
    drawn_with(samples, "sticking-the-landing")
    if differentiating_forward():
        raise RuntimeError(
            "doubly_reparameterized_iwae has no forward-mode derivative (jvp, jacfwd, hessian), "
            "since its gradient is an estimate and not the derivative of its value. Use reverse "
            "mode (backward, torch.func.grad, vjp, jacrev), or iwae"
        )
    log_likelihood, samples = joint(log_likelihood, samples, log_prior)
    log_w = log_weights(log_likelihood, samples)
    normalized = log_w.detach().softmax(0)
    # Once for θ; a second time, in the draw's backward pass or here, for what φ gets.
    densities = samples.log_p - samples.log_q
    terms = normalized * log_likelihood + normalized.square() * densities
    differentiated = samples.z.requires_grad and torch.is_grad_enabled()
    if samples.weights:
        terms = terms + normalized * samples.weights[0]
        if differentiated:
            samples.weights.clear()
    elif differentiated:
        raise RuntimeError(
            "the samples were used by doubly_reparameterized_iwae before, or drawn where they "
            "cannot be weighted (under functionalize): each draw serves one estimate"
        )
    surrogate = terms.sum(0)
    value = log_mean_exp(log_w.detach())
    return value + (surrogate - surrogate.detach())


@torch.no_grad()
def log_evidence(
    log_likelihood: Callable[[Tensor], Tensor],
    mu: Tensor,
    logvar: Tensor,
    n_samples: int = 5000,
    *,
    chunk: int = 50,
    seed: int | None = None,
    event_dims: int | None = None,
    log_prior: LogPrior | None = None,
) -> Tensor:
    """log p(x) by importance sampling from q: :func:`iwae` over many samples, `chunk` at a time.

    An underestimate in expectation, by less the more samples and the nearer q is to the posterior.

    Source: Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.

    Args:
        log_likelihood: takes z [chunk, *mu.shape] and returns log p(x|z), [chunk, batch].
        mu, logvar: of q(z|x), [batch, ...].
        n_samples: draws for each event in all.
        chunk: draws that are in memory at once.
        seed: of the noise; chunk k draws from stream k. None: from torch's generator.
        log_prior: as in :func:`sgvb_a`, of z [chunk, *mu.shape].

    Returns:
        [batch], nats, without a gradient.

    Raises:
        TypeError, ValueError: as :func:`draw`; a chunk that is not positive.
    """
    chunk = checks.integer("chunk", chunk)
    if chunk < 1:
        raise ValueError(f"chunk was {chunk}, expected at least 1")
    if sample_checks.n_samples(n_samples) < 1:
        raise TypeError("n_samples was None, expected an int")
    total: Tensor | None = None
    for k, start in enumerate(range(0, n_samples, chunk)):
        n = min(chunk, n_samples - start)
        samples = draw(
            mu, logvar, n, seed=seed, stream=0 if seed is None else k, event_dims=event_dims
        )
        of_z = joint(log_likelihood(samples.z), samples, log_prior)
        part = log_weights(*of_z).logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total - math.log(n_samples)
