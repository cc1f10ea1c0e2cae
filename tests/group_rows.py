"""The rows of likelihoods whose elements have several parameters, for the table in rows.py."""

from __future__ import annotations

import torch
from torch import Tensor

import vae_ext
from tests.row import D, Row, module_row, normal, two

CLASSES = 5
CATEGORICAL = "categorical_log_likelihood"
MIXTURE = "discretized_logistic_mixture_log_likelihood"


def classes(b: int) -> Tensor:
    return torch.randint(0, CLASSES, (b, D))


def pixels(b: int, channels: int) -> Tensor:
    """Of both ends, too."""
    return torch.randint(-1, 2, (b, channels, D)) * torch.rand(b, channels, D).round(decimals=1)


def weights(b: int) -> Tensor:
    return torch.rand(b, 1, dtype=torch.float64)


def loss(likelihood: str, *t: Tensor) -> Tensor:
    x, target, m, v = t
    value: Tensor = vae_ext.elbo_loss(
        torch.stack((x, x + 0.5)), target, m, v, likelihood=likelihood, reduction="event"
    )
    return value


GROUP_ROWS = [
    Row(
        CATEGORICAL,
        [CATEGORICAL],
        vae_ext.categorical_log_likelihood,
        lambda b: [*normal((b, CLASSES, D)), classes(b)],
    ),
    Row(
        f"{CATEGORICAL}, classes last, elements",
        [CATEGORICAL],
        lambda x, t: vae_ext.categorical_log_likelihood(x, t, dim=-1, reduction="none"),
        lambda b: [*normal((b, D, CLASSES)), classes(b)],
    ),
    Row(
        f"{CATEGORICAL}, weights",
        [CATEGORICAL],
        lambda x, t, w: vae_ext.categorical_log_likelihood(x, t, weights=w, reduction="mean"),
        lambda b: [*normal((b, CLASSES, D)), classes(b), weights(b)],
    ),
    Row(
        "elbo_loss, categorical",
        ["elbo_loss"],
        lambda *t: loss("categorical", *t),
        lambda b: [*normal((b, CLASSES, D)), classes(b), *two(b)],
    ),
    module_row(
        "CategoricalNLL",
        lambda: vae_ext.nn.CategoricalNLL(),
        lambda m, x, t: m(x, t),
        lambda b: [*normal((b, CLASSES, D)), classes(b)],
    ),
    Row(
        MIXTURE,
        [MIXTURE],
        vae_ext.discretized_logistic_mixture_log_likelihood,
        lambda b: [*normal((b, 20, D)), pixels(b, 3)],
        fixed=(1,),
    ),
    Row(
        f"{MIXTURE}, bytes of one channel, last",
        [MIXTURE],
        lambda x, t: vae_ext.discretized_logistic_mixture_log_likelihood(
            x, t, dim=-1, reduction="none"
        ),
        lambda b: [*normal((b, D, 6)), torch.randint(0, 256, (b, D, 1), dtype=torch.uint8)],
    ),
    Row(
        f"{MIXTURE}, weights",
        [MIXTURE],
        lambda x, t, w: vae_ext.discretized_logistic_mixture_log_likelihood(
            x, t, weights=w, levels=32, min_log_scale=-3.0, reduction="mean"
        ),
        lambda b: [*normal((b, 10, D)), pixels(b, 3), weights(b)],
        fixed=(1,),
    ),
    Row(
        "elbo_loss, discretized_logistic_mixture",
        ["elbo_loss"],
        lambda *t: loss("discretized_logistic_mixture", *t),
        lambda b: [*normal((b, 3, D)), pixels(b, 1), *two(b)],
        fixed=(1,),
    ),
    module_row(
        "DiscretizedLogisticMixtureNLL",
        lambda: vae_ext.nn.DiscretizedLogisticMixtureNLL(reduction="batchmean"),
        lambda m, x, t: m(x, t),
        lambda b: [*normal((b, 10, D)), pixels(b, 3)],
        fixed=(1,),
    ),
]
