"""Cases for the accuracy page of what has parameters where the other cases have elements: a pixel's
bin under one logistic density, of which a discretized mixture is made; one class of three; and a
mixture of three Gaussians."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import vae_ext

from .case import Case, Quantity, plain
from .inputs import Draw

EDGE = 1 - 0.25 / 255


class Sides:
    """What the bin's sides are to the density: c = target − mean and half a bin over the scale."""

    def __init__(self, m: Any, mean: Any, target: Any, log_scale: Any) -> None:
        self.m = m
        one = 1 + 0 * mean
        self.inverse = m.exp(-log_scale)
        self.c, self.half = (target - mean) * self.inverse, one / 255 * self.inverse
        self.a, self.b = self.c + self.half, self.c - self.half
        self.first, self.last = target < -EDGE, target > EDGE

    def sigmoid(self, y: Any) -> Any:
        return 1 / (1 + self.m.exp(-y))

    def softplus(self, y: Any) -> Any:
        return self.m.where(y > 0, y, 0 * y) + self.m.log1p(self.m.exp(-self.m.abs(y)))

    def unless(self, side: Any, x: Any) -> Any:
        return self.m.where(side, 0 * x, x)

    def between(self, x: Any) -> Any:
        return self.unless(self.first, self.unless(self.last, x))

    def growth(self, terms: tuple[Any, ...]) -> tuple[Any, ...]:
        """With what rounding an argument makes of the tail of an exponential."""
        a, b, where = self.m.abs(self.a), self.m.abs(self.b), self.m.where
        nearer = where(self.first, a, where(self.last, b, where(a < b, a, b)))
        return tuple(term * (1 + nearer / 4) for term in terms)


def bin_value(m: Any, *inputs: Any) -> Any:
    s = Sides(m, *inputs)
    return (
        s.unless(s.last, -s.softplus(-s.a)),
        s.unless(s.first, -s.softplus(s.b)),
        s.between(m.log(-m.expm1(-2 * s.half))),
    )


def bin_dmean(m: Any, *inputs: Any) -> Any:
    s = Sides(m, *inputs)
    return (
        s.unless(s.last, -s.inverse * s.sigmoid(-s.a)),
        s.unless(s.first, s.inverse * s.sigmoid(s.b)),
    )


def bin_dlog_scale(m: Any, *inputs: Any) -> Any:
    s = Sides(m, *inputs)
    return (
        *(s.unless(s.last, -y * s.sigmoid(-s.a)) for y in (s.c, s.half)),
        *(s.unless(s.first, y * s.sigmoid(s.b)) for y in (s.c, -s.half)),
        s.between(-2 * s.half / m.expm1(2 * s.half)),
    )


def of(terms: Any) -> Any:
    return lambda m, *inputs: Sides(m, *inputs).growth(terms(m, *inputs))


def ours(mean: Tensor, target: Tensor, log_scale: Tensor) -> Tensor:
    parameters = torch.stack((torch.zeros_like(mean), mean, log_scale), 1)
    return vae_ext.discretized_logistic_mixture_log_likelihood(
        parameters, target[:, None], reduction="none"
    )


def usual(mean: Tensor, x: Tensor, s: Tensor) -> Tensor:
    """As PixelCNN++ has it, with the density in the bin's middle where the difference is small."""
    c, inverse = x - mean, torch.exp(-s)
    plus, minus, middle = inverse * (c + 1 / 255), inverse * (c - 1 / 255), inverse * c
    delta = plus.sigmoid() - minus.sigmoid()
    density = middle - s - 2 * F.softplus(middle) - math.log(127.5)
    inner = torch.where(delta > 1e-5, delta.clamp(min=1e-12).log(), density)
    edges = torch.where(x > 0.999, -F.softplus(minus), inner)
    return torch.where(x < -0.999, plus - F.softplus(plus), edges)


def sets(d: Draw) -> dict[str, list[Tensor]]:
    def pixels(values: Tensor) -> Tensor:
        return values.round() / 127.5 - 1

    def near(x: Tensor, s: Tensor, widths: float) -> list[Tensor]:
        return [(x + widths * d.uniform(-1, 1) * torch.exp(s)).clamp(-4, 4), x, s]

    edges = torch.tensor([0.0, 1.0, 254.0, 255.0], dtype=torch.float64)
    at_edges = pixels(edges[(d.uniform() * 4).long()])
    inside = pixels(d.uniform(-0.5, 255.5).clamp(0, 255))
    return {
        "ordinary": near(inside, d.uniform(-5, 1), 4),
        "narrow": near(inside, d.uniform(-7, -5), 30),
        "wide": near(inside, d.uniform(0, 5), 4),
        "edges": near(at_edges, d.uniform(-7, 5), 4),
    }


BIN = Case(
    "logistic_bin",
    "Bin of a discretized logistic density (u times 1 + |a| / 4, for the argument of a tail)",
    ours,
    usual,
    ("mean", "target", "log_scale"),
    Quantity("log p of a bin", bin_value, magnitude=of(bin_value)),
    {
        "mean": (Quantity("∂/∂mean", bin_dmean, magnitude=of(bin_dmean)),),
        "log_scale": (Quantity("∂/∂log_scale", bin_dlog_scale, magnitude=of(bin_dlog_scale)),),
    },
    sets,
    naive={"eager": plain(usual)},
    fixed=("target",),
    reduces=False,
    any_numbers=False,  # tests/test_pixels.py has the special values of its parameters
    share=8,
)


# ---- Classes -------------------------------------------------------------------------------------


def odds(m: Any, *logits: Any) -> list[Any]:
    """Of each other class to that of the target, which is the first."""
    return [m.exp(x - logits[0]) for x in logits[1:]]


def classes_value(m: Any, *logits: Any) -> Any:
    return (-m.log1p(sum(odds(m, *logits))),)


def by_the_target(m: Any, *logits: Any) -> Any:
    others = sum(odds(m, *logits))
    return (others / (1 + others),)


def by_another(m: Any, *logits: Any) -> Any:
    first, others = odds(m, *logits)[0], sum(odds(m, *logits))
    return (-first / (1 + others),)


def with_differences(terms: Any) -> Any:
    """With what the rounding of the largest difference of logits makes of its exponential."""

    def of(m: Any, *logits: Any) -> Any:
        (value,) = terms(m, *logits)
        a, b = (m.abs(x - logits[0]) for x in logits[1:])
        return (value * (1 + m.where(a > b, a, b) / 4),)

    return of


def our_classes(*logits: Tensor) -> Tensor:
    target = torch.zeros(logits[0].shape, dtype=torch.uint8, device=logits[0].device)
    return vae_ext.categorical_log_likelihood(torch.stack(logits, 1), target, reduction="none")


def usual_classes(*logits: Tensor) -> Tensor:
    return torch.stack(logits, 1).log_softmax(1)[:, 0]


def classes_sets(d: Draw) -> dict[str, list[Tensor]]:
    certain = d.uniform(0, 60)
    return {
        "ordinary": [d.normal(4) for _ in range(3)],
        "nearly certain": [certain, -d.uniform(0, 20), d.normal()],
        "sweep": [d.log_uniform(1e-6, 80) for _ in range(3)],
    }


CLASSES = Case(
    "classes",
    "One of three classes (u times 1 + |d| / 4, for the largest difference of logits)",
    our_classes,
    usual_classes,
    ("logits of the target", "of another", "of a third"),
    Quantity("log p", classes_value, magnitude=with_differences(classes_value)),
    {
        "logits of the target": (
            Quantity("∂/∂target's", by_the_target, magnitude=with_differences(by_the_target)),
        ),
        "of another": (
            Quantity("∂/∂another's", by_another, magnitude=with_differences(by_another)),
        ),
    },
    classes_sets,
    naive={"F": plain(usual_classes)},
    reduces=False,
    any_numbers=False,  # tests/test_groups.py has infinite logits
    share=8,
)


# ---- A mixture of Gaussians ----------------------------------------------------------------------

COMPONENTS = ((-2.0, -1.0, 0.0), (0.5, 0.5, 1.0), (3.0, -3.0, -1.0))  # mean, logvar, logit


class Shares:
    """The components' log-densities at z, what they share, and the sizes of their terms."""

    def __init__(self, m: Any, z: Any) -> None:
        zero = 0 * z
        self.scores, logs, self.sizes = [], [], []
        normalizer = m.log(sum(m.exp(zero + logit) for *_, logit in COMPONENTS))
        for mean, logvar, logit in COMPONENTS:
            inverse = m.exp(zero - logvar)
            square = (z - mean) ** 2 * inverse
            self.scores.append((mean - z) * inverse)
            logs.append(-(square + logvar + m.log_2pi) / 2 + logit - normalizer)
            self.sizes.append((square + abs(logvar) + m.log_2pi) / 2 + abs(logit) + normalizer)
        largest = logs[0]
        for x in logs[1:]:
            largest = m.where(x > largest, x, largest)
        weights = [m.exp(x - largest) for x in logs]
        self.value = largest + m.log(sum(weights))
        self.shares = [w / sum(weights) for w in weights]


def mixture_value(m: Any, z: Any) -> Any:
    return (Shares(m, z).value,)


def mixture_size(m: Any, z: Any) -> Any:
    s = Shares(m, z)
    return (sum(w * size for w, size in zip(s.shares, s.sizes, strict=True)),)


def mixture_dz(m: Any, z: Any) -> Any:
    s = Shares(m, z)
    return tuple(w * score for w, score in zip(s.shares, s.scores, strict=True))


def mixture_dz_size(m: Any, z: Any) -> Any:
    """With what the rounding of a log-density makes of its exponential."""
    s = Shares(m, z)
    parts = zip(s.shares, s.scores, s.sizes, strict=True)
    return tuple(w * score * (1 + size / 4) for w, score, size in parts)


def components(z: Tensor) -> list[Tensor]:
    means, logvars, logits = torch.tensor(COMPONENTS, dtype=z.dtype, device=z.device).unbind(1)
    return [means[:, None], logvars[:, None], logits]


def our_mixture(z: Tensor) -> Tensor:
    return vae_ext.mixture_log_density(z[:, None], *components(z))


def usual_mixture(z: Tensor) -> Tensor:
    means, logvars, logits = components(z)
    square = (z[:, None, None] - means).square() / logvars.exp()
    each = -0.5 * (square + logvars + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(each + logits.log_softmax(0), 1)


MIXTURE = Case(
    "mixture_log_density",
    "Log-density of a mixture of three Gaussians (its gradient: u times 1 + terms / 4)",
    our_mixture,
    usual_mixture,
    ("z",),
    Quantity("log p(z)", mixture_value, magnitude=mixture_size),
    {"z": (Quantity("∂/∂z", mixture_dz, magnitude=mixture_dz_size),)},
    lambda d: {"ordinary": [d.normal(3)], "sweep": [d.log_uniform(1e-6, 200)]},
    naive={"eager": plain(usual_mixture)},
    reduces=False,
    any_numbers=False,  # tests/test_mixtures.py has those at the ends
    share=8,
)
PARTS = [BIN, CLASSES, MIXTURE]
