"""vae_ext: the loss of variational autoencoders as fused kernels for PyTorch."""

from . import distributions, estimators, nn, objectives
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

__all__ = [
    "__version__",
    "bernoulli_log_likelihood",
    "distributions",
    "elbo_loss",
    "estimators",
    "gaussian_kl",
    "gaussian_log_likelihood",
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
