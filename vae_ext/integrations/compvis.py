"""Copies of CompVis' DiagonalGaussianDistribution on the kernels.

    import ldm
    from vae_ext.integrations.compvis import patch

    with patch(ldm):  # or patch("ldm"), permanently
        posterior = model.encode(images)
        loss = mse + 1e-6 * posterior.kl().mean()

Latent-diffusion code of many projects has its own copy of the class. Any class of the package is
replaced that has its methods and, on a few numbers, gives what it gives. The noise is the copy's
own, and so are its bounds on logvar; sums of the KL, half precision and `deterministic` are as
:mod:`vae_ext.integrations.diffusers` says.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ._moments import Densities, Moments
from ._patching import Everywhere, Patches

__all__ = ["patch"]

METHODS = ("sample", "kl", "nll", "mode")
FAR = 1e6  # beyond the bounds of any logvar


class Copy(Densities):
    """A mixin for a class that is in the place of `original`."""

    original: Any

    def sample(self, *args: Any, **more: Any) -> Tensor:
        """mean + std ε, ε as the original draws it for mean 0 and standard deviation 1."""
        noise = object.__new__(self.original)
        zero, one = torch.zeros_like(self.mean), torch.ones_like(self.mean)
        vars(noise).update(
            parameters=self.parameters, deterministic=self.deterministic, mean=zero, std=one
        )
        vars(noise).update(logvar=zero, var=one)
        return self._with(self.original.sample(noise, *args, **more))

    def mode(self) -> Tensor:
        mean: Tensor = self.mean
        return mean


def looks_like(value: object) -> bool:
    """A class with those methods, made of parameters, and not one of ours."""
    if not isinstance(value, type) or issubclass(value, Moments):
        return False
    if not all(callable(getattr(value, name, None)) for name in METHODS):
        return False
    return "parameters" in list(inspect.signature(value).parameters)[:1]


def replacement(original: Any) -> type | None:
    """The class in the place of this one, if it gives the same."""
    try:
        far = original(torch.tensor([0.0, 0.0, FAR, -FAR]).view(1, 4, 1, 1)).logvar
        high, low = far.flatten().tolist()
        bounds = None if (high, low) == (FAR, -FAR) else (low, high)
        members = {"original": original, "bounds": bounds, "__module__": original.__module__}
        made = type(original.__name__, (Copy, original), members)
        numbers = torch.linspace(-2, 2, 96, dtype=torch.float64).view(2, 4, 3, 4).sin()
        x = numbers[:, :2].cos()
        for ours, theirs in zip(*(described(c, numbers, x) for c in (made, original)), strict=True):
            torch.testing.assert_close(ours, theirs)
    except Exception:  # whatever the other class does
        return None
    return made


def described(distribution: Any, parameters: Tensor, x: Tensor) -> list[Tensor]:
    p, q = distribution(parameters), distribution(parameters.flip(0))
    of_p = [p.mean, p.logvar, p.std, p.var, p.kl(), p.kl(q), p.nll(x), p.mode()]
    return [*of_p, distribution(parameters, deterministic=True).std]


_patches = Patches()


def patch(module: ModuleType | str) -> contextlib.ExitStack:
    """Puts the kernels in the place of every such class of a package.

    Args:
        module: the package, a module of it, or its name: all modules under the first part of the
            name, as far as they are loaded, are looked through.

    Returns:
        A context manager, whose end, or ``close()``, takes the patch back; of several the newest
        counts. Without either it stays.

    Raises:
        TypeError: `module` is neither a module nor a name.
        ValueError: there is no class with the methods sample, kl, nll and mode that is made of
            parameters, or none that gives what CompVis' does.

    Warns:
        UserWarning: a class has the methods and gives something else; it names it.
    """
    if not isinstance(module, (str, ModuleType)):
        raise TypeError(f"module was {module!r}, expected a module or its name")
    name = module if isinstance(module, str) else module.__name__
    importlib.import_module(name)
    package = name.partition(".")[0]
    found = {
        id(value): value
        for other, loaded in list(sys.modules.items())
        if other.partition(".")[0] == package and loaded is not None
        for value in list(vars(loaded).values())
        if looks_like(value)
    }
    made = [(original, replacement(original)) for original in found.values()]
    others = [f"{o.__module__}.{o.__qualname__}" for o, new in made if new is None]
    if len(others) == len(made):
        also = f"; {', '.join(others)} gives something else" if others else ""
        raise ValueError(
            f"module was {name}, expected one with a copy of DiagonalGaussianDistribution, which "
            f"has the methods {', '.join(METHODS)} and is made of parameters{also}"
        )
    if others:
        warnings.warn(
            f"{', '.join(others)} gives something else than CompVis' class, and stays", stacklevel=2
        )
    return _patches.add(lambda: [Everywhere(package, o, new) for o, new in made if new])
