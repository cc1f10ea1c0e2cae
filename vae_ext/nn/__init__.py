"""The functions as modules, with torch's conventions: parameters, state, `extra_repr`."""

from __future__ import annotations

from ._latent import GaussianLatent
from ._losses import BernoulliNLL, ELBOLoss, GaussianNLL

__all__ = ["BernoulliNLL", "ELBOLoss", "GaussianLatent", "GaussianNLL"]
