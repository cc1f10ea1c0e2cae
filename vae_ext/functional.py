"""The public functions. Every quantity is in nats; log-likelihoods include their constants.

An *event* is the trailing `event_dims` dimensions of a tensor, one independent draw (the word is
`torch.distributions`'); `event_dims=None` means all dimensions but the first, so that a
[B, C, H, W] latent has B events, and 0 makes every element an event. `reduction` is "none"
(elementwise), "event" (the sum over each event), "sum", "mean" (over all elements) or "batchmean"
(the sum divided by the number of events).

Tensors are float16, bfloat16, float32 or float64, of any strides, on any device; half precision is
computed in float32, and reduced results of it are float32. Numbers in parentheses are those of
docs/derivations.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from . import checks, philox, reference
from .dispatch import REFERENCE, changes, for_other_runtimes, is_dynamo_compiling, route
from .native import available
from .seeds import draw, draw_seed

if available:
    from . import autograd, likelihoods

OPS = torch.ops.vae_ext
Maybe = Tensor | None


def as_tensor(number: float, *like: Tensor) -> Tensor:
    """A number as a tensor, by a sum, which compilers do not compile again for each number."""
    zero = like[0].new_zeros((), dtype=reference.arithmetic_dtype(*like))
    return zero + number


def resolve_noise(
    mu: Tensor,
    way: int,
    n_samples: int,
    seed: int | Tensor | None,
    generator: torch.Generator | None,
    noise: Maybe,
) -> tuple[Maybe, int | None]:
    """The seed as the ops take it: a tensor, or a number where that is None; for a runtime without
    our ops neither."""
    if noise is None and seed is None and generator is None:
        if way == REFERENCE and for_other_runtimes():
            return None, None
        return draw_seed(mu, way)
    sources = {"noise": noise, "seed": seed, "generator": generator}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} were given, expected at most one of them")
    if noise is not None:
        checks.noise(noise, (n_samples, *mu.shape) if n_samples else mu.shape)
        checks.same_device("mu", mu, "noise", noise)
        return None, 0
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator was a {type(generator).__name__}, expected a torch.Generator"
            )
        if generator.device.type != mu.device.type:
            raise ValueError(
                f"generator was on {generator.device}, expected the device of mu, {mu.device}"
            )
        return draw(mu.device, generator), 0
    if isinstance(seed, Tensor):
        checks.seed_tensor(seed, mu.device)
        return seed, 0
    return None, checks.word64("seed", seed)  # not None: one of the three is given


def reparameterize(
    mu: Tensor,
    logvar: Tensor,
    *,
    n_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    stream: int = 0,
) -> Tensor:
    r"""Sample z = mu + σ ε with σ = exp(logvar / 2), differentiably.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 2.4.

    Args:
        mu: the means, of any shape.
        logvar: the log-variances, broadcastable to `mu`.
        n_samples: draw that many independent samples, in a new first dimension.
        seed: an int or a 0-dimensional int64 tensor on the device of `mu`; the noise is then the
            one that :func:`standard_normal` gives for it.
        generator: draws the seed; default: torch's generator of the device of `mu`.
        noise: ε itself, of the shape of z. At most one of `noise`, `seed` and `generator`.
        stream: numbers independent noises under one seed.

    Returns:
        z in the shape of `mu`, or [n_samples, \*mu.shape], in the promoted dtype of `mu` and
        `logvar`, laid out like `mu`. Gradients flow to `mu`, `logvar` and `noise`.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not broadcast, devices that differ, `n_samples` < 1, `noise` of
            the wrong shape, or more than one of `noise`, `seed` and `generator`.
    """
    checks.pair("mu", mu, "logvar", logvar, to_first=True)
    samples = checks.n_samples(n_samples)
    way = route(mu)
    seed_tensor, seed_value = resolve_noise(mu, way, samples, seed, generator, noise)
    stream = checks.word64("stream", stream)
    if way == REFERENCE:
        return reference.reparameterize(
            mu,
            logvar,
            n_samples=n_samples,
            seed=seed_value if seed_tensor is None else seed_tensor,
            noise=noise,
            stream=stream,
        )
    z: Tensor = autograd.run(
        way,
        autograd.Reparameterize,
        OPS.reparameterize.default,
        (mu, logvar, noise, seed_tensor),
        (seed_value, stream, samples),
    )
    return z


def reparameterize_with_kl(
    mu: Tensor,
    logvar: Tensor,
    *,
    n_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    stream: int = 0,
    event_dims: int | None = None,
    reduction: str = "event",
) -> tuple[Tensor, Tensor]:
    """Sample z and compute KL(q ‖ N(0, I)) in one pass over `mu` and `logvar`.

    z = mu + σ ε and, summed over each event, ½ (mu² + exp(logvar) − 1 − logvar), (4.5).

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 2.4 and
    appendix B.

    Args:
        mu, logvar, n_samples, seed, generator, noise, stream: as in :func:`reparameterize`.
        event_dims, reduction: of the KL, as in :func:`gaussian_kl`.

    Returns:
        z, [n_samples, *mu.shape] with n_samples, and the KL divergence in nats, [batch] by default.

    Raises:
        TypeError, ValueError: as those two functions.
    """
    checks.pair("mu", mu, "logvar", logvar, to_first=True)
    samples = checks.n_samples(n_samples)
    dims = checks.event_dims(event_dims, mu.ndim)
    code = checks.reduction(reduction)
    way = route(mu)
    seed_tensor, seed_value = resolve_noise(mu, way, samples, seed, generator, noise)
    stream = checks.word64("stream", stream)
    if way == REFERENCE:
        return reference.reparameterize_with_kl(
            mu,
            logvar,
            n_samples=n_samples,
            seed=seed_value if seed_tensor is None else seed_tensor,
            noise=noise,
            stream=stream,
            event_dims=event_dims,
            reduction=reduction,
        )
    z, kl = autograd.run(
        way,
        autograd.ReparameterizeWithKL,
        OPS.reparameterize_with_kl.default,
        (mu, logvar, noise, seed_tensor),
        (seed_value, stream, samples, dims, code),
    )
    return z, kl


def gaussian_kl(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    *,
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
        event_dims: trailing dimensions of one event; None: all but the first.
        reduction: "none", "event", "sum", "mean" or "batchmean".

    Returns:
        The divergence in nats, [batch] by default, one value per event. Gradients flow to all four.

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
    code = checks.reduction(reduction)
    way = route(mu)
    if way == REFERENCE:
        return reference.gaussian_kl(
            mu, logvar, prior_mu, prior_logvar, event_dims=dims, reduction=reduction
        )
    kl: Tensor = autograd.run(
        way,
        autograd.GaussianKL,
        OPS.gaussian_kl.default,
        (mu, logvar, prior_mu, prior_logvar),
        (dims, code),
    )
    return kl


def bernoulli_log_likelihood(
    logits: Tensor, target: Tensor, *, event_dims: int | None = None, reduction: str = "event"
) -> Tensor:
    """log p(target) under Bernoulli(sigmoid(logits)): target · logits − softplus(logits).

    The negative of binary cross-entropy with logits, accurate in relative terms where that loses
    everything: for logits −20 and target 0 it is −2.06e-9, not 0. An infinite logit that agrees
    with its target gives 0.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C.1.

    Args:
        logits: log-odds, of any shape.
        target: in [0, 1], soft values allowed, or bool or uint8 holding 0 and 1; broadcast with
            `logits`.
        event_dims: trailing dimensions of one event; None: all but the first.
        reduction: "none", "event", "sum", "mean" or "batchmean".

    Returns:
        The log-likelihood in nats, [batch] by default, as the leading dimensions of the broadcast
        shape are. Gradients flow to `logits`, and to a floating `target`.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`,
            `event_dims` out of range, or a target outside [0, 1]. The CPU's kernels see that as
            they read it; where a program was compiled or exported it is a RuntimeError of the same
            words, and on other devices, which would have to be waited for, the results are NaN.
    """
    shape = checks.pair("logits", logits, "target", target, checks.TARGETS)
    dims = checks.event_dims(event_dims, len(shape))
    code = checks.reduction(reduction)
    way = route(logits)
    if way == REFERENCE:
        checks.probabilities("target", target)
        return reference.bernoulli_log_likelihood(
            logits, target, event_dims=dims, reduction=reduction
        )
    try:
        ll: Tensor = autograd.run(
            way,
            likelihoods.DirectBernoulliLogLikelihood,
            OPS.bernoulli_log_likelihood.default,
            (logits, target),
            (dims, code),
        )
    except RuntimeError as error:
        checks.raise_as_value_error(error, "target had the value ")
    return ll


def gaussian_log_likelihood(
    mean: Tensor,
    target: Tensor,
    logvar: float | Tensor = 0.0,
    *,
    event_dims: int | None = None,
    reduction: str = "event",
) -> Tensor:
    """log N(target; mean, exp(logvar)): −½ (log 2π + logvar + (target − mean)² exp(−logvar)).

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C.2.

    Args:
        mean, target: of any shapes that broadcast.
        logvar: a float, a scalar tensor (one learned variance) or a tensor broadcastable to them.
        event_dims: trailing dimensions of one event; None: all but the first.
        reduction: "none", "event", "sum", "mean" or "batchmean".

    Returns:
        The log-likelihood in nats, constants included, [batch] by default, as the leading
        dimensions of the broadcast shape are. Gradients flow to `mean`, `logvar` and `target`.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not broadcast, devices that differ, an unknown `reduction`, or
            `event_dims` out of range.
    """
    shape = checks.pair("mean", mean, "target", target)
    elementwise: torch.dtype | None = None
    variance: Maybe = None
    value = 0.0
    if isinstance(logvar, Tensor):
        checks.tensor("logvar", logvar)
        checks.same_device("mean", mean, "logvar", logvar)
        checks.broadcastable_to("logvar", logvar, "mean and target", shape)
        variance = logvar
    else:
        logvar = checks.number("logvar", logvar, "a float or a tensor")
        if is_dynamo_compiling() and changes(logvar):  # the op would be compiled again for each
            variance = logvar = as_tensor(logvar, mean, target)
            elementwise = reference.result_dtype(mean, target)  # a number has no dtype
        else:
            value = float(logvar)
    dims = checks.event_dims(event_dims, len(shape))
    code = checks.reduction(reduction)
    way = route(mean)
    if way == REFERENCE:
        return reference.gaussian_log_likelihood(
            mean, target, logvar, event_dims=dims, reduction=reduction
        )
    ll: Tensor = autograd.run(
        way,
        likelihoods.DirectGaussianLogLikelihood,
        OPS.gaussian_log_likelihood.default,
        (mean, target, variance),
        (value, dims, code),
    )
    if elementwise is not None and reduction == "none":
        ll = ll.to(elementwise)
    return ll


@overload
def standard_normal(
    *size: int,
    seed: int | Tensor,
    stream: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor: ...
@overload
def standard_normal(
    size: Sequence[int],
    /,
    *,
    seed: int | Tensor,
    stream: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor: ...
def standard_normal(
    *size: int | Sequence[int],
    seed: int | Tensor,
    stream: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """The noise that :func:`reparameterize` adds: element i of (seed, stream), in row-major order.

    Philox4x32-10 and Box–Muller; the same values on every device, in every dtype up to rounding.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; Box and Muller,
    "A note on the generation of random normal deviates", 1958.

    Args:
        size: the shape, as integers or as one sequence of them.
        seed: an int or a 0-dimensional int64 tensor.
        stream: numbers independent noises under one seed.
        dtype, device: of the result; default: torch's defaults, and the seed's device.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: a negative size, or a seed or stream that does not fit 64 bits.
    """
    shape = checks.size("size", size)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if dtype not in checks.FLOATING:
        raise TypeError(f"dtype was {dtype}, expected one of {checks.names(checks.FLOATING)}")
    if device is None and isinstance(seed, Tensor):
        device = seed.device
    zero = torch.zeros((), dtype=dtype, device=device)
    # 0 + exp(0) ε is ε, exactly.
    return reparameterize(zero.expand(shape), zero, seed=seed, stream=stream)


def philox_words(n: int, seed: int, stream: int = 0) -> Tensor:
    """The first n 32-bit words of a stream, int64 [n] on the CPU: the raw numbers behind
    the noise, for tests.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Raises:
        TypeError, ValueError: arguments that are not integers, or do not fit 64 bits.
    """
    n = checks.integer("n", n)
    if n < 0:
        raise ValueError(f"n was {n}, expected at least 0")
    seed, stream = checks.word64("seed", seed), checks.word64("stream", stream)
    cpu = torch.device("cpu")
    if not available:
        return philox.words(n, seed, stream, cpu)
    out = torch.empty(n, dtype=torch.int64, device=cpu)
    OPS.philox_words.default(out, seed, stream)
    return out
