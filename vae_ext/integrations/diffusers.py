"""diffusers' DiagonalGaussianDistribution on the kernels, and a patch that puts it everywhere.

    from vae_ext.integrations.diffusers import patch

    with patch():  # or patch(), permanently
        posterior = autoencoder.encode(images).latent_dist
        loss = mse + 1e-6 * posterior.kl().mean()

Names, arguments and noise are diffusers': the same generators, or the same ``torch.manual_seed``,
give the same numbers as without. What differs, since diffusers' is not what its name says:

- `kl` and `nll` sum over all dimensions but the first. diffusers sums over [1, 2, 3], which of a
  video, [B, C, T, H, W], leaves [B, W].
- Of half precision they are float32. In float16 the variance at logvar = 20, the upper bound, is
  inf there, and the KL with it.
- Of a `deterministic` distribution they are zeros [B] on its device. There they are [0.], on the
  CPU.
- The KL to a `deterministic` one is inf, also where diffusers' is NaN.
- Near N(0, I) the KL keeps its digits, and is never negative.
- Where logvar lies on a bound, -30 or 20, its gradient passes, as it did in diffusers up to torch
  2.13. From 2.14 on torch's clamp stops it there.

:class:`BugForBugDistribution` has diffusers' own `kl` and `nll`; :class:`FusedNoiseDistribution`
draws its noise inside the kernel, which costs less time and keeps nothing of it for backward, but
is other noise.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.models.autoencoders import vae
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from .._reference.numerics import arithmetic_dtype
from ..distributions import DiagonalGaussian
from ..functional import gaussian_kl, gaussian_log_likelihood

__all__ = [
    "BugForBugDistribution",
    "DiagonalGaussianDistribution",
    "FusedNoiseDistribution",
    "patch",
]

Generators = torch.Generator | list[torch.Generator] | None
Original: Any = vae.DiagonalGaussianDistribution
BOUNDS = (-30.0, 20.0)  # of logvar, diffusers' own


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


class BugForBugDistribution(Original):  # type: ignore[misc]
    """diffusers' own, but that sampling and its gradient are one pass over `parameters` each.

    Args:
        parameters: mean and logvar, the halves of dimension 1, [B, 2C, ...]; read in place.
        deterministic: the standard deviation is 0.

    Source: diffusers, models/autoencoders/vae.py.

    Raises:
        TypeError, ValueError: parameters that are not a floating tensor of an even size in its
            second dimension.
    """

    def __init__(self, parameters: Tensor, deterministic: bool = False) -> None:
        self._assigned: tuple[str, ...] = ()
        self.parameters, self.deterministic = parameters, deterministic
        self._gaussian = DiagonalGaussian.from_moments(
            parameters, bounds=BOUNDS, validate_args=False
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

    def sample(self, generator: Generators = None) -> Tensor:
        """mean + std ε, of the shape and dtype of `mean`; ε as diffusers draws it."""
        noise: Tensor = randn_tensor(
            self.mean.shape,
            generator=generator,
            device=self.parameters.device,
            dtype=self.parameters.dtype,
        )
        if self.deterministic:  # the noise is drawn there too, and moves the generator on
            return torch.add(self.mean, noise, alpha=0.0)
        if self._uses_assigned("mean", "std"):
            assigned: Tensor = self.mean + self.std * noise
            return assigned
        return self._gaussian.rsample(noise=noise)


class DiagonalGaussianDistribution(BugForBugDistribution):
    """diffusers' class by its own names, with the differences that this module's text lists.

    Args, Source, Raises: as :class:`BugForBugDistribution`. In nats, one value for each of [B].
    """

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


class FusedNoiseDistribution(DiagonalGaussianDistribution):
    """The same with the noise of :func:`vae_ext.reparameterize`, where the generator allows it: not
    a list, and on the device of the parameters.

    Args, Source, Raises: as :class:`BugForBugDistribution`. In nats, one value for each of [B].
    """

    def sample(self, generator: Generators = None) -> Tensor:
        here = self.parameters.device.type
        if (
            self.deterministic
            or self._uses_assigned("mean", "std")
            or isinstance(generator, list)
            or (generator and generator.device.type != here)
        ):
            return super().sample(generator)
        return self._gaussian.rsample(generator=generator)


def _replace(old: object, new: object) -> None:
    """In all of diffusers' modules, whatever they call it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "diffusers":
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)


# Those in force, oldest first. The newest counts, in whatever order they end.
_patches: dict[contextlib.ExitStack, type] = {}


def _install() -> None:
    wanted = next(reversed(_patches.values()), Original)
    if vae.DiagonalGaussianDistribution is not wanted:
        _replace(vae.DiagonalGaussianDistribution, wanted)


def _take_back(patch: contextlib.ExitStack) -> None:
    del _patches[patch]
    _install()


def patch(
    distribution: type[BugForBugDistribution] = DiagonalGaussianDistribution,
) -> contextlib.ExitStack:
    """Puts `distribution` in the place of diffusers' own, in every module of diffusers.

    Models that exist already use it as well, and modules that diffusers loads later. Code outside
    diffusers that imported the class by name keeps what it has, and so do the few autoencoders with
    a distribution class of their own (Oobleck's, for one).

    Returns:
        A context manager, whose end, or ``close()``, takes the patch back; of several the newest
        counts. Without either it stays.

    Raises:
        TypeError: `distribution` is not a class of this module, nor derived from one.
    """
    if not (isinstance(distribution, type) and issubclass(distribution, BugForBugDistribution)):
        raise TypeError(
            f"distribution was {distribution!r}, expected a class derived from "
            "BugForBugDistribution"
        )
    stack = contextlib.ExitStack()
    _patches[stack] = distribution
    stack.callback(_take_back, stack)
    _install()
    return stack
