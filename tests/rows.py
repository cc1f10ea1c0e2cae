"""The public functions, one row for each way that they compute something: the table from which
every mode of PyTorch is tested (test_modes.py).

A row is a function of tensors, which returns one tensor. Where it samples it takes a seed, or draws
one from torch's generator if that is None.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch.distributions import kl_divergence

import vae_ext
from tests.estimator_rows import ESTIMATOR_ROWS
from tests.group_rows import GROUP_ROWS
from tests.likelihood_rows import likelihood_rows
from tests.mixture_rows import MIXTURE_ROWS
from tests.row import (
    D,
    Row,
    both,
    distribution,
    factor,
    latent_row,
    loss_inputs,
    module_row,
    normal,
    two,
)
from vae_ext import objectives as o
from vae_ext._formulas import LIKELIHOODS
from vae_ext.distributions import NegativeBinomial, Poisson

ROWS = [
    Row(
        "reparameterize",
        ["reparameterize"],
        lambda m, v, seed: vae_ext.reparameterize(m, v, seed=seed),
        two,
        samples=True,
    ),
    Row(
        "reparameterize, samples of one row",
        ["reparameterize"],
        lambda m, v, seed: vae_ext.reparameterize(m, v, n_samples=2, seed=seed),
        lambda b: normal((b, D), (D,)),
        samples=True,
    ),
    Row(
        "reparameterize, of a region",
        ["reparameterize", "Region"],
        lambda m, v, seed: vae_ext.reparameterize(
            m, v, seed=seed, region=vae_ext.Region([n + 3 for n in m.shape], [1] * m.ndim)
        ),
        two,
        samples=True,
    ),
    Row(
        "reparameterize, given noise",
        ["reparameterize"],
        lambda m, v, noise: vae_ext.reparameterize(m, v, noise=noise),
        lambda b: normal((b, D), (b, D), (b, D)),
    ),
    Row(
        "reparameterize_with_kl",
        ["reparameterize_with_kl"],
        lambda m, v, seed: both(vae_ext.reparameterize_with_kl(m, v, seed=seed, event_dims=1)),
        two,
        samples=True,
    ),
    Row(
        "standard_normal",
        ["standard_normal"],
        lambda m, seed: (
            m
            + vae_ext.standard_normal(
                2, D, seed=0 if seed is None else seed, dtype=m.dtype, device=m.device
            )[:1]
        ),
        lambda b: normal((b, D)),
        samples=True,
    ),
    Row("gaussian_kl", ["gaussian_kl"], vae_ext.gaussian_kl, two),
    Row(
        "gaussian_kl, batchmean",
        ["gaussian_kl"],
        lambda m, v: vae_ext.gaussian_kl(m, v, event_dims=1, reduction="batchmean"),
        two,
    ),
    Row(
        "gaussian_kl, prior",
        ["gaussian_kl"],
        vae_ext.gaussian_kl,
        lambda b: normal((b, D), (b, D), (D,), (1, D)),
    ),
    Row(
        "gaussian_kl, one tensor twice",
        ["gaussian_kl"],
        lambda m, v, p: vae_ext.gaussian_kl(m, v, p, p),
        lambda b: normal((b, D), (1, D), (b, D)),
    ),
    Row(
        "gaussian_kl, standard deviations",
        ["gaussian_kl"],
        lambda m, s, p, q: vae_ext.gaussian_kl(m, std=s.exp(), prior_mu=p, prior_std=q.exp()),
        lambda b: normal((b, D), (b, D), (D,), (1, D)),
    ),
    Row(
        "reparameterize, log_std",
        ["reparameterize"],
        lambda m, s, seed: vae_ext.reparameterize(m, log_std=s, seed=seed),
        two,
        samples=True,
    ),
    Row(
        "reparameterize_with_kl, std",
        ["reparameterize_with_kl"],
        lambda m, s, seed: both(
            vae_ext.reparameterize_with_kl(m, std=s.exp(), seed=seed, event_dims=1)
        ),
        two,
        samples=True,
    ),
    Row(
        "gaussian_kl, weights",
        ["gaussian_kl"],
        lambda m, v, w: vae_ext.gaussian_kl(m, v, weights=w, event_dims=1),
        lambda b: [*normal((b, D), (b, D)), torch.rand(b, 1, dtype=torch.float64)],
    ),
    Row(
        "reparameterize_with_kl, mask",
        ["reparameterize_with_kl"],
        lambda m, v, mask, seed: both(
            vae_ext.reparameterize_with_kl(m, v, seed=seed, weights=mask, event_dims=1)
        ),
        lambda b: [*two(b), torch.rand(b, 1) < 0.5],
        samples=True,
    ),
    *(row for likelihood in LIKELIHOODS.values() for row in likelihood_rows(likelihood)),
    Row(
        "bernoulli_log_likelihood, mean of bytes",
        ["bernoulli_log_likelihood"],
        lambda x, t: vae_ext.bernoulli_log_likelihood(x, t, reduction="mean"),
        lambda b: [*normal((2, b, D)), (torch.rand(b, D) < 0.5).to(torch.uint8)],
    ),
    Row("elbo_loss", ["elbo_loss"], vae_ext.elbo_loss, loss_inputs),
    Row(
        "elbo_loss, over a count",
        ["elbo_loss"],
        lambda x, t, m, v: vae_ext.elbo_loss(torch.stack((x, t)), t, m, v, count=9),
        loss_inputs,
    ),
    Row(
        "reparameterize_with_kl, over a count",
        ["reparameterize_with_kl"],
        lambda m, v, seed: both(
            vae_ext.reparameterize_with_kl(m, v, seed=seed, reduction="mean", count=9 * D)
        ),
        two,
        samples=True,
    ),
    Row(
        "elbo_loss, masks",
        ["elbo_loss"],
        lambda x, t, m, v, w, u: vae_ext.elbo_loss(
            x, t, m, v, weights=w, latent_weights=u, event_dims=1
        ),
        lambda b: [*loss_inputs(b), torch.rand(b, 1) < 0.5, torch.rand(D) < 0.5],
    ),
    Row(
        "kl_multivariate_normal",
        ["kl_multivariate_normal"],
        lambda m, a, p, b: vae_ext.kl_multivariate_normal(m, factor(a), p, factor(b)),
        lambda b: normal((b, D), (D, D), (D,), (D, D)),
    ),
    latent_row("DiagonalGaussian, packed"),
    latent_row("DiagonalGaussian, hard bounds", bounds=(-1.0, 0.5)),
    latent_row("DiagonalGaussian, soft bounds", bounds=(-1, 1), soft=True),
    Row(
        "DiagonalGaussian, density",
        ["distributions.DiagonalGaussian"],
        lambda m, v, x: distribution(m, v).log_prob(x) + distribution(m, v).entropy(),
        lambda b: normal((b, D), (b, D), (b, D)),
    ),
    Row(
        "DiagonalGaussian, divergence",
        ["distributions.DiagonalGaussian"],
        lambda m, v, p, w: kl_divergence(distribution(m, v), distribution(p, w)),
        lambda b: normal((b, D), (b, D), (b, D), (b, D)),
    ),
    Row(
        "Poisson",
        ["distributions.Poisson"],
        lambda r, x: Poisson(log_rate=r, validate_args=False).log_prob(x.exp().floor()),
        two,
        fixed=(1,),
    ),
    Row(
        "NegativeBinomial",
        ["distributions.NegativeBinomial"],
        lambda m, x, t: NegativeBinomial(t.exp(), mean=m.exp(), validate_args=False).log_prob(
            x.exp().floor()
        ),
        lambda b: normal((b, D), (b, D), (D,)),
        fixed=(1,),
    ),
    *GROUP_ROWS,
    *MIXTURE_ROWS,
    *ESTIMATOR_ROWS,
    module_row(
        "GaussianLatent",
        lambda: vae_ext.nn.GaussianLatent((D,), event_dims=1),
        lambda latent, m, v, seed: both(latent(m, v, seed=seed)),
        two,
        samples=True,
    ),
    module_row(
        "ELBOLoss",
        lambda: vae_ext.nn.ELBOLoss("gaussian", obs_logvar=torch.zeros(1), beta=0.5),
        lambda loss, x, t, m, v: loss(x, t, m, v),
        loss_inputs,
    ),
    Row(
        "warm-up",
        [f"objectives.{n}_warmup" for n in ("linear", "cosine", "cyclical")],
        lambda kl: kl * (o.linear_warmup(3, 10) + o.cosine_warmup(3, 10) + o.cyclical_warmup(3, 4)),
        lambda b: normal((b,)),
    ),
    Row(
        "capacity", ["objectives.capacity"], lambda kl: o.capacity(kl, 0.5), lambda b: normal((b,))
    ),
    Row(
        "free_bits",
        ["objectives.free_bits"],
        lambda kl: o.free_bits(kl, 0.1, group_dims=(-1,)),
        lambda b: normal((b, 2, D)),
    ),
    Row(
        "balanced_kl",
        ["objectives.balanced_kl"],
        lambda *t: o.balanced_kl(*t),
        lambda b: normal((b, D), (b, D), (D,), (D,)),
    ),
    Row(
        "balanced_sum",
        ["objectives.balanced_sum"],
        lambda a, b: o.balanced_sum([a, b], [1, 2]),
        lambda b: normal((b,), (b,)),
    ),
    Row(
        "what a latent carries",
        ["objectives.kl_per_dimension", "objectives.active_units"],
        lambda m: o.kl_per_dimension(m.square()) + o.active_units(m, 0.5),
        lambda b: normal((b + 1, D)),
        fixed=(0,),
    ),
]

# Public names that are no functions of tensors.
OTHERS = {
    "distributed",  # of processes
    "distributions",
    "estimators",
    "functional",
    "integrations",
    "multivariate",
    "nn",
    "objectives",
    "sample_discretized_logistic_mixture",  # by torch's generators alone
    "set_simd_level",
    "simd_level",
    "simd_levels",
    "testing",  # on the CPU
}


def public(module: ModuleType) -> list[str]:
    """The names that a module lists, or those without an underscore."""
    return getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]


def public_names() -> set[str]:
    names = set(public(vae_ext))
    for module in ("distributions", "estimators", "nn", "objectives"):
        names |= {f"{module}.{n}" for n in public(getattr(vae_ext, module))}
    return names
