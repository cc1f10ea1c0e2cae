"""vae_ext: the loss of variational autoencoders as fused kernels for PyTorch."""

import torch.fx

from . import distributions, estimators, integrations, native, nn, objectives
from . import divergences as divergences  # registers
from .elbo import elbo_loss
from .functional import (
    bernoulli_log_likelihood,
    gaussian_kl,
    gaussian_log_likelihood,
    philox_words,
    reparameterize,
    reparameterize_with_kl,
    standard_normal,
)
from .multivariate import kl_multivariate_normal
from .native import set_simd_level, simd_level, simd_levels
from .version import __version__

if native.available:
    from . import registration as registration  # the ops' derivatives

__all__ = [
    "__version__",
    "bernoulli_log_likelihood",
    "distributions",
    "elbo_loss",
    "estimators",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "integrations",
    "kl_multivariate_normal",
    "nn",
    "objectives",
    "philox_words",
    "reparameterize",
    "reparameterize_with_kl",
    "set_simd_level",
    "simd_level",
    "simd_levels",
    "standard_normal",
]

# Leaves of torch.fx.symbolic_trace, which cannot follow what looks at shapes and dtypes.
for _name in (
    "bernoulli_log_likelihood",
    "elbo_loss",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "kl_multivariate_normal",
    "reparameterize",
    "reparameterize_with_kl",
):
    torch.fx.wrap(_name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
