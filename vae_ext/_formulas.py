"""Every formula that is an op, once: what csrc/ops/formulas.def says of it, as Python needs it.

From an entry follow the argument checks, the fallback in plain PyTorch, the autograd Function, the
fake kernels, the loss of a variational autoencoder and the self-check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Laplace, Normal

from . import _checks as checks
from ._reference.formulas import Terms, bernoulli_terms, gaussian_terms, kl_terms, laplace_terms


@dataclass(frozen=True, eq=False)
class Formula:
    """`arguments` are tensors; for the last `numbers` of them a number can stand."""

    op: str
    arguments: tuple[str, ...]
    terms: Terms
    numbers: int = 0
    one_pass: bool = False  # there is an op for value and gradients together


@dataclass(frozen=True, eq=False)
class Likelihood:
    """log p(target) given what the decoder predicts and further parameters, which are tensors or
    numbers; the public function is named after it and has its arguments."""

    name: str
    prediction: str
    terms: Terms
    # The same in torch.distributions, of the prediction and the parameters.
    law: Callable[..., Distribution]
    parameters: tuple[str, ...] = ()
    target_dtypes: tuple[torch.dtype, ...] = checks.FLOATING
    largest_target: float | None = None  # targets lie between 0 and it
    # Makes normal variates targets, where not all real numbers are.
    target: Callable[[Tensor], Tensor] | None = None
    # The argument by which a module makes the parameter one that is learned.
    learned: str = ""

    @property
    def op(self) -> str:
        return f"{self.name}_log_likelihood"

    @property
    def formula(self) -> Formula:
        return Formula(
            self.op,
            (self.prediction, "target", *self.parameters),
            self.terms,
            len(self.parameters),
            one_pass=True,
        )


def normal(mean: Tensor, logvar: Tensor) -> Normal:
    return Normal(mean, torch.exp(0.5 * logvar), validate_args=False)


GAUSSIAN_KL = Formula("gaussian_kl", ("mu", "logvar", "prior_mu", "prior_logvar"), kl_terms)
BERNOULLI = Likelihood(
    "bernoulli",
    "logits",
    bernoulli_terms,
    lambda logits: Bernoulli(logits=logits, validate_args=False),
    target_dtypes=checks.TARGETS,
    largest_target=1,
    target=torch.sigmoid,
)
GAUSSIAN = Likelihood(
    "gaussian", "mean", gaussian_terms, normal, ("logvar",), learned="learned_variance"
)
LAPLACE = Likelihood(
    "laplace",
    "loc",
    laplace_terms,
    lambda loc, log_scale: Laplace(loc, torch.exp(log_scale), validate_args=False),
    ("log_scale",),
    learned="learned_scale",
)

LIKELIHOODS = {each.name: each for each in (BERNOULLI, GAUSSIAN, LAPLACE)}
FORMULAS = [GAUSSIAN_KL, *(each.formula for each in LIKELIHOODS.values())]
