"""torch.distributions' diagonal Gaussian on the kernels.

    from vae_ext.integrations.torch_distributions import patch

    with patch():  # or patch(), permanently
        q, p = Normal(mu, sigma), Normal(prior_mu, prior_sigma)
        loss = kl_divergence(q, p).sum(-1).mean() - Normal(mean, scale).log_prob(x).sum()

`kl_divergence` of two Normals (and of Independent and other distributions made of them) and
`Normal.log_prob` take one pass forward and one backward. The numbers differ where float32 loses
digits in torch's: a KL that is near 0, a standard deviation whose square underflows. A call that
the kernels do not serve, such as integer values, is torch's own.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.distributions import Normal, kl

from .. import _checks as checks
from ..functional import gaussian_kl, gaussian_log_likelihood
from ._patching import Attribute, Patches, Swap

__all__ = ["patch"]


def served(*tensors: object) -> bool:
    return all(
        isinstance(t, Tensor) and t.dtype in checks.FLOATING and not t.is_nested for t in tensors
    )


def kl_of(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(original)
    def kl_normal_normal(p: Normal, q: Normal) -> Tensor:
        if not served(p.loc, p.scale, q.loc, q.scale):
            return original(p, q)
        return gaussian_kl(p.loc, std=p.scale, prior_mu=q.loc, prior_std=q.scale, reduction="none")

    return kl_normal_normal


def log_prob_of(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(original)
    def log_prob(self: Normal, value: Any) -> Tensor:
        if not served(self.loc, self.scale, value):
            return original(self, value)
        if self._validate_args:
            self._validate_sample(value)
        return gaussian_log_likelihood(self.loc, value, std=self.scale, reduction="none")

    return log_prob


class Registered:
    """The divergence of two Normals, in torch's own tables."""

    pair = (Normal, Normal)

    def __init__(self) -> None:
        self.old = kl._KL_REGISTRY[self.pair]

    def put(self) -> None:
        self._set(kl_of(self.old))

    def take_back(self) -> None:
        self._set(self.old)

    def _set(self, function: Callable[..., Tensor]) -> None:
        kl._KL_REGISTRY[self.pair] = function
        kl._KL_MEMOIZE.clear()


_patches = Patches()


def _swaps() -> list[Swap]:
    return [Registered(), Attribute(Normal, "log_prob", log_prob_of(Normal.log_prob))]


def patch() -> contextlib.ExitStack:
    """Puts the kernels in the place of torch's formulas for Normal, in the whole process.

    Returns:
        A context manager, whose end, or ``close()``, takes the patch back; of several the newest
        counts. Without either it stays.
    """
    return _patches.add(_swaps)
