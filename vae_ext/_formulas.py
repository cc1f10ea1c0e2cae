"""Every formula that is an op, once: what csrc/ops/formulas.def says of it, as Python needs it.

From an entry follow the argument checks, the fallback in plain PyTorch, the autograd Function, the
fake kernels, the loss of a variational autoencoder and the self-check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    Laplace,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)

from . import _checks as checks
from ._reference import counts, groups
from ._reference.formulas import (
    Terms,
    bernoulli_terms,
    continuous_bernoulli_terms,
    gaussian_terms,
    kl_terms,
    laplace_terms,
    student_t_terms,
)


@dataclass(frozen=True, eq=False)
class Formula:
    """`arguments` are tensors; for the last `numbers` of them a number can stand. In which of the
    forms they are given, if there are several, is said by the keyword `form` of `terms`."""

    op: str
    arguments: tuple[str, ...]
    terms: Terms
    numbers: int = 0
    forms: int = 1
    target_gradient: bool = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """What the op takes first: its arguments, and the weights of the elements."""
        return (*self.arguments, "weights")

    @property
    def options(self) -> tuple[str, ...]:
        """And then, before what it is reduced by."""
        numbers = self.arguments[len(self.arguments) - self.numbers :]
        return (*numbers, "form") if self.forms > 1 else numbers

    def shape(self, tensors: Sequence[Tensor | None]) -> torch.Size:
        """Of the elements."""
        given = (t.shape for t in tensors if t is not None)
        common: torch.Size = torch.broadcast_shapes(*given)
        return common


@dataclass(frozen=True, eq=False)
class Group(Formula):
    """A likelihood of elements with several parameters, along the first dimension of the first
    tensor; with channels the target has such a dimension, too. Nothing is broadcast."""

    named: tuple[str, ...] = ()
    channels: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        return self.named

    def shape(self, tensors: Sequence[Tensor | None]) -> torch.Size:
        assert tensors[0] is not None
        return tensors[0].shape[1:]


class Form(NamedTuple):
    """What the inputs are called that an op takes in one form."""

    prediction: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """log p(target) given what the decoder predicts and further parameters, which are tensors or
    numbers; the public function is named after it and has its arguments."""

    name: str
    prediction: str
    terms: Terms
    # log p(target) as people write it, of the prediction, the target and the parameters.
    usual: Callable[..., Tensor]
    parameters: tuple[str, ...] = ()
    default: float | None = 0.0  # of the parameters; None: they must be given
    others: tuple[Form, ...] = ()  # other forms of the same law
    target_dtypes: tuple[torch.dtype, ...] = checks.FLOATING
    largest_target: float | None = None  # targets lie between 0 and it
    target_gradient: bool = True
    # Makes normal variates the input of that name, where not all real numbers are.
    makes: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    # The argument by which a module makes the parameter one that is learned.
    learned: str = ""

    @property
    def op(self) -> str:
        return f"{self.name}_log_likelihood"

    @property
    def forms(self) -> tuple[Form, ...]:
        return (Form(self.prediction, self.parameters), *self.others)

    @property
    def formula(self) -> Formula:
        return Formula(
            self.op,
            (self.prediction, "target", *self.parameters),
            self.terms,
            len(self.parameters),
            forms=len(self.forms),
            target_gradient=self.target_gradient,
        )


def normal(mean: Tensor, logvar: Tensor) -> Normal:
    return Normal(mean, torch.exp(0.5 * logvar), validate_args=False)


def usual_negative_binomial(mean: Tensor, target: Tensor, dispersion: Tensor) -> Tensor:
    logits = torch.log(mean) - torch.log(dispersion)
    law = NegativeBinomial(dispersion, logits=logits, validate_args=False)
    log_p: Tensor = law.log_prob(target)
    return log_p


def usual_zero_inflated(
    mean: Tensor, target: Tensor, dispersion: Tensor, zero_logits: Tensor
) -> Tensor:
    log_p = usual_negative_binomial(mean, target, dispersion)
    present = log_p - torch.nn.functional.softplus(zero_logits)
    absent = torch.nn.functional.logsigmoid(zero_logits)
    return torch.where(target == 0, torch.logaddexp(absent, present), present)


def usual_mixture(
    mean1: Tensor, target: Tensor, mean2: Tensor, dispersion: Tensor, mixture_logits: Tensor
) -> Tensor:
    first = usual_negative_binomial(mean1, target, dispersion)
    second = usual_negative_binomial(mean2, target, dispersion)
    weights = torch.nn.functional.logsigmoid
    return torch.logaddexp(first + weights(mixture_logits), second + weights(-mixture_logits))


def some_counts(x: Tensor) -> Tensor:
    return torch.floor(torch.exp(1.5 * x))


GAUSSIAN_KL = Formula(
    "gaussian_kl", ("mu", "logvar", "prior_mu", "prior_logvar"), kl_terms, forms=3
)
BERNOULLI = Likelihood(
    "bernoulli",
    "logits",
    bernoulli_terms,
    lambda logits, t: Bernoulli(logits=logits, validate_args=False).log_prob(t),
    target_dtypes=checks.TARGETS,
    largest_target=1,
    makes={"target": torch.sigmoid},
)
CONTINUOUS_BERNOULLI = replace(
    BERNOULLI,
    name="continuous_bernoulli",
    terms=continuous_bernoulli_terms,
    usual=lambda x, t: ContinuousBernoulli(logits=x, validate_args=False).log_prob(t),
)
GAUSSIAN = Likelihood(
    "gaussian",
    "mean",
    gaussian_terms,
    lambda mean, t, logvar: normal(mean, logvar).log_prob(t),
    ("logvar",),
    others=(Form("mean", ("log_std",)), Form("mean", ("std",))),
    makes={"std": torch.exp},
    learned="learned_variance",
)
LAPLACE = Likelihood(
    "laplace",
    "loc",
    laplace_terms,
    lambda loc, t, log_scale: Laplace(loc, torch.exp(log_scale), validate_args=False).log_prob(t),
    ("log_scale",),
    learned="learned_scale",
)


STUDENT_T = Likelihood(
    "student_t",
    "loc",
    student_t_terms,
    lambda loc, t, df, log_scale: StudentT(
        df, loc, torch.exp(log_scale), validate_args=False
    ).log_prob(t),
    ("df", "log_scale"),
    default=None,
    makes={"df": torch.exp},
)


def of_counts(
    name: str,
    prediction: str,
    terms: Terms,
    usual: Callable[..., Tensor],
    parameters: tuple[str, ...] = (),
    others: tuple[Form, ...] = (),
) -> Likelihood:
    makes = {n: torch.exp for n in (prediction, *parameters) if "logits" not in n}
    return Likelihood(
        name,
        prediction,
        terms,
        usual,
        parameters,
        None,
        others,
        checks.COUNTS,
        math.inf,
        target_gradient=False,
        makes={**makes, "target": some_counts},
    )


POISSON = of_counts(
    "poisson",
    "rate",
    counts.poisson_terms,
    lambda rate, t: Poisson(rate, validate_args=False).log_prob(t),
    others=(Form("log_rate", ()),),
)
NEGATIVE_BINOMIAL = of_counts(
    "negative_binomial",
    "mean",
    counts.negative_binomial_terms,
    usual_negative_binomial,
    ("dispersion",),
    (Form("mean", ("log_dispersion",)), Form("logits", ("total_count",))),
)
ZERO_INFLATED_NEGATIVE_BINOMIAL = of_counts(
    "zero_inflated_negative_binomial",
    "mean",
    counts.zero_inflated_negative_binomial_terms,
    usual_zero_inflated,
    ("dispersion", "zero_logits"),
    (
        Form("mean", ("log_dispersion", "zero_logits")),
        Form("logits", ("total_count", "zero_logits")),
    ),
)
NEGATIVE_BINOMIAL_MIXTURE = of_counts(
    "negative_binomial_mixture",
    "mean1",
    counts.negative_binomial_mixture_terms,
    usual_mixture,
    ("mean2", "dispersion", "mixture_logits"),
    (Form("mean1", ("mean2", "log_dispersion", "mixture_logits")),),
)

LIKELIHOODS = {
    each.name: each
    for each in (
        *(BERNOULLI, CONTINUOUS_BERNOULLI, GAUSSIAN, LAPLACE, STUDENT_T, POISSON),
        NEGATIVE_BINOMIAL,
        *(ZERO_INFLATED_NEGATIVE_BINOMIAL, NEGATIVE_BINOMIAL_MIXTURE),
    )
}
FORMULAS = [GAUSSIAN_KL, *(each.formula for each in LIKELIHOODS.values())]

CATEGORICAL = Group(
    "categorical_log_likelihood",
    ("logits", "target"),
    groups.categorical_terms,
    target_gradient=False,
)
DISCRETIZED_LOGISTIC_MIXTURE = Group(
    "discretized_logistic_mixture_log_likelihood",
    ("parameters", "target"),
    groups.discretized_logistic_mixture_terms,
    target_gradient=False,
    named=("levels", "min_log_scale"),
    channels=True,
)
GROUPS = [CATEGORICAL, DISCRETIZED_LOGISTIC_MIXTURE]
ALL = [*FORMULAS, *GROUPS]
