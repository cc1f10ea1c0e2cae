"""The likelihoods of scvi-tools on the kernels, and a patch that puts them there.

    from vae_ext.integrations.scvi import patch

    with patch():  # or patch(), permanently
        model.train()

What is replaced are the functions that compute log-probabilities element by element:
`log_nb_positive`, `log_zinb_positive` and `log_mixture_nb`, and `Poisson.log_prob`: SCVI, SCANVI,
LinearSCVI, TOTALVI and every other model that uses scvi's distributions go through them. Their
arguments, `eps` among them, and what they return are scvi-tools'; the numbers differ where float32
loses digits there (the gradient of a large dispersion, the zero inflation of a small mean). A call
that the kernels do not serve (arrays of jax, functions of one's own for log and lgamma, counts that
require a gradient, a second dispersion for the mixture) is scvi-tools' own.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from scvi.distributions import _negative_binomial as scvi
from torch import Tensor

from .. import _checks as checks
from ..functional import (
    negative_binomial_log_likelihood,
    negative_binomial_mixture_log_likelihood,
    poisson_log_likelihood,
    zero_inflated_negative_binomial_log_likelihood,
)
from ._patching import Attribute, Everywhere, Patches, Swap

__all__ = ["patch"]

Function = Callable[..., Any]


def compact(t: Tensor) -> Tensor:
    """A row that was expanded to all cells as the row, whose gradient the kernel sums."""
    base = t._base
    if t.ndim < 2 or base is None or any(t.stride()[:-1]) or base.shape != t.shape[-1:]:
        return t
    same = t.stride()[-1:] == base.stride() and t.storage_offset() == base.storage_offset()
    # Else it was cut off the graph, or somebody looks at the gradient of the expanded one.
    watched = t.retains_grad or t._backward_hooks
    return base if same and base.requires_grad == t.requires_grad and not watched else t


def served(x: object, *parameters: object) -> bool:
    """Whether the kernels take these arguments: floating tensors and counts without a gradient."""
    return (
        isinstance(x, Tensor)
        and x.dtype in checks.COUNTS
        and not x.requires_grad
        and all(isinstance(p, Tensor) and p.dtype in checks.FLOATING for p in parameters)
    )


def usual(more: dict[str, Any]) -> bool:
    """Whether log and lgamma are torch's."""
    return all(
        value is getattr(torch, name.removesuffix("_fn"), None) for name, value in more.items()
    )


def log_nb(original: Function) -> Function:
    @functools.wraps(original)
    def log_nb_positive(
        x: Tensor, mu: Tensor, theta: Tensor, eps: float = 1e-8, **more: Any
    ) -> Tensor:
        if not (served(x, mu, theta) and usual(more)):
            return original(x, mu, theta, eps, **more)  # type: ignore[no-any-return]
        return negative_binomial_log_likelihood(mu + eps, x, compact(theta) + eps, reduction="none")

    return log_nb_positive


def log_zinb(original: Function) -> Function:
    @functools.wraps(original)
    def log_zinb_positive(
        x: Tensor, mu: Tensor, theta: Tensor, pi: Tensor, eps: float = 1e-8, **more: Any
    ) -> Tensor:
        if not (served(x, mu, theta, pi) and usual(more)):
            return original(x, mu, theta, pi, eps, **more)  # type: ignore[no-any-return]
        return zero_inflated_negative_binomial_log_likelihood(
            mu + eps, x, compact(theta) + eps, compact(pi), reduction="none"
        )

    return log_zinb_positive


def log_mixture(original: Function) -> Function:
    @functools.wraps(original)
    def log_mixture_nb(
        x: Tensor,
        mu_1: Tensor,
        mu_2: Tensor,
        theta_1: Tensor,
        theta_2: Tensor | None,
        pi_logits: Tensor,
        eps: float = 1e-8,
        **more: Any,
    ) -> Tensor:
        parameters = (mu_1, mu_2, theta_1, pi_logits)
        if theta_2 is not None or not (served(x, *parameters) and usual(more)):
            return original(x, mu_1, mu_2, theta_1, theta_2, pi_logits, eps, **more)  # type: ignore[no-any-return]
        return negative_binomial_mixture_log_likelihood(
            mu_1 + eps, x, mu_2 + eps, compact(theta_1) + eps, compact(pi_logits), reduction="none"
        )

    return log_mixture_nb


def log_poisson(original: Function) -> Function:
    @functools.wraps(original)
    def log_prob(self: Any, value: Tensor) -> Tensor:
        if not served(value, self.rate):
            return original(self, value)  # type: ignore[no-any-return]
        if self._validate_args:
            self._validate_sample(value)
        return poisson_log_likelihood(self.rate, value, reduction="none")

    return log_prob


FUNCTIONS = {
    "log_nb_positive": log_nb,
    "log_zinb_positive": log_zinb,
    "log_mixture_nb": log_mixture,
}
_patches = Patches()


def _swaps() -> list[Swap]:
    """What there is of the functions, and Poisson's."""
    found = [(getattr(scvi, name, None), make) for name, make in FUNCTIONS.items()]
    swaps: list[Swap] = [Everywhere("scvi", old, make(old)) for old, make in found if old]
    poisson = getattr(scvi, "Poisson", None)
    if poisson is not None:
        swaps.append(Attribute(poisson, "log_prob", log_poisson(poisson.log_prob)))
    return swaps


def patch() -> contextlib.ExitStack:
    """Puts the kernels in the place of scvi-tools' own log-probabilities, in every model.

    Returns:
        A context manager, whose end, or ``close()``, takes the patch back; of several the last to
        end does, in whatever order they do. Without either it stays.

    Warns:
        UserWarning: the installed scvi-tools lacks one of the functions; it names it.
    """
    missing = [name for name in (*FUNCTIONS, "Poisson") if not hasattr(scvi, name)]
    if missing:
        warnings.warn(
            f"this scvi-tools has no {', '.join(missing)}: nothing is patched there", stacklevel=2
        )
    return _patches.add(_swaps)
