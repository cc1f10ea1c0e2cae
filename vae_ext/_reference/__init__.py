"""The ops in plain PyTorch: stable, on any device, differentiable any number of times.

The oracle of the tests, and what serves wherever there is no kernel: devices without one, double
backward, forward-mode differentiation and `torch.func` transforms. Arguments are those of
:mod:`vae_ext.functional`, which checks them.
"""

from __future__ import annotations

from .formulas import REDUCTION_NAMES as REDUCTION_NAMES
from .formulas import evaluate as evaluate
from .formulas import formula as formula
from .latent import KL as KL
from .latent import Z as Z
from .latent import latent as latent
from .latent import reparameterize as reparameterize
from .latent import reparameterize_with_kl as reparameterize_with_kl
from .latent import sample_with_log_densities as sample_with_log_densities
