"""diffusers' DiagonalGaussianDistribution on the kernels, and a patch that puts it everywhere.

    from vae_ext.integrations.diffusers import patch

    with patch():  # or patch(), for good
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

:class:`BugForBugDistribution` has diffusers' own `kl` and `nll`; :class:`FusedNoiseDistribution`
draws its noise inside the kernel, which costs less time and keeps nothing of it for backward, but
is other noise.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.autoencoders import vae
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.distributions.utils import lazy_property

from ..distributions import DiagonalGaussian
from ..functional import gaussian_kl, gaussian_log_likelihood
from ..reference import arithmetic_dtype

__all__ = [
    "BugForBugDistribution",
    "DiagonalGaussianDistribution",
    "FusedNoiseDistribution",
    "patch",
]

Generators = torch.Generator | list[torch.Generator] | None
Original: Any = vae.DiagonalGaussianDistribution
BOUNDS = (-30.0, 20.0)  # of logvar, diffusers' own


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
        self.parameters, self.deterministic = parameters, deterministic
        self._gaussian = DiagonalGaussian.from_moments(
            parameters, bounds=BOUNDS, validate_args=False
        )

    @property
    def mean(self) -> Tensor:
        return self._gaussian.mu

    @lazy_property
    def logvar(self) -> Tensor:
        return self._gaussian.logvar

    @lazy_property
    def std(self) -> Tensor:
        return torch.zeros_like(self.mean) if self.deterministic else torch.exp(0.5 * self.logvar)

    @lazy_property
    def var(self) -> Tensor:
        return torch.zeros_like(self.mean) if self.deterministic else torch.exp(self.logvar)

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
        return self._gaussian.rsample(noise=noise)


class DiagonalGaussianDistribution(BugForBugDistribution):
    """diffusers' class by its own names, with the differences that this module's text lists.

    Args, Source, Raises: as :class:`BugForBugDistribution`. In nats, one value for each of [B].
    """

    def _zeros(self) -> Tensor:
        dtype = arithmetic_dtype(self.mean)
        return torch.zeros(self.mean.shape[:1], dtype=dtype, device=self.mean.device)

    def kl(self, other: Any = None) -> Tensor:
        """KL(self ‖ other), nats, [B]; other: one of these or of diffusers' own; None: N(0, I)."""
        if self.deterministic:
            return self._zeros()
        if other is None:
            return self._gaussian.kl()
        if other.deterministic:
            return self._zeros() + torch.inf
        return gaussian_kl(self.mean, self.logvar, other.mean, other.logvar)

    def nll(self, sample: Tensor, dims: Sequence[int] | None = None) -> Tensor:
        """−log density of `sample`, nats, summed over `dims`; None: all but the first, [B]."""
        if self.deterministic:
            return self._zeros()
        tensors = torch.broadcast_tensors(self.mean, sample, self.logvar)
        n = tensors[0].ndim - 1
        if dims is not None:
            n = len(dims)
            tensors = tuple(t.movedim(tuple(dims), tuple(range(-n, 0))) for t in tensors)
        return -gaussian_log_likelihood(*tensors, event_dims=n)


class FusedNoiseDistribution(DiagonalGaussianDistribution):
    """The same with the noise of :func:`vae_ext.reparameterize`, where the generator allows it: not
    a list, and on the device of the parameters.

    Args, Source, Raises: as :class:`BugForBugDistribution`. In nats, one value for each of [B].
    """

    def sample(self, generator: Generators = None) -> Tensor:
        here = self.parameters.device.type
        if (
            self.deterministic
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


def patch(
    distribution: type[BugForBugDistribution] = DiagonalGaussianDistribution,
) -> contextlib.ExitStack:
    """Puts `distribution` in the place of diffusers' own, in every module of diffusers.

    Models that exist already use it as well, and modules that diffusers loads later. Code outside
    diffusers that imported the class by name keeps what it has, and so do the few autoencoders with
    a distribution class of their own (Oobleck's, for one).

    Returns:
        A context manager, whose end, or ``close()``, puts back what was there. Without either the
        patch stays.

    Raises:
        TypeError: `distribution` is not a class of this module, nor derived from one.
    """
    if not (isinstance(distribution, type) and issubclass(distribution, BugForBugDistribution)):
        raise TypeError(
            f"distribution was {distribution!r}, expected a class derived from "
            "BugForBugDistribution"
        )
    before = vae.DiagonalGaussianDistribution
    stack = contextlib.ExitStack()
    if before is not distribution:
        _replace(before, distribution)
        stack.callback(_replace, distribution, before)
    return stack
