"""Distributions in the manner of torch.distributions, computed by the kernels."""

from ._counts import NegativeBinomial as NegativeBinomial
from ._counts import Poisson as Poisson
from ._gaussian import DiagonalGaussian as DiagonalGaussian

__all__ = ["DiagonalGaussian", "NegativeBinomial", "Poisson"]
