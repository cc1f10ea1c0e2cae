"""KL divergences of a DiagonalGaussian that ``torch.distributions.kl_divergence`` finds."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.distributions.kl import register_kl

from ._reference import numerics
from .distributions import DiagonalGaussian
from .functional import gaussian_kl
from .multivariate import kl_multivariate_normal


def _normal(p: Normal | Independent[Normal], q: DiagonalGaussian) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of a Normal, whose dimensions are taken to be independent."""
    base = p.base_dist if isinstance(p, Independent) else p
    if not isinstance(base, Normal) or p.event_shape not in (torch.Size(), q.event_shape):
        raise NotImplementedError(
            f"no KL divergence between events of shape {tuple(q.event_shape)} and {p!r}"
        )
    # Numbers become tensors of the CPU, which torch broadcasts to any device.
    loc, scale = (t.to(q.mu.device) if t.ndim == 0 else t for t in (base.loc, base.scale))
    return loc, 2 * torch.log(scale.to(numerics.arithmetic_dtype(scale)))


@register_kl(DiagonalGaussian, DiagonalGaussian)
def _(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"p had events of shape {tuple(p.event_shape)}, expected {tuple(q.event_shape)}"
        )
    return gaussian_kl(q.mu, q.logvar, p.mu, p.logvar, event_dims=q.event_dims)


def _to_normal(q: DiagonalGaussian, p: Normal | Independent[Normal]) -> Tensor:
    return gaussian_kl(q.mu, q.logvar, *_normal(p, q), event_dims=q.event_dims)


def _from_normal(p: Normal | Independent[Normal], q: DiagonalGaussian) -> Tensor:
    return gaussian_kl(*_normal(p, q), q.mu, q.logvar, event_dims=q.event_dims)


for _kind in (Normal, Independent):
    register_kl(DiagonalGaussian, _kind)(_to_normal)
    register_kl(_kind, DiagonalGaussian)(_from_normal)


def _factors(q: DiagonalGaussian, p: MultivariateNormal) -> tuple[tuple[Tensor, Tensor], ...]:
    """Mean and Cholesky factor of each, in one dtype, at least float32."""
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"the MultivariateNormal had events of shape {tuple(p.event_shape)}, expected "
            f"{tuple(q.event_shape)}"
        )
    dtype = numerics.arithmetic_dtype(q.mu, q.logvar, p.loc)
    std = torch.exp(0.5 * q.logvar.to(dtype))
    return (
        (q.mu.to(dtype), torch.diag_embed(std)),
        (p.loc.to(dtype), p.scale_tril.to(dtype)),
    )


@register_kl(DiagonalGaussian, MultivariateNormal)
def _(q: DiagonalGaussian, p: MultivariateNormal) -> Tensor:
    ours, theirs = _factors(q, p)
    return kl_multivariate_normal(*ours, *theirs)


@register_kl(MultivariateNormal, DiagonalGaussian)
def _(p: MultivariateNormal, q: DiagonalGaussian) -> Tensor:
    ours, theirs = _factors(q, p)
    return kl_multivariate_normal(*theirs, *ours)
