"""The KL divergence of Gaussians with full covariances, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks as checks
from ._reference.numerics import half_expm1_minus_x

WIDE = (torch.float32, torch.float64)


def cholesky_factor(name: str, value: object, mu_name: str, mu: Tensor) -> None:
    checks.tensor(name, value, WIDE)
    assert isinstance(value, Tensor)
    checks.same_device(mu_name, mu, name, value)
    if value.ndim < 2 or value.shape[-1] != value.shape[-2] or value.shape[-1] != mu.shape[-1]:
        n = mu.shape[-1]
        raise ValueError(
            f"{name} had shape {checks.shape_text(value.shape)}, expected [..., {n}, {n}] for a "
            f"{mu_name} of {n} dimensions"
        )


def kl_multivariate_normal(
    mu: Tensor,
    scale_tril: Tensor,
    prior_mu: Tensor | None = None,
    prior_scale_tril: Tensor | None = None,
) -> Tensor:
    """KL(N(mu, L Lᵀ) ‖ N(prior_mu, P Pᵀ)) of Gaussians given by their Cholesky factors.

    The general form ½ (log(|Σ₂|/|Σ₁|) − n + tr(Σ₂⁻¹ Σ₁) + (μ₂ − μ₁)ᵀ Σ₂⁻¹ (μ₂ − μ₁)), computed
    from M = P⁻¹ L, which is lower triangular, as a sum of terms none of which is negative:
    Σᵢ ½ (e^dᵢ − 1 − dᵢ) with dᵢ = 2 log Mᵢᵢ, ½ Mᵢⱼ² off the diagonal, ½ |P⁻¹ (μ₂ − μ₁)|².

    Source: Rasmussen and Williams, "Gaussian processes for machine learning", 2006, (A.23).

    Args:
        mu: [..., n], float32 or float64.
        scale_tril: L [..., n, n], lower triangular with a positive diagonal; what is above the
            diagonal is not read.
        prior_mu: [..., n]; None means 0.
        prior_scale_tril: P [..., n, n]; None means the identity.

    Returns:
        The divergence in nats, [...]: the batch dimensions of the four, broadcast. Gradients flow
        to all of them.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes that do not fit, or devices that differ.
    """
    checks.tensor("mu", mu, WIDE)
    if mu.ndim == 0:
        raise ValueError("mu had shape [], expected [..., n]")
    cholesky_factor("scale_tril", scale_tril, "mu", mu)
    difference = mu
    if prior_mu is not None:
        checks.tensor("prior_mu", prior_mu, WIDE)
        checks.same_device("mu", mu, "prior_mu", prior_mu)
        if prior_mu.ndim == 0 or prior_mu.shape[-1] != mu.shape[-1]:
            raise ValueError(
                f"prior_mu had shape {checks.shape_text(prior_mu.shape)}, expected "
                f"[..., {mu.shape[-1]}]"
            )
        checks.broadcast(mu=mu, prior_mu=prior_mu)
        difference = mu - prior_mu
    ratio = scale_tril.tril()
    one = torch.ones((), dtype=ratio.dtype, device=ratio.device)
    of_q, of_p = ratio.diagonal(dim1=-2, dim2=-1), one
    if prior_scale_tril is not None:
        cholesky_factor("prior_scale_tril", prior_scale_tril, "mu", mu)
        checks.broadcast(scale_tril=scale_tril, prior_scale_tril=prior_scale_tril)
        factor = prior_scale_tril.tril()
        of_p = factor.diagonal(dim1=-2, dim2=-1)
        ratio = torch.linalg.solve_triangular(factor, ratio, upper=False)
        difference = torch.linalg.solve_triangular(
            factor, difference.unsqueeze(-1), upper=False
        ).squeeze(-1)
    # log(L / P) on the diagonal: near 0 from the difference, which keeps what the quotient loses.
    excess = (of_q - of_p) / of_p
    near = excess.abs() < 0.5
    d = 2 * torch.where(
        near, torch.log1p(excess.masked_fill(~near, 0.0)), torch.log(of_q) - torch.log(of_p)
    )
    spread = half_expm1_minus_x(d).sum(-1)
    correlation = 0.5 * ratio.tril(-1).square().sum((-2, -1))
    return spread + correlation + 0.5 * difference.square().sum(-1)
