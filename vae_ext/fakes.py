"""Fake kernels: the shapes, dtypes and layouts of the ops' results, for whoever traces them.

csrc/tensors.h says the same in C++.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import reference
from .checks import GRADIENTS, REDUCTIONS

Maybe = Tensor | None
EVENT, NONE = REDUCTIONS["event"], REDUCTIONS["none"]
STICKING_THE_LANDING = GRADIENTS.index("sticking-the-landing")

# ---- Results in general --------------------------------------------------------------------------


def empty_like(t: Tensor, dtype: torch.dtype, shape: Sequence[int] | None = None) -> Tensor:
    """Dense, with the dimensions in the order of t's strides, as torch's elementwise ops give."""
    shape = t.shape if shape is None else shape
    strides = t.stride()
    order = list(range(t.ndim))
    if not any(s == 0 and n > 1 for s, n in zip(strides, t.shape, strict=True)):
        order.sort(key=lambda d: strides[d], reverse=True)  # stable: equal strides keep their order
    return t.new_empty([shape[d] for d in order], dtype=dtype).permute(
        [order.index(d) for d in range(t.ndim)]
    )


def result_like(shape: Sequence[int], dtype: torch.dtype, lead: Tensor) -> Tensor:
    if tuple(lead.shape) == tuple(shape):
        return empty_like(lead, dtype)
    return lead.new_empty(shape, dtype=dtype)


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def reduced(
    shape: Sequence[int], dtype: torch.dtype, lead: Tensor, event_dims: int, reduction: int
) -> Tensor:
    if reduction == NONE:
        return result_like(shape, dtype, lead)
    kept = shape[: len(shape) - event_dims] if reduction == EVENT else ()
    return lead.new_empty(kept, dtype=arithmetic(dtype))


def gradients(inputs: Sequence[Maybe], shape: Sequence[int], wanted: int) -> tuple[Tensor, ...]:
    """What a backward op returns for inputs that were broadcast to `shape`."""
    like = inputs[0]
    assert like is not None

    def one(i: int, t: Maybe) -> Tensor:
        if t is None or not wanted >> i & 1:
            return like.new_empty([0], dtype=like.dtype if t is None else t.dtype)
        if tuple(t.shape) == tuple(shape):
            return empty_like(t, t.dtype)
        return t.new_empty(t.shape)

    return tuple(one(i, t) for i, t in enumerate(inputs))


def common_shape(*tensors: Maybe) -> torch.Size:
    common: torch.Size = torch.broadcast_shapes(*(t.shape for t in tensors if t is not None))
    return common


# ---- Op by op ------------------------------------------------------------------------------------


def sample_shape(shape: Sequence[int], n_samples: int) -> list[int]:
    return [n_samples, *shape] if n_samples > 0 else list(shape)


@torch.library.register_fake("vae_ext::reparameterize")
def _(
    mu: Tensor,
    logvar: Tensor,
    noise: Maybe,
    seed: Maybe,
    seed_value: int,
    stream: int,
    n_samples: int,
) -> Tensor:
    return result_like(sample_shape(mu.shape, n_samples), reference.result_dtype(mu, logvar), mu)


@torch.library.register_fake("vae_ext::reparameterize_backward")
def _(
    grad_z: Tensor,
    logvar: Tensor,
    noise: Maybe,
    seed: Maybe,
    seed_value: int,
    stream: int,
    n_samples: int,
    wanted: int,
) -> tuple[Tensor, ...]:
    mu = grad_z[0] if n_samples > 0 else grad_z
    return gradients((mu, logvar), mu.shape, wanted)


@torch.library.register_fake("vae_ext::reparameterize_dnoise")
def _(grad_z: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    return empty_like(noise, noise.dtype)


@torch.library.register_fake("vae_ext::reparameterize_with_kl")
def _(
    mu: Tensor,
    logvar: Tensor,
    noise: Maybe,
    seed: Maybe,
    seed_value: int,
    stream: int,
    n_samples: int,
    event_dims: int,
    reduction: int,
) -> tuple[Tensor, Tensor]:
    dtype = reference.result_dtype(mu, logvar)
    z = result_like(sample_shape(mu.shape, n_samples), dtype, mu)
    return z, reduced(mu.shape, dtype, mu, event_dims, reduction)


@torch.library.register_fake("vae_ext::reparameterize_with_kl_backward")
def _(
    grad_z: Maybe,
    grad_kl: Maybe,
    mu: Tensor,
    logvar: Tensor,
    noise: Maybe,
    seed: Maybe,
    seed_value: int,
    stream: int,
    n_samples: int,
    event_dims: int,
    reduction: int,
    wanted: int,
) -> tuple[Tensor, ...]:
    return gradients((mu, logvar), mu.shape, wanted)


def halves(mu: Tensor, logvar: Maybe, dim: int) -> tuple[Tensor, Tensor]:
    """mu and logvar, or without a logvar the halves of the first."""
    if logvar is not None:
        return mu, logvar
    size = mu.shape[dim] // 2
    return mu.narrow(dim, 0, size), mu.narrow(dim, size, size)


@torch.library.register_fake("vae_ext::latent")
def _(
    mu: Tensor,
    logvar: Maybe,
    noise: Maybe,
    seed: Maybe,
    seed_value: int,
    stream: int,
    n_samples: int,
    bounds: int,
    low: float,
    high: float,
    event_dims: int,
    reduction: int,
    dim: int,
    outputs: int,
) -> tuple[Tensor, Tensor]:
    mu, logvar = halves(mu, logvar, dim)
    dtype = reference.result_dtype(mu, logvar)
    z, kl = mu.new_empty([0], dtype=dtype), mu.new_empty([0], dtype=arithmetic(dtype))
    if outputs & 1:
        z = result_like(sample_shape(mu.shape, n_samples), dtype, mu)
    if outputs & 2:
        kl = reduced(mu.shape, dtype, mu, event_dims, reduction)
    return z, kl


@torch.library.register_fake("vae_ext::latent_backward")
def _(
    grad_z: Maybe,
    grad_kl: Maybe,
    mu: Tensor,
    logvar: Maybe,
    noise: Maybe,
    seed: Maybe,
    seed_value: int,
    stream: int,
    n_samples: int,
    bounds: int,
    low: float,
    high: float,
    event_dims: int,
    reduction: int,
    dim: int,
    wanted: int,
) -> tuple[Tensor, ...]:
    if logvar is not None:
        return gradients((mu, logvar), mu.shape, wanted)
    half, _ = halves(mu, logvar, dim)
    return empty_like(half, mu.dtype, mu.shape), mu.new_empty([0])


@torch.library.register_fake("vae_ext::sample_with_log_densities")
def _(
    mu: Tensor,
    logvar: Tensor,
    noise: Maybe,
    seed: Maybe,
    seed_value: int,
    stream: int,
    n_samples: int,
    event_dims: int,
    flow: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = reference.result_dtype(mu, logvar)
    shape = sample_shape(mu.shape, n_samples)
    log_q, log_p, weights = (reduced(shape, dtype, mu, event_dims, EVENT) for _ in range(3))
    if flow != STICKING_THE_LANDING:
        weights = weights.new_empty([0])
    return result_like(shape, dtype, mu), log_q, log_p, weights


@torch.library.register_fake("vae_ext::sample_with_log_densities_backward")
def _(
    grad_z: Maybe,
    grad_q: Maybe,
    grad_p: Maybe,
    mu: Tensor,
    logvar: Tensor,
    noise: Maybe,
    seed: Maybe,
    seed_value: int,
    stream: int,
    n_samples: int,
    event_dims: int,
    flow: int,
    wanted: int,
) -> tuple[Tensor, ...]:
    return gradients((mu, logvar), mu.shape, wanted)


@torch.library.register_fake("vae_ext::gaussian_kl")
def _(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Maybe,
    prior_logvar: Maybe,
    event_dims: int,
    reduction: int,
) -> Tensor:
    tensors = (mu, logvar, prior_mu, prior_logvar)
    dtype = reference.result_dtype(*tensors)
    return reduced(common_shape(*tensors), dtype, mu, event_dims, reduction)


@torch.library.register_fake("vae_ext::gaussian_kl_backward")
def _(
    grad: Tensor,
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Maybe,
    prior_logvar: Maybe,
    event_dims: int,
    reduction: int,
    wanted: int,
) -> tuple[Tensor, ...]:
    tensors = (mu, logvar, prior_mu, prior_logvar)
    return gradients(tensors, common_shape(*tensors), wanted)


def log_likelihood(prediction: Tensor, *others: Maybe, event_dims: int, reduction: int) -> Tensor:
    tensors = (prediction, *others)
    dtype = reference.result_dtype(*tensors)
    return reduced(common_shape(*tensors), dtype, prediction, event_dims, reduction)


@torch.library.register_fake("vae_ext::bernoulli_log_likelihood")
def _(logits: Tensor, target: Tensor, event_dims: int, reduction: int) -> Tensor:
    return log_likelihood(logits, target, event_dims=event_dims, reduction=reduction)


@torch.library.register_fake("vae_ext::bernoulli_log_likelihood_backward")
def _(
    grad: Tensor,
    logits: Tensor,
    target: Tensor,
    event_dims: int,
    reduction: int,
    wanted: int,
) -> tuple[Tensor, ...]:
    tensors = (logits, target)
    return gradients(tensors, common_shape(*tensors), wanted)


@torch.library.register_fake("vae_ext::gaussian_log_likelihood")
def _(
    mean: Tensor,
    target: Tensor,
    logvar: Maybe,
    logvar_value: float,
    event_dims: int,
    reduction: int,
) -> Tensor:
    return log_likelihood(mean, target, logvar, event_dims=event_dims, reduction=reduction)


@torch.library.register_fake("vae_ext::gaussian_log_likelihood_backward")
def _(
    grad: Tensor,
    mean: Tensor,
    target: Tensor,
    logvar: Maybe,
    logvar_value: float,
    event_dims: int,
    reduction: int,
    wanted: int,
) -> tuple[Tensor, ...]:
    tensors = (mean, target, logvar)
    return gradients(tensors, common_shape(*tensors), wanted)


@torch.library.register_fake("vae_ext::bernoulli_log_likelihood_with_gradients")
def _(
    logits: Tensor, target: Tensor, event_dims: int, reduction: int, wanted: int
) -> tuple[Tensor, ...]:
    tensors = (logits, target)
    value = log_likelihood(*tensors, event_dims=event_dims, reduction=reduction)
    return value, *gradients(tensors, common_shape(*tensors), wanted)


@torch.library.register_fake("vae_ext::gaussian_log_likelihood_with_gradients")
def _(
    mean: Tensor,
    target: Tensor,
    logvar: Maybe,
    logvar_value: float,
    event_dims: int,
    reduction: int,
    wanted: int,
) -> tuple[Tensor, ...]:
    tensors = (mean, target, logvar)
    value = log_likelihood(*tensors, event_dims=event_dims, reduction=reduction)
    return value, *gradients(tensors, common_shape(*tensors), wanted)


@torch.library.register_fake("vae_ext::scale_gradient_")
def _(gradient: Tensor, incoming: Tensor) -> None:
    return None


@torch.library.register_fake("vae_ext::philox_words")
def _(out: Tensor, seed: int, stream: int) -> None:
    return None
