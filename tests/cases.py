"""The one table of cases: every op that is a formula, with its arguments, inputs, exact value and
derivatives, and what people write instead. Parity, layouts, gradients, memory, random calls, edges,
accuracy, benchmarks and the sanitizers iterate over it; a new op needs an entry here, and its exact
formulas in exact.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

import vae_ext
from vae_ext._formulas import normal
from vae_ext.distributions import DiagonalGaussian

from . import exact, oracle
from .case import Case as Case
from .case import Quantity as Quantity
from .case import plain
from .case import wanted as wanted
from .count_cases import MIXTURE, NEGATIVE_BINOMIAL, POISSON, ZERO_INFLATED
from .group_cases import PARTS
from .inputs import kl_prior_sets, kl_sets, sampling_sets
from .likelihood_cases import LIKELIHOODS

# 0-dimensional, empty, one element, odd sizes, and more than one chunk of work and thread.
SHAPES = [
    *((), (0,), (0, 3), (3, 0), (1,), (1, 1), (41,), (4, 401), (3, 1271), (2, 3, 5, 7)),
    (2, 40000),
]
REDUCTIONS = ["none", "event", "sum", "mean", "batchmean"]


# ---- Divergences ---------------------------------------------------------------------------------


def to_standard(mu: Tensor, logvar: Tensor) -> Tensor:
    zero = torch.zeros_like(mu)
    return kl_divergence(normal(mu, logvar), normal(zero, zero))


KL = Case(
    "gaussian_kl",
    "KL divergence to N(0, I)",
    vae_ext.gaussian_kl,
    oracle.gaussian_kl,
    ("mu", "logvar"),
    Quantity("KL to N(0, I)", exact.kl, "ulp", 4, 8),
    {
        "mu": (Quantity("∂KL/∂mu", exact.kl_dmu, "ulp", 0, 0),),
        "logvar": (Quantity("∂KL/∂logvar", exact.kl_dlogvar, "ulp", 2, 3),),
    },
    kl_sets,
    naive={
        "eager": plain(lambda mu, logvar: 1 + logvar - mu.pow(2) - logvar.exp(), -0.5),
        "distributions": plain(to_standard),
    },
    gradient_roundings=4,
    words=6,
)
KL_PRIOR = Case(
    "gaussian_kl_prior",
    "KL divergence to a prior",
    vae_ext.gaussian_kl,
    oracle.gaussian_kl,
    ("mu", "logvar", "prior_mu", "prior_logvar"),
    Quantity("KL to a prior", exact.kl_prior, magnitude=exact.kl_prior_magnitude),
    {
        "mu": (Quantity("∂/∂mu", exact.kl_prior_dmu),),
        "logvar": (
            Quantity(
                "∂/∂logvar", exact.kl_prior_dlogvar, magnitude=exact.kl_prior_dlogvar_magnitude
            ),
        ),
        "prior_logvar": (
            Quantity(
                "∂/∂prior_logvar",
                exact.kl_prior_dprior_logvar,
                magnitude=exact.kl_prior_dprior_logvar_magnitude,
            ),
        ),
    },
    kl_prior_sets,
    required=2,
    like={"prior_mu": "mu"},
    naive={
        "eager": plain(
            lambda m, v, p, w: w - v + torch.exp(v - w) + (m - p).pow(2) * torch.exp(-w) - 1, 0.5
        ),
        "distributions": plain(lambda m, v, p, w: kl_divergence(normal(m, v), normal(p, w))),
    },
    words=12,
)

BOUNDS = (-1.5, 0.75)  # of log-variances, which the inputs exceed on both sides


def bounded_kl(soft: bool) -> Case:
    """The KL with bounds on logvar: parity alone, with what the rounding of the bound does."""

    def function(
        mu: Tensor, logvar: Tensor, *, event_dims: int | None = None, **options: Any
    ) -> Tensor:
        q = DiagonalGaussian(
            mu, logvar, event_dims=event_dims, bounds=BOUNDS, soft=soft, validate_args=False
        )
        return q.kl(**options)

    def reference(mu: Tensor, logvar: Tensor, **options: Any) -> Tensor:
        mu, logvar = torch.broadcast_tensors(mu, logvar)
        return oracle.gaussian_kl(mu, oracle.bounded(logvar, *BOUNDS, soft), **options)

    def value(m: Any, mu: Tensor, logvar: Tensor) -> Any:
        inside = oracle.bounded(logvar, *BOUNDS, soft)
        return *exact.kl(m, mu, inside), torch.expm1(inside)

    def by_logvar(m: Any, mu: Tensor, logvar: Tensor) -> Any:
        low, high = BOUNDS
        slope = ((logvar >= low) & (logvar <= high)).double()
        if soft:
            half = 0.5 * (high - low)
            slope = 1 / torch.cosh((logvar - (low + half)) / half) ** 2
            slope = slope * (1 + logvar.abs())  # tanh is steep in relative terms far out
        return (slope * (1 + oracle.bounded(logvar, *BOUNDS, soft).exp()),)

    return replace(
        KL,
        name=f"bounded_kl_{'soft' if soft else 'hard'}",
        function=function,
        oracle=reference,
        value=Quantity("", value),
        gradients={"mu": (Quantity("", exact.kl_dmu),), "logvar": (Quantity("", by_logvar),)},
        scale=1.5,
        gradient_roundings=10,
        measured=False,
        words=0,
    )


# ---- Samples, given their noise ------------------------------------------------------------------


def one_draw(mu: Tensor, logvar: Tensor, noise: Tensor) -> vae_ext.estimators.Samples:
    noise = noise.expand(mu.shape).unsqueeze(0)
    return vae_ext.estimators.draw(mu, logvar, 1, noise=noise, event_dims=0)


def sampling(
    name: str,
    title: str,
    function: Callable[..., Tensor],
    value: Quantity,
    naive: dict[str, Callable[..., Tensor]],
    **more: Any,
) -> Case:
    return Case(
        name,
        title,
        function,
        function,
        ("mu", "logvar", "noise"),
        value,
        sets=sampling_sets,
        naive={k: plain(f) for k, f in naive.items()},
        reduces=False,
        **{"gradients": {}, **more},
    )


def eager_z(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    return mu + torch.exp(0.5 * logvar) * noise


SAMPLES = [
    sampling(
        "sample",
        "Reparameterized sample, given the noise",
        lambda m, v, e: vae_ext.reparameterize(m, v, noise=e),
        Quantity("mu + σ ε", exact.sample, limit=4, cuda_limit=8),
        {"eager": eager_z},
        gradients={
            "logvar": (Quantity("∂z/∂logvar", exact.sample_dlogvar, limit=4, cuda_limit=8),)
        },
    ),
    sampling(
        "log_q",
        "Log-density of a sample under q",
        lambda m, v, e: one_draw(m, v, e).log_q[0],
        Quantity("log q(z)", exact.log_q),
        {"distributions": lambda m, v, e: normal(m, v).log_prob(eager_z(m, v, e))},
    ),
    sampling(
        "log_p",
        "Log-density of a sample under N(0, I)",
        lambda m, v, e: one_draw(m, v, e).log_p[0],
        Quantity("log p(z)", exact.log_p, magnitude=exact.log_p_magnitude),
        {
            "distributions": lambda m, v, e: normal(0 * m, 0 * m).log_prob(eager_z(m, v, e)),
        },
    ),
]

CASES = [
    *(bounded_kl(soft) for soft in (False, True)),
    *(KL, KL_PRIOR, *LIKELIHOODS),
    *(POISSON, NEGATIVE_BINOMIAL, ZERO_INFLATED, MIXTURE),
    *SAMPLES,
]
REDUCING = [c for c in CASES if c.reduces]
MEASURED = [*(c for c in CASES if c.measured), *PARTS]
