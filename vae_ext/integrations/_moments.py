"""Distributions that hold mean and logvar in one tensor, `parameters`, [B, 2C, ...], in the manner
of CompVis' and diffusers' DiagonalGaussianDistribution: mixins for a class of either."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._reference.numerics import arithmetic_dtype
from ..distributions import DiagonalGaussian
from ..functional import gaussian_kl, gaussian_log_likelihood


class Computed:
    """An attribute that is computed when it is first read, unless it was assigned before.

    What was assigned counts from then on, as in diffusers, where all are plain attributes.
    """

    def __init__(self, function: Callable[[Any], Tensor]) -> None:
        self.function = function

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        with torch.enable_grad():
            value = self.function(instance)
        vars(instance)[self.function.__name__] = value
        return value


class Moments:
    """The attributes that these classes have; sampling is one pass over `parameters`."""

    bounds: tuple[float, float] | None = (-30.0, 20.0)  # of logvar

    def __init__(self, parameters: Tensor, deterministic: bool = False) -> None:
        self._assigned: tuple[str, ...] = ()
        self.parameters, self.deterministic = parameters, deterministic
        self._gaussian = DiagonalGaussian.from_moments(
            parameters, bounds=self.bounds, validate_args=False
        )

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("mean", "logvar", "std", "var"):
            self._assigned += (name,)
        super().__setattr__(name, value)

    def _uses_assigned(self, *names: str) -> bool:
        return any(name in self._assigned for name in names)

    @Computed
    def mean(self) -> Tensor:
        return self._gaussian.mu

    @Computed
    def logvar(self) -> Tensor:
        return self._gaussian.logvar

    @Computed
    def std(self) -> Tensor:
        if self.deterministic:
            return torch.zeros_like(self.mean)
        return torch.exp(0.5 * self._gaussian.logvar)

    @Computed
    def var(self) -> Tensor:
        if self.deterministic:
            return torch.zeros_like(self.mean)
        return torch.exp(self._gaussian.logvar)

    def _with(self, noise: Tensor) -> Tensor:
        """mean + std ε, of the shape of `mean`."""
        if self.deterministic:  # the noise is drawn for it, too, and moves the generator on
            return torch.add(self.mean, noise, alpha=0.0)
        if self._uses_assigned("mean", "std") or noise.dtype != self.mean.dtype:
            assigned: Tensor = self.mean + self.std * noise
            return assigned
        return self._gaussian.rsample(noise=noise)


class Densities(Moments):
    """`kl` and `nll` over all dimensions but the first, which of an image are [1, 2, 3]. Of half
    precision they are float32; of a `deterministic` distribution zeros [B], on its device."""

    @property
    def _wide(self) -> torch.dtype:
        return arithmetic_dtype(self.mean)

    def _zeros(self) -> Tensor:
        return torch.zeros(self.mean.shape[:1], dtype=self._wide, device=self.mean.device)

    def kl(self, other: Any = None) -> Tensor:
        """KL(self ‖ other), nats, [B]; other: one of these or of diffusers' own; None: N(0, I)."""
        if self.deterministic:
            return self._zeros()
        if other is not None and other.deterministic:
            return self._zeros() + torch.inf
        if self._uses_assigned("logvar", "var"):
            # As diffusers: the two need not be those of one distribution.
            mean, var, logvar = (t.to(self._wide) for t in (self.mean, self.var, self.logvar))
            if other is not None:
                mean = mean - other.mean
                mean, var = mean * (-0.5 * other.logvar).exp(), var / other.var
                logvar = logvar - other.logvar
            terms: Tensor = mean.square() + var - 1 - logvar
            return 0.5 * terms.flatten(1).sum(1)
        if other is not None:
            return gaussian_kl(self.mean, self.logvar, other.mean, other.logvar)
        if self._uses_assigned("mean"):
            return gaussian_kl(self.mean, self.logvar)
        return self._gaussian.kl()

    def nll(self, sample: Tensor, dims: int | Sequence[int] | None = None) -> Tensor:
        """−log density of `sample`, nats, summed over `dims`; None: all but the first, [B]."""
        if self.deterministic:
            return self._zeros()
        own = self._uses_assigned("logvar", "var")
        parameters = (self.mean, self.logvar, *([self.var] if own else []))
        sample, mean, logvar, *var = torch.broadcast_tensors(sample, *parameters)
        ndim = sample.ndim
        if dims is None:
            dims = range(1, ndim)
        elif isinstance(dims, int):
            dims = (dims,)
        dims = tuple(dims) or tuple(range(ndim))  # of no dimensions torch sums all
        n = len(dims)
        sample, mean, logvar, *var = (
            t.movedim(dims, tuple(range(-n, 0))) for t in (sample, mean, logvar, *var)
        )
        if own:
            squares = (sample - mean).to(self._wide).square() / var[0]
            terms: Tensor = logvar + squares + math.log(2 * math.pi)
            return 0.5 * terms.flatten(ndim - n).sum(-1)
        return -gaussian_log_likelihood(mean, sample, logvar, event_dims=n)
