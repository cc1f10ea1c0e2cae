"""What a case is: an op that is a formula, its exact value and derivatives, its inputs, and what
people write instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import vae_ext
from vae_ext._formulas import LIKELIHOODS

from . import exact, oracle
from .arithmetic import Tensors
from .exact import Terms
from .inputs import Draw, Sets


@dataclass(frozen=True, eq=False)
class Quantity:
    """A value or a derivative of it, in exact terms, and what the contract says of its error: so
    many "ulp", the spacing of floats at the exact value, or "u", half the spacing at 1 times the
    sum of the absolute terms."""

    name: str
    terms: Terms
    unit: str = "u"
    limit: float = 8  # float32 on the CPU; float64 is held to the same, in its own units
    cuda_limit: float = 16
    magnitude: Terms | None = None  # where it is not the sum of the absolute terms
    sets: tuple[str, ...] = ()  # of inputs that it is measured on, if not all

    def value(self, m: Any, *inputs: Any) -> Any:
        return exact.value(self.terms, m, *inputs)

    def size(self, m: Any, *inputs: Any) -> Any:
        return exact.magnitude(self.magnitude or self.terms, m, *inputs)


@dataclass(frozen=True, eq=False)
class Naive:
    """What people write, of the inputs and a reduction; sign -1: a loss."""

    function: Callable[..., Tensor]
    sign: int = 1


def plain(formula: Callable[..., Tensor], factor: float = 1, sign: int = 1) -> Naive:
    """An elementwise formula, reduced after it, and then multiplied."""

    def function(*inputs: Tensor, reduction: str = "none") -> Tensor:
        terms = formula(*inputs)
        if reduction == "batchmean":
            terms = terms.sum() / len(terms)
        elif reduction != "none":
            terms = terms.mean() if reduction == "mean" else terms.sum(tuple(range(1, terms.ndim)))
        return terms if factor == 1 else factor * terms

    return Naive(function, sign)


def wanted(leaves: Sequence[Tensor]) -> list[Tensor]:
    return [t for t in leaves if t.requires_grad]


@dataclass(frozen=True, eq=False)
class Case:
    """An op of tensors with `event_dims` and `reduction`. Of each argument the quantities that its
    gradient is; an argument that has none has the size of the one that it is `like`."""

    name: str
    title: str  # in docs/accuracy.md
    function: Callable[..., Tensor]
    oracle: Callable[..., Tensor]
    arguments: tuple[str, ...]
    value: Quantity
    gradients: dict[str, tuple[Quantity, ...]]
    sets: Callable[[Draw], Sets]
    like: dict[str, str] = field(default_factory=dict)
    naive: dict[str, Naive] = field(default_factory=dict)
    # Makes normal variates the input of that name.
    makes: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    required: int | None = None  # so many arguments, if not all
    fixed: tuple[str, ...] = ()  # arguments that are data, without a gradient
    scale: float = 1  # of the normal variates, in float64
    # Of a float32 gradient, in units of 2^-24 of its magnitude.
    gradient_roundings: float = 10
    # Below it a gradient is a product with a probability that has lost digits or is 0.
    floor: float = 0
    # So many times less is known of float64: where the oracle's derivatives cancel.
    oracle_roundings: float = 1
    reduces: bool = True  # has event_dims and reduction
    measured: bool = True  # in docs/accuracy.md
    any_numbers: bool = True  # are inputs; else those of the sets alone, such as pixels
    share: int = 1  # of so many elements one is, where exact values take long
    likelihood: bool = False
    words: int = 0  # of a benchmark: what forward and backward must move per element

    @property
    def least(self) -> int:
        """How many arguments it must have."""
        return len(self.arguments) if self.required is None else self.required

    def __repr__(self) -> str:
        return self.name

    def inputs(self, shape: Sequence[int]) -> list[Tensor]:
        found = []
        for name in self.arguments:
            normals = self.scale * torch.randn(tuple(shape), dtype=torch.float64)
            found.append(self.makes.get(name, torch.clone)(normals))
        return found

    def leaves(self, tensors: Iterable[Tensor], wanted: Sequence[bool] = ()) -> list[Tensor]:
        """Its inputs, all that have a gradient requiring it, or those of them that are wanted."""
        tensors = list(tensors)
        chosen = wanted or [True] * len(tensors)
        named = zip(self.arguments, tensors, chosen, strict=False)
        return [t.detach().requires_grad_(w and name not in self.fixed) for name, t, w in named]

    def elementwise(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, reduction="none") if self.reduces else self.function(*inputs)

    def magnitude(self, *inputs: Tensor) -> Tensor:
        size: Tensor = self.value.size(Tensors, *inputs)
        return size

    def gradient_magnitudes(self, *inputs: Tensor) -> list[Tensor]:
        def of(name: str) -> Tensor:
            if name in self.fixed:
                return torch.zeros(())
            size: Tensor = self.gradients[self.like.get(name, name)][-1].size(Tensors, *inputs)
            return size

        return [of(name) for name in self.arguments]

    @property
    def quantities(self) -> list[tuple[Quantity, int | None]]:
        """Each with the number of the argument that it is a derivative by."""
        found: list[tuple[Quantity, int | None]] = [(self.value, None)]
        for i, name in enumerate(self.arguments):
            found += [(q, i) for q in self.gradients.get(name, ())]
        return found


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
    title = name.replace("_", " ").replace("bernoulli", "Bernoulli")
    fixed = () if entry.target_gradient else ("target",)
    return Case(
        formula.op,
        f"{title[0].upper()}{title[1:]} log-likelihood",
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
        oracle_roundings=more.pop("oracle_roundings", 1 if entry.target_gradient else 40),
        share=more.pop("share", 1 if entry.target_gradient else 8),
        likelihood=True,
        words=words,
        **more,
    )
