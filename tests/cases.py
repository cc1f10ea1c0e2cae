"""The one table of cases: every op that is a formula, with its arguments, inputs, exact value and
derivatives, and what people write instead. Parity, layouts, gradients, memory, random calls, edges,
accuracy, benchmarks and the sanitizers iterate over it; a new op needs an entry here, and its exact
formulas in exact.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import kl_divergence

import vae_ext
from vae_ext._formulas import LIKELIHOODS, normal
from vae_ext.distributions import DiagonalGaussian

from . import exact, oracle
from . import exact_counts as counts
from .case import Case as Case
from .case import Naive, plain
from .case import Quantity as Quantity
from .case import wanted as wanted
from .inputs import Draw, Sets, count_sets, kl_prior_sets, kl_sets, likelihood_sets, sampling_sets

# 0-dimensional, empty, one element, odd sizes, and more than one chunk of work and thread.
SHAPES = [
    *((), (0,), (0, 3), (3, 0), (1,), (1, 1), (41,), (4, 401), (3, 1271), (2, 3, 5, 7)),
    (2, 40000),
]
REDUCTIONS = ["none", "event", "sum", "mean", "batchmean"]


def likelihood(
    name: str,
    value: Quantity,
    gradients: dict[str, tuple[Quantity, ...]],
    sets: Callable[[Draw], Sets],
    eager: dict[str, Naive],
    words: int,
    **more: Any,
) -> Case:
    """A case of the package's own table: what follows from that, and what else there is to say."""
    entry = LIKELIHOODS[name]
    formula = entry.formula
    fixed = () if entry.target_gradient else ("target",)
    return Case(
        formula.op,
        f"{name.replace('_', ' ').capitalize()} log-likelihood",
        getattr(vae_ext, formula.op),
        oracle.of_formula(formula),
        formula.arguments,
        value,
        gradients,
        sets,
        like={} if {"target"} & {*gradients, *fixed} else {"target": entry.prediction},
        naive={**eager, "distributions": plain(entry.usual)},
        makes=entry.makes,
        fixed=fixed,
        required=None if entry.default is None else 2,
        floor=0 if entry.target_gradient else 1.2e-38,
        oracle_roundings=1 if entry.target_gradient else 40,
        share=1 if entry.target_gradient else 8,
        one_pass=formula.one_pass,
        words=words,
        **more,
    )


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

    def function(mu: Tensor, logvar: Tensor, *, reduction: str = "event", **options: Any) -> Tensor:
        d = DiagonalGaussian(mu, logvar, bounds=BOUNDS, soft=soft, validate_args=False, **options)
        kl: Tensor = d.kl(reduction=reduction)
        return kl

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


# ---- Likelihoods ---------------------------------------------------------------------------------

BINARY, SOFT = ("binary", "sweep, binary"), ("ordinary", "sweep, soft")
BERNOULLI = likelihood(
    "bernoulli",
    Quantity("Bernoulli", exact.bernoulli, "ulp", 4, 6),
    {
        "logits": (
            Quantity("∂/∂logits", exact.bernoulli_dlogit, "ulp", 4, 6, sets=BINARY),
            Quantity(
                "∂/∂logits",
                exact.bernoulli_dlogit,
                cuda_limit=12,
                magnitude=exact.bernoulli_dlogit_magnitude,
                sets=SOFT,
            ),
        ),
        "target": (Quantity("∂/∂target", exact.bernoulli_dtarget, "ulp", 0, 0),),
    },
    lambda d: {
        "ordinary": [d.normal(3), d.uniform()],
        "binary": [d.normal(3), d.binary()],
        "sweep, binary": [d.log_uniform(1e-30, 1e4), d.binary()],
        "sweep, soft": [d.log_uniform(1e-30, 1e4), d.uniform()],
    },
    {"F": Naive(F.binary_cross_entropy_with_logits, -1)},
    words=3,
    scale=3,
    gradient_roundings=8,
)
GAUSSIAN = likelihood(
    "gaussian",
    Quantity("Gaussian", exact.gaussian),
    {
        "mean": (Quantity("∂/∂mean", exact.gaussian_dmean),),
        "logvar": (Quantity("∂/∂logvar", exact.gaussian_dlogvar),),
    },
    likelihood_sets,
    {
        "eager": plain(
            lambda m, x, v: math.log(2 * math.pi) + v + (x - m).pow(2) * torch.exp(-v), 0.5, -1
        ),
        "F": Naive(lambda m, x, v, **r: F.gaussian_nll_loss(m, x, v.exp(), full=True, **r), -1),
    },
    words=5,
)

LAPLACE = likelihood(
    "laplace",
    Quantity("Laplace", exact.laplace),
    {
        "loc": (Quantity("∂/∂loc", exact.laplace_dloc),),
        "log_scale": (Quantity("∂/∂log_scale", exact.laplace_dlog_scale),),
    },
    likelihood_sets,
    {"eager": plain(lambda m, x, b: math.log(2) + b + (x - m).abs() * torch.exp(-b), sign=-1)},
    words=5,
)

# ---- Likelihoods of counts ----------------------------------------------------------------------


def lgamma_differences(mean: Tensor, x: Tensor, theta: Tensor, eps: float = 1e-8) -> Tensor:
    """As single-cell packages write it."""
    log_total = torch.log(theta + mean + eps)
    return (
        theta * (torch.log(theta + eps) - log_total)
        + x * (torch.log(mean + eps) - log_total)
        + torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
    )


def softplus_differences(mean: Tensor, x: Tensor, theta: Tensor, logits: Tensor) -> Tensor:
    eps = 1e-8
    softplus = F.softplus(-logits)
    log_failure = torch.log(theta + eps) - torch.log(theta + mean + eps)
    from_logits = -logits + theta * log_failure
    none = F.softplus(from_logits) - softplus
    some = lgamma_differences(mean, x, theta) - logits - softplus
    return torch.where(x < eps, none, some)


def mixture_as_written(
    mean1: Tensor, x: Tensor, mean2: Tensor, theta: Tensor, logits: Tensor
) -> Tensor:
    first, second = (lgamma_differences(mean, x, theta) for mean in (mean1, mean2))
    return torch.logaddexp(first, second - logits) - F.softplus(-logits)


POISSON = likelihood(
    "poisson",
    Quantity("Poisson", counts.poisson, magnitude=counts.poisson_magnitude),
    {"rate": (Quantity("∂/∂rate", counts.poisson_drate),)},
    lambda d: {name: inputs[:2] for name, inputs in count_sets(d).items()},
    {"F": Naive(lambda r, x, **how: F.poisson_nll_loss(r, x, log_input=False, **how), -1)},
    words=3,
)
NEGATIVE_BINOMIAL = likelihood(
    "negative_binomial",
    Quantity(
        "Negative binomial",
        counts.negative_binomial,
        magnitude=counts.negative_binomial_magnitude,
    ),
    {
        "mean": (Quantity("∂/∂mean", counts.negative_binomial_dmean),),
        "dispersion": (Quantity("∂/∂dispersion", counts.negative_binomial_ddispersion),),
    },
    count_sets,
    {"eager": plain(lgamma_differences)},
    words=5,
)
ZERO_INFLATED = likelihood(
    "zero_inflated_negative_binomial",
    Quantity("Zero-inflated", counts.zero_inflated, magnitude=counts.zero_inflated_magnitude),
    {
        "mean": (
            Quantity(
                "∂/∂mean",
                counts.zero_inflated_dmean,
                magnitude=counts.zero_inflated_dmean_magnitude,
            ),
        ),
        "dispersion": (
            Quantity(
                "∂/∂dispersion",
                counts.zero_inflated_ddispersion,
                magnitude=counts.zero_inflated_ddispersion_magnitude,
            ),
        ),
        "zero_logits": (
            Quantity(
                "∂/∂zero_logits",
                counts.zero_inflated_dlogits,
                magnitude=counts.zero_inflated_dlogits_magnitude,
            ),
        ),
    },
    lambda d: count_sets(d, 1),
    {"eager": plain(softplus_differences)},
    words=7,
)


def mixture_sets(d: Draw) -> Sets:
    """The second mean beside the count, too."""
    sets = count_sets(d, 1)
    return {
        name: [mean, x, mean * d.positive(0.1, 10), *more]
        for name, (mean, x, *more) in sets.items()
    }


def of_mixture(name: str, terms: exact.Terms) -> tuple[Quantity]:
    return (Quantity(name, terms, magnitude=counts.spread_of(terms)),)


MIXTURE = likelihood(
    "negative_binomial_mixture",
    Quantity("Mixture", counts.mixture, magnitude=counts.mixture_value_magnitude),
    {
        "mean1": of_mixture("∂/∂mean1", counts.mixture_dmean1),
        "mean2": of_mixture("∂/∂mean2", counts.mixture_dmean2),
        "dispersion": of_mixture("∂/∂dispersion", counts.mixture_ddispersion),
        "mixture_logits": (
            Quantity(
                "∂/∂mixture_logits",
                counts.mixture_dlogits,
                magnitude=counts.mixture_dlogits_magnitude,
            ),
        ),
    },
    mixture_sets,
    {"eager": plain(mixture_as_written)},
    words=9,
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
    *(KL, KL_PRIOR, BERNOULLI, GAUSSIAN, LAPLACE),
    *(POISSON, NEGATIVE_BINOMIAL, ZERO_INFLATED, MIXTURE),
    *SAMPLES,
]
REDUCING = [c for c in CASES if c.reduces]
MEASURED = [c for c in CASES if c.measured]
