"""The cases of likelihoods whose targets are no counts, for the table in cases.py."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import exact
from .case import Naive, Quantity, likelihood, plain
from .inputs import likelihood_sets

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


def continuous_bernoulli_as_published(logits: Tensor, t: Tensor) -> Tensor:
    """With its authors' normalizer, a Taylor polynomial around ½."""
    p = torch.sigmoid(logits)
    cut = (p > 0.49) & (p < 0.51)
    away = torch.where(cut, 0.3, p)
    far = torch.log((torch.log1p(-away) - torch.log(away)) / (1 - 2 * away))
    near = math.log(2) + 4 / 3 * (p - 0.5).pow(2) + 104 / 45 * (p - 0.5).pow(4)
    bce = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    return torch.where(cut, near, far) - bce


CONTINUOUS_BERNOULLI = likelihood(
    "continuous_bernoulli",
    Quantity("Continuous Bernoulli", exact.continuous_bernoulli),
    {
        "logits": (
            Quantity(
                "∂/∂logits",
                exact.continuous_bernoulli_dlogit,
                magnitude=exact.continuous_bernoulli_dlogit_magnitude,
            ),
        ),
        "target": (Quantity("∂/∂target", exact.bernoulli_dtarget, "ulp", 0, 0),),
    },
    lambda d: {
        "ordinary": [d.normal(3), d.uniform()],
        "near ½": [d.log_uniform(1e-30, 1), d.uniform()],
        "binary": [d.normal(3), d.binary()],
        "sweep": [d.log_uniform(1e-30, 1e4), d.uniform()],
    },
    {"eager": plain(continuous_bernoulli_as_published)},
    words=3,
    scale=3,
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


def student_t_as_written(loc: Tensor, x: Tensor, df: Tensor, log_scale: Tensor) -> Tensor:
    half = 0.5 * (df + 1)
    s = (x - loc) * torch.exp(-log_scale)
    height = torch.lgamma(half) - torch.lgamma(0.5 * df) - 0.5 * torch.log(math.pi * df)
    return height - log_scale - half * torch.log1p(s * s / df)


STUDENT_T = likelihood(
    "student_t",
    Quantity("Student's t", exact.student_t),
    {
        "loc": (Quantity("∂/∂loc", exact.student_t_dloc),),
        "df": (Quantity("∂/∂df", exact.student_t_ddf),),
        "log_scale": (Quantity("∂/∂log_scale", exact.student_t_dlog_scale),),
    },
    lambda d: {
        "ordinary": [d.normal(), d.normal(), d.positive(1, 30), d.normal(0.5)],
        "few degrees": [d.normal(), d.normal(), d.positive(1e-2, 1), d.normal(0.5)],
        "near the Gaussian": [d.normal(), d.normal(), d.positive(1e2, 6e4), d.normal(0.5)],
        "outliers": [d.normal(1e4), d.normal(), d.positive(0.5, 1e3), d.normal(3)],
    },
    {"eager": plain(student_t_as_written)},
    words=7,
    oracle_roundings=40,
    share=8,
)

LIKELIHOODS = [BERNOULLI, CONTINUOUS_BERNOULLI, GAUSSIAN, LAPLACE, STUDENT_T]
