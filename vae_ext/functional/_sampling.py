"""Samples, and the noise that is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor

from .. import _checks as checks
from .._latent import Parameters, sample_and_kl
from .._native.dispatch import route
from .._native.seeds import Drawing
from .._ops import run
from .._reference import KL, Z
from .._reference.formulas import LOGVAR
from .._region import Region
from ._divergences import gaussian_kl
from ._reduction import Reduction
from ._scale import scale_of

__all__ = ["reparameterize", "reparameterize_with_kl", "standard_normal"]


def reparameterize(
    mu: Tensor,
    logvar: Tensor | None = None,
    *,
    log_std: Tensor | None = None,
    std: Tensor | None = None,
    n_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    stream: int = 0,
    region: Region | None = None,
) -> Tensor:
    r"""Sample z = mu + σ ε with σ = exp(logvar / 2), differentiably.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 2.4.

    Args:
        mu: the means, of any shape.
        logvar: the log-variances, broadcastable to `mu`; or instead of them
        log_std, std: the standard deviations σ or their logarithms.
        n_samples: draw that many independent samples, in a new first dimension.
        seed: an int or a 0-dimensional int64 tensor on the device of `mu`; the noise is then the
            one that :func:`standard_normal` gives for it.
        generator: draws the seed; default: torch's generator of the device of `mu`.
        noise: ε itself, of the shape of z. At most one of `noise`, `seed` and `generator`.
        stream: numbers independent noises under one seed.
        region: where in a larger latent `mu` lies, whose noise it then gets: see
            :class:`vae_ext.Region`. Not with `noise`.

    Returns:
        z in the shape of `mu`, or [n_samples, \*mu.shape], in the promoted dtype of `mu` and
        `logvar`, laid out like `mu`. Gradients flow to `mu`, `logvar` and `noise`.

    Raises:
        TypeError: a dtype or type that is not supported; no scale, or more than one.
        ValueError: shapes that do not broadcast, devices that differ, `n_samples` < 1, `noise` of
            the wrong shape, or more than one of `noise`, `seed` and `generator`.
    """
    form, name, scale = scale_of(logvar, log_std, std)
    checks.pair("mu", mu, name, scale, to_first=True)
    drawing = Drawing(n_samples, seed, generator, noise, stream, region)
    if form != LOGVAR:
        found, _ = sample_and_kl(Parameters(mu, scale, form), Z, drawing)
        assert found is not None
        return found
    way = route(mu)
    tensors, numbers = drawing.arguments(mu, way)
    z: Tensor = run(way, "reparameterize", (mu, scale, *tensors), numbers)
    return z


def reparameterize_with_kl(
    mu: Tensor,
    logvar: Tensor | None = None,
    *,
    log_std: Tensor | None = None,
    std: Tensor | None = None,
    n_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    stream: int = 0,
    region: Region | None = None,
    weights: Tensor | None = None,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample z and compute KL(q ‖ N(0, I)) in one pass over `mu` and `logvar`.

    z = mu + σ ε and, summed over each event, ½ (mu² + exp(logvar) − 1 − logvar), (4.5).

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 2.4 and
    appendix B.

    Args:
        mu, logvar, log_std, std, n_samples, seed, generator, noise, stream, region: as in
            :func:`reparameterize`.
        weights, event_dims, reduction, count: of the KL, as in :func:`gaussian_kl`. With weights
            there are two passes.

    Returns:
        z, [n_samples, *mu.shape] with n_samples, and the KL divergence in nats, [batch] by default.

    Raises:
        TypeError, ValueError: as those two functions.
    """
    form, name, scale = scale_of(logvar, log_std, std)
    checks.pair("mu", mu, name, scale, to_first=True)
    asked = Reduction(weights, event_dims, reduction, count)
    of_kl = asked.arguments("mu", mu, mu.shape)
    drawing = Drawing(n_samples, seed, generator, noise, stream, region)
    if weights is not None:
        given: dict[str, Any] = {name: scale}
        spread: dict[str, Any] = {name: scale.expand(mu.shape)}
        kl = gaussian_kl(mu, **spread, **asked.keywords)
        return reparameterize(mu, **given, **drawing._asdict()), kl
    if form != LOGVAR:
        found, kl_found = sample_and_kl(Parameters(mu, scale, form), Z | KL, drawing, of_kl)
        assert found is not None
        assert kl_found is not None
        return found, kl_found
    way = route(mu)
    tensors, numbers = drawing.arguments(mu, way)
    options = (*numbers, *of_kl)
    z, kl = run(way, "reparameterize_with_kl", (mu, scale, *tensors), options)
    return z, kl


@overload
def standard_normal(
    *size: int,
    seed: int | Tensor,
    stream: int = 0,
    region: Region | None = None,
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
    region: Region | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor: ...
def standard_normal(
    *size: int | Sequence[int],
    seed: int | Tensor,
    stream: int = 0,
    region: Region | None = None,
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
        region: the box of a larger noise that is wanted; see :class:`vae_ext.Region`.
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
    return reparameterize(zero.expand(shape), zero, seed=seed, stream=stream, region=region)
