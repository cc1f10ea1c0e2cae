"""vae_ext: the loss of variational autoencoders as fused kernels for PyTorch."""

import torch.fx

from . import _torch_kl as _torch_kl  # registers
from . import distributions, estimators, functional, integrations, nn, objectives, testing
from ._native.library import available, set_simd_level, simd_level, simd_levels
from ._version import __version__
from .functional import (
    bernoulli_log_likelihood,
    elbo_loss,
    gaussian_kl,
    gaussian_log_likelihood,
    reparameterize,
    reparameterize_with_kl,
    standard_normal,
)
from .multivariate import kl_multivariate_normal

if available:
    from ._native import registration as registration  # the ops' derivatives

__all__ = [
    "__version__",
    "bernoulli_log_likelihood",
    "distributions",
    "elbo_loss",
    "estimators",
    "functional",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "integrations",
    "kl_multivariate_normal",
    "nn",
    "objectives",
    "reparameterize",
    "reparameterize_with_kl",
    "set_simd_level",
    "simd_level",
    "simd_levels",
    "standard_normal",
    "testing",
]

# Leaves of torch.fx.symbolic_trace, which cannot follow what looks at shapes and dtypes.
for _name in (*functional.__all__, "kl_multivariate_normal"):
    torch.fx.wrap(_name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
