"""The case of a pixel's bin under one logistic density, of which a discretized mixture is made: for
the accuracy page, since it has parameters where the other cases have elements."""

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
