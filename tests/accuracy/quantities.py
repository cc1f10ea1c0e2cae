"""What the contract promises: each quantity with its exact formula, its unit of error and its
limit; and what people write instead.

A unit is "ulp", the spacing of floats at the exact value, or "u", half the spacing at 1 times the
sum of the absolute terms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

import vae_ext

from . import exact

Elementwise = Callable[..., Tensor]
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Op:
    ours: Elementwise
    others: dict[str, Elementwise]


def value_only(function: Elementwise) -> Elementwise:
    return lambda *t: function(*t, reduction="none")


def kl_plain(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mu**2 - logvar.exp())


def normal(mean: Tensor, logvar: Tensor) -> Normal:
    return Normal(mean, torch.exp(0.5 * logvar), validate_args=False)


def kl_distributions(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl_divergence(normal(mu, logvar), normal(torch.zeros_like(mu), torch.zeros_like(logvar)))


def kl_prior_plain(mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor) -> Tensor:
    return 0.5 * (
        prior_logvar
        - logvar
        + torch.exp(logvar - prior_logvar)
        + (mu - prior_mu) ** 2 * torch.exp(-prior_logvar)
        - 1
    )


def one_draw(mu: Tensor, logvar: Tensor, noise: Tensor) -> vae_ext.estimators.Samples:
    noise = noise.expand(mu.shape).unsqueeze(0)
    return vae_ext.estimators.draw(mu, logvar, 1, noise=noise, event_dims=0)


def normal_density(mean: Tensor, logvar: Tensor, x: Tensor) -> Tensor:
    return normal(mean, logvar).log_prob(x)


OPS = {
    "kl": Op(
        value_only(vae_ext.gaussian_kl), {"eager": kl_plain, "distributions": kl_distributions}
    ),
    "kl_prior": Op(
        value_only(vae_ext.gaussian_kl),
        {
            "eager": kl_prior_plain,
            "distributions": lambda m, v, pm, pv: kl_divergence(normal(m, v), normal(pm, pv)),
        },
    ),
    "bernoulli": Op(
        value_only(vae_ext.bernoulli_log_likelihood),
        {
            "F": lambda x, t: -F.binary_cross_entropy_with_logits(x, t, reduction="none"),
            "distributions": lambda x, t: Bernoulli(logits=x, validate_args=False).log_prob(t),
        },
    ),
    "gaussian": Op(
        value_only(vae_ext.gaussian_log_likelihood),
        {
            "F": lambda m, x, v: -F.gaussian_nll_loss(m, x, v.exp(), full=True, reduction="none"),
            "distributions": lambda m, x, v: normal(m, v).log_prob(x),
        },
    ),
    "sample": Op(
        lambda m, v, e: vae_ext.reparameterize(m, v, noise=e),
        {"eager": lambda m, v, e: m + torch.exp(0.5 * v) * e},
    ),
    "log_q": Op(
        lambda m, v, e: one_draw(m, v, e).log_q[0],
        {"distributions": lambda m, v, e: normal_density(m, v, m + torch.exp(0.5 * v) * e)},
    ),
    "log_p": Op(
        lambda m, v, e: one_draw(m, v, e).log_p[0],
        {
            "distributions": lambda m, v, e: normal_density(
                torch.zeros_like(m), torch.zeros_like(m), m + torch.exp(0.5 * v) * e
            )
        },
    ),
}


@dataclass(frozen=True)
class Quantity:
    """A value, or its derivative by one input (`by`)."""

    name: str
    op: str
    by: int | None
    exact: exact.Formula
    unit: str  # "ulp" or "u"
    limit: float  # float32 on the CPU; float64 is held to the same, in its own units
    cuda_limit: float
    terms: exact.Formula | None = None
    sets: tuple[str, ...] = field(default=())  # all but special, unless named

    def uses(self, name: str, dtype: torch.dtype) -> bool:
        """Whether it is measured on a set. In half precision gradients are on ordinary draws."""
        if dtype in HALF and self.by is not None and name != "ordinary":
            return False
        return not self.sets or name in self.sets


def u(
    name: str,
    op: str,
    by: int | None,
    limit: float,
    formula: exact.Formula,
    terms: exact.Formula | None = None,
    sets: tuple[str, ...] = (),
) -> Quantity:
    cuda = {"bernoulli": 1.5}.get(op, 2) * limit
    return Quantity(name, op, by, formula, "u", limit, cuda, terms, sets)


BINARY, SOFT = ("binary", "sweep, binary"), ("ordinary", "sweep, soft")
QUANTITIES = [
    Quantity("KL to N(0, I)", "kl", None, exact.kl, "ulp", 4, 8),
    Quantity("∂KL/∂mu", "kl", 0, exact.kl_dmu, "ulp", 0, 0),
    Quantity("∂KL/∂logvar", "kl", 1, exact.kl_dlogvar, "ulp", 2, 3),
    u("KL to a prior", "kl_prior", None, 8, exact.kl_prior, exact.kl_prior_terms),
    u("∂/∂mu", "kl_prior", 0, 8, exact.kl_prior_dmu),
    u("∂/∂logvar", "kl_prior", 1, 8, exact.kl_prior_dlogvar, exact.kl_prior_dlogvar_terms),
    u(
        "∂/∂prior_logvar",
        "kl_prior",
        3,
        8,
        exact.kl_prior_dprior_logvar,
        exact.kl_prior_dprior_logvar_terms,
    ),
    Quantity("Bernoulli", "bernoulli", None, exact.bernoulli, "ulp", 4, 6),
    Quantity("∂/∂logits", "bernoulli", 0, exact.bernoulli_dlogit, "ulp", 4, 6, None, BINARY),
    u(
        "∂/∂logits",
        "bernoulli",
        0,
        8,
        exact.bernoulli_dlogit,
        exact.bernoulli_dlogit_terms,
        SOFT,
    ),
    u("Gaussian", "gaussian", None, 8, exact.gaussian, exact.gaussian_terms),
    u("∂/∂mean", "gaussian", 0, 8, exact.gaussian_dmean),
    u("∂/∂logvar", "gaussian", 2, 8, exact.gaussian_dlogvar, exact.gaussian_dlogvar_terms),
    u("mu + σ ε", "sample", None, 4, exact.sample, exact.sample_terms),
    u("∂z/∂logvar", "sample", 1, 4, exact.sample_dlogvar),
    u("log q(z)", "log_q", None, 8, exact.log_q, exact.log_q_terms),
    u("log p(z)", "log_p", None, 8, exact.log_p, exact.log_p_terms),
]


def evaluate(function: Elementwise, inputs: list[Tensor], by: int | None) -> Tensor:
    """The elementwise value, or the derivative of its sum by one input."""
    if by is None:
        with torch.no_grad():
            return function(*inputs)
    leaves = [t.detach().requires_grad_(i == by) for i, t in enumerate(inputs)]
    (grad,) = torch.autograd.grad(function(*leaves).sum(), leaves[by])
    return grad
