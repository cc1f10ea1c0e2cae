"""The ops in plain PyTorch, with the names and arguments of the public functions: what the tests
compare with, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vae_ext._formulas import FORMULAS, GAUSSIAN_KL, Formula
from vae_ext._reference import evaluate
from vae_ext._reference import latent as latent
from vae_ext._reference import reparameterize as reparameterize
from vae_ext._reference import reparameterize_with_kl as reparameterize_with_kl
from vae_ext._reference import sample_with_log_densities as sample_with_log_densities
from vae_ext._reference.numerics import bounded as bounded
from vae_ext._reference.numerics import reduce as reduce


def of_formula(formula: Formula) -> Callable[..., Tensor]:
    def function(*inputs: Any, event_dims: int | None = None, reduction: str = "event") -> Tensor:
        absent = [0.0 if formula.numbers else None] * (len(formula.arguments) - len(inputs))
        return evaluate(formula.terms, *inputs, *absent, event_dims=event_dims, reduction=reduction)

    function.__name__ = formula.op
    return function


gaussian_kl = of_formula(GAUSSIAN_KL)
globals().update({f.op: of_formula(f) for f in FORMULAS})
