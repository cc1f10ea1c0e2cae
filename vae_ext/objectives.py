"""What is done to the KL term of a loss, and what is looked at: warm-up, capacity, free bits,
balancing, its parts, active units. In nats, mostly on what `gaussian_kl(..., reduction="none")`
gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import _checks as checks
from ._reference.numerics import as_tensor
from ._total_correlation import KLParts, beta_tcvae, kl_parts
from .functional import gaussian_kl

__all__ = [
    "KLParts",
    "active_units",
    "balanced_kl",
    "balanced_sum",
    "beta_tcvae",
    "capacity",
    "cosine_warmup",
    "cyclical_warmup",
    "free_bits",
    "kl_parts",
    "kl_per_dimension",
    "linear_warmup",
]

# ---- The weight of the KL over time --------------------------------------------------------------


def at_least_0(name: str, value: float) -> None:
    if not checks.number(name, value) >= 0:
        raise ValueError(f"{name} was {value}, expected 0 or more")


def above_0(name: str, value: float) -> None:
    if not checks.number(name, value) > 0:
        raise ValueError(f"{name} was {value}, expected more than 0")


def within_unit(name: str, value: float) -> None:
    if not 0 <= checks.number(name, value) <= 1:
        raise ValueError(f"{name} was {value}, expected 0 to 1")


def progress(step: float, n_steps: float) -> float:
    at_least_0("step", step)
    above_0("n_steps", n_steps)
    return min(step / n_steps, 1.0)


def linear_warmup(step: float, n_steps: float, start: float = 0.0, end: float = 1.0) -> float:
    """β from `start` to `end` along a line over `n_steps`, then `end`.

    Source: Bowman et al., "Generating sentences from a continuous space", CoNLL 2016.

    Raises:
        ValueError: a negative step, or n_steps that are not positive.
    """
    return start + (end - start) * progress(step, n_steps)


def cosine_warmup(step: float, n_steps: float, start: float = 0.0, end: float = 1.0) -> float:
    """β from `start` to `end` along half a cosine over `n_steps`, then `end`.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR
    2017, for the shape.

    Raises:
        ValueError: a negative step, or n_steps that are not positive.
    """
    return start + (end - start) * 0.5 * (1 - math.cos(math.pi * progress(step, n_steps)))


def cyclical_warmup(
    step: float, period: float, ramp: float = 0.5, start: float = 0.0, end: float = 1.0
) -> float:
    """β that rises anew every `period` steps: along a line for the part `ramp` of it, then `end`.

    Source: Fu et al., "Cyclical annealing schedule: a simple approach to mitigating KL vanishing",
    NAACL 2019.

    Raises:
        ValueError: a negative step, a period that is not positive, or a ramp outside (0, 1].
    """
    above_0("period", period)
    at_least_0("step", step)
    if not 0 < checks.number("ramp", ramp) <= 1:
        raise ValueError(f"ramp was {ramp}, expected more than 0 and at most 1")
    return linear_warmup(step % period, ramp * period, start, end)


# ---- The KL itself -------------------------------------------------------------------------------


def elementwise(name: str, kl: object) -> None:
    checks.tensor(name, kl)
    assert isinstance(kl, Tensor)
    if kl.ndim < 1:
        raise ValueError(f"{name} had shape [], expected [batch, ...]")


def capacity(kl: Tensor, target: float, gamma: float = 1.0) -> Tensor:
    """γ |KL − C|: a divergence that is held at `target` nats instead of at 0.

    Source: Burgess et al., "Understanding disentangling in β-VAE", 2018.

    Args:
        kl: divergences of events, [batch]; their mean is compared.
        target: C, in nats, usually raised during training.
        gamma: the weight.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: kl is not [batch], or a negative target or gamma.
    """
    elementwise("kl", kl)
    if kl.ndim != 1:
        raise ValueError(f"kl had shape {checks.shape_text(kl.shape)}, expected [batch]")
    at_least_0("target", target)
    at_least_0("gamma", gamma)
    excess = kl.mean() - target
    # |excess|, with a derivative of 0 at 0.
    return gamma * excess * excess.detach().sign()


def free_bits(kl: Tensor, minimum: float, *, group_dims: Sequence[int] = ()) -> Tensor:
    """Σ_j max(λ, mean over the batch of KL_j): groups that cost less than λ nats cost λ, and get
    no gradient.

    Source: Kingma et al., "Improved variational inference with inverse autoregressive flow", NIPS
    2016.

    Args:
        kl: elementwise divergences, [batch, ...].
        minimum: λ, in nats per group.
        group_dims: dimensions whose elements are summed into one group; by default every latent
            dimension is its own. For [batch, C, H, W], (2, 3) makes each channel a group and
            (1, 2, 3) the whole latent.

    Returns:
        The objective's KL term in nats per event, a scalar, of at least λ times the groups.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: a negative minimum, or group_dims that are out of range, repeated, or the batch.
    """
    elementwise("kl", kl)
    at_least_0("minimum", minimum)
    dims = [d + kl.ndim if d < 0 else d for d in group_dims]
    if len(set(dims)) != len(dims) or not all(1 <= d < kl.ndim for d in dims):
        raise ValueError(
            f"group_dims was {tuple(group_dims)}, expected different dimensions of kl "
            f"{checks.shape_text(kl.shape)} other than the first"
        )
    terms = kl.to(torch.promote_types(kl.dtype, torch.float32))
    groups = terms.sum(dims) if dims else terms
    means = groups.mean(0)
    floor = as_tensor(minimum, means)
    return torch.where(means < floor, floor, means).sum()


def balanced_kl(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor,
    prior_logvar: Tensor,
    *,
    alpha: float = 0.8,
    event_dims: int | None = None,
    reduction: str = "event",
    count: int | None = None,
) -> Tensor:
    """α KL(sg(q) ‖ p) + (1 − α) KL(q ‖ sg(p)), sg being stop-gradient: a learned prior moves to the
    encoder faster than the encoder to it. The value is that of the KL, nats.

    Source: Hafner et al., "Mastering Atari with discrete world models", ICLR 2021.

    Args:
        mu, logvar, prior_mu, prior_logvar, event_dims, reduction, count: as in `gaussian_kl`.
        alpha: the prior's share of the gradient, in [0, 1].

    Raises:
        TypeError: as :func:`vae_ext.gaussian_kl`.
        ValueError: as there; alpha outside [0, 1].
    """
    within_unit("alpha", alpha)

    def kl(*tensors: Tensor) -> Tensor:
        return gaussian_kl(*tensors, event_dims=event_dims, reduction=reduction, count=count)

    prior = kl(mu.detach(), logvar.detach(), prior_mu, prior_logvar)
    encoder = kl(mu, logvar, prior_mu.detach(), prior_logvar.detach())
    return alpha * prior + (1 - alpha) * encoder


def balanced_sum(kls: Sequence[Tensor], sizes: Sequence[float] | None = None) -> Tensor:
    """Σ_l γ_l KL_l over the groups of a hierarchical model, γ_l proportional to the group's share:
    groups that carry little are held back less, so that none is switched off early in training.

    γ_l = mean |KL_l| / size_l, scaled to a mean of 1; no gradient goes through it.

    Source: Vahdat and Kautz, "NVAE: a deep hierarchical variational autoencoder", NeurIPS 2020, by
    whose code (`kl_balancer`) this goes; it balances during warm-up only.

    Args:
        kls: divergences of events of each group, [batch] each.
        sizes: relative sizes of the groups; None: all the same.

    Returns:
        One value per event, [batch].

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: no groups, shapes that differ, not one size for each group, or a size that is
            not positive.
    """
    if not kls:
        raise ValueError("kls was empty, expected at least one group")
    for i, kl in enumerate(kls):
        elementwise(f"kls[{i}]", kl)
        if kl.shape != kls[0].shape:
            raise ValueError(
                f"kls[{i}] had shape {checks.shape_text(kl.shape)}, expected that of kls[0], "
                f"{checks.shape_text(kls[0].shape)}"
            )
    if sizes is not None:
        if len(sizes) != len(kls):
            raise ValueError(f"sizes had {len(sizes)} numbers, expected {len(kls)}, one per group")
        for i, size in enumerate(sizes):
            above_0(f"sizes[{i}]", size)
    stacked = torch.stack(list(kls))
    gamma = stacked.detach().abs().flatten(1).mean(1) + 0.01  # as in NVAE: none is ever 0
    if sizes is not None:
        gamma = torch.stack([g / size for g, size in zip(gamma, sizes, strict=True)])
    gamma = gamma / gamma.mean()
    total: Tensor = torch.tensordot(gamma, stacked, 1)
    return total


# ---- What to look at -----------------------------------------------------------------------------


def kl_per_dimension(kl: Tensor) -> Tensor:
    """The mean over the batch of elementwise divergences: what each latent dimension carries, nats.

    Source: Burda et al., "Importance weighted autoencoders", ICLR 2016, section 5.2, whose units
    are active where this is not near 0.

    Args:
        kl: [batch, ...], from ``gaussian_kl(..., reduction="none")``.

    Returns:
        [...], the shape of one latent, without a gradient.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: kl has no batch dimension.
    """
    elementwise("kl", kl)
    return kl.detach().to(torch.promote_types(kl.dtype, torch.float32)).mean(0)


def active_units(mu: Tensor, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions depend on the data: those whose mean varies over it by more than
    `threshold`, Var_x(E_q[z_j]) > 0.01.

    Source: Burda et al., "Importance weighted autoencoders", ICLR 2016, section 5.2.

    Args:
        mu: means of q for many data points, [points, ...].

    Returns:
        A bool tensor of the shape of one latent; `.sum()` counts them.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: fewer than two points, whose variance is undefined.
    """
    elementwise("mu", mu)
    at_least_0("threshold", threshold)
    if mu.shape[0] < 2:
        raise ValueError(
            f"mu had shape {checks.shape_text(mu.shape)}, expected at least two points"
        )
    return mu.detach().to(torch.promote_types(mu.dtype, torch.float32)).var(0) > threshold
