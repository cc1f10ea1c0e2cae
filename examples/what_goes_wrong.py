"""The usual formulas where they fail, beside vae_ext: prints the table of docs/gains.md."""

from __future__ import annotations

import math

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

import vae_ext


def rows() -> list[tuple[str, str, Tensor, Tensor, float]]:
    """Formula, where, the usual value, ours, the exact value."""
    zero, lv = torch.zeros(()), torch.tensor(1e-4)
    kl = -0.5 * (1 + lv - zero**2 - lv.exp())
    x = torch.tensor(-20.0)
    bce = F.binary_cross_entropy_with_logits(x, zero)
    d, tiny = torch.tensor(1e-30), torch.tensor(-200.0)
    square = d**2 * (-tiny).exp()
    # ll = −½ (log 2π + lv + s²)
    ll = vae_ext.gaussian_log_likelihood(zero, d, tiny)
    standard = -2 * ll - tiny - math.log(2 * math.pi)
    half = torch.tensor(20.0, dtype=torch.float16)
    ours_exp = 2 * vae_ext.gaussian_kl(torch.zeros_like(half), half) + 1 + half.float()
    exact_lv, exact_d = lv.double().item(), d.double().item()
    return [
        (
            "-0.5 * (1 + lv - mu**2 - lv.exp())",
            "float32, mu = 0, lv = 1e-4",
            kl,
            vae_ext.gaussian_kl(zero, lv),
            exact_lv**2 / 4 + exact_lv**3 / 12,
        ),
        (
            "binary_cross_entropy_with_logits",
            "float32, logit −20, target 0",
            bce,
            -vae_ext.bernoulli_log_likelihood(x, zero),
            math.log1p(math.exp(-20)),
        ),
        (
            "(x - m)**2 * (-lv).exp()",
            "float32, x − m = 1e-30, lv = −200",
            square,
            standard,
            (exact_d * math.exp(100)) ** 2,
        ),
        ("torch.exp(logvar)", "float16, lv = 20", half.exp(), ours_exp, math.exp(20)),
    ]


def main() -> None:
    table = Table(box=SIMPLE)
    for column in ("usual formula", "where", "gives", "vae_ext", "exact"):
        table.add_column(column)
    for formula, where, usual, ours, exact in rows():
        table.add_row(formula, where, f"{usual.item():.7e}", f"{ours.item():.7e}", f"{exact:.7e}")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
