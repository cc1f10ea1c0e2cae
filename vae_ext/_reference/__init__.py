"""The ops in plain PyTorch: stable, on any device, differentiable any number of times.

The oracle of the tests, and what serves wherever there is no kernel: devices without one, double
backward, forward-mode differentiation and `torch.func` transforms. Arguments are those of
:mod:`vae_ext.functional`, which checks them.
"""

from __future__ import annotations

from .formulas import REDUCTION_NAMES as REDUCTION_NAMES
from .formulas import evaluate as evaluate
from .samples import KL as KL
from .samples import Z as Z
from .samples import latent as latent
from .samples import reparameterize as reparameterize
from .samples import reparameterize_with_kl as reparameterize_with_kl
from .samples import sample_with_log_densities as sample_with_log_densities
