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
from typing import Any

import torch
from diffusers.models.autoencoders import vae
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ._moments import Densities, Moments
from ._patching import Everywhere, Patches

__all__ = [
    "BugForBugDistribution",
    "DiagonalGaussianDistribution",
    "FusedNoiseDistribution",
    "patch",
]

Generators = torch.Generator | list[torch.Generator] | None
Original: Any = vae.DiagonalGaussianDistribution


class BugForBugDistribution(Moments, Original):  # type: ignore[misc]
    """diffusers' own, but that sampling and its gradient are one pass over `parameters` each.

    Args:
        parameters: mean and logvar, the halves of dimension 1, [B, 2C, ...]; read in place.
        deterministic: the standard deviation is 0.

    Source: diffusers, models/autoencoders/vae.py.

    Raises:
        TypeError, ValueError: parameters that are not a floating tensor of an even size in its
            second dimension.
    """

    def sample(self, generator: Generators = None) -> Tensor:
        """mean + std ε, of the shape and dtype of `mean`; ε as diffusers draws it."""
        noise: Tensor = randn_tensor(
            self.mean.shape,
            generator=generator,
            device=self.parameters.device,
            dtype=self.parameters.dtype,
        )
        return self._with(noise)


class DiagonalGaussianDistribution(Densities, BugForBugDistribution):
    """diffusers' class by its own names, with the differences that this module's text lists.

    Args, Source, Raises: as :class:`BugForBugDistribution`. In nats, one value for each of [B].
    """


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


_patches = Patches()


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
    return _patches.add(lambda: [Everywhere("diffusers", Original, distribution)])
