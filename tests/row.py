"""What a row is: a public function of tensors, for the table in rows.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vae_ext._formulas import Likelihood
from vae_ext.distributions import DiagonalGaussian

D = 3  # of a latent


@dataclass(frozen=True)
class Row:
    name: str
    covers: Sequence[str]
    function: Callable[..., Tensor]
    inputs: Callable[[int], list[Tensor]]
    samples: bool = False
    # Numbers of the inputs that have no gradient.
    fixed: Sequence[int] = ()
    module: nn.Module | None = None

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *tensors: Tensor, seed: int | None = 7) -> Tensor:
        return self.function(*tensors, seed=seed) if self.samples else self.function(*tensors)

    def leaves(self, batch: int = 4, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(batch)
            made = self.inputs(batch)
        return [
            t.to(dtype if t.is_floating_point() else t.dtype).requires_grad_(
                i not in self.fixed and t.is_floating_point()
            )
            for i, t in enumerate(made)
        ]


def normal(*shapes: Sequence[int]) -> list[Tensor]:
    return [torch.randn(s, dtype=torch.float64) for s in shapes]


def made_of(entry: Likelihood, *normals: Tensor) -> list[Tensor]:
    """Normal variates made the inputs of a likelihood."""
    named = zip(entry.formula.arguments, normals, strict=False)
    return [entry.makes.get(name, torch.clone)(t) for name, t in named]


def two(b: int) -> list[Tensor]:
    return normal((b, D), (b, D))


def prediction_and_target(b: int) -> list[Tensor]:
    x, t = normal((b, D), (b, D))
    return [x, t.sigmoid()]


def both(pair: tuple[Tensor, Tensor]) -> Tensor:
    z, kl = pair
    return z.square().sum(-1) + kl


def moments(b: int) -> list[Tensor]:
    return normal((b, 2 * D))


def latent_row(name: str, **options: Any) -> Row:
    def function(packed: Tensor, seed: int | None) -> Tensor:
        q = DiagonalGaussian.from_moments(packed, packed.ndim - 1, validate_args=False, **options)
        return both(q.rsample_with_kl(seed=seed))

    return Row(name, ["distributions.DiagonalGaussian"], function, moments, samples=True)


def distribution(mu: Tensor, logvar: Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(mu, logvar, event_dims=1, validate_args=False)


def module_row(
    name: str,
    module: Callable[[], nn.Module],
    function: Callable[..., Tensor],
    inputs: Callable[[int], list[Tensor]],
    covers: Sequence[str] = (),
    **options: Any,
) -> Row:
    # Kept for the life of the row: a compiled program looks at its parameters.
    made = module().double()

    def call(*tensors: Tensor, **seed: Any) -> Tensor:
        return function(made, *tensors, **seed)

    covers = covers or [f"nn.{type(made).__name__}"]
    return Row(name, covers, call, inputs, module=made, **options)


def loss_inputs(b: int) -> list[Tensor]:
    x, t = prediction_and_target(b)
    return [x, t, *two(b)]


def factor(t: Tensor) -> Tensor:
    """Lower triangular with a positive diagonal."""
    return t.tril(-1) + torch.diag_embed(t.diagonal(dim1=-2, dim2=-1).exp())
