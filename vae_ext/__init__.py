"""vae_ext: the loss of variational autoencoders as fused kernels for PyTorch.

Every name without an underscore is public.
"""

import torch.fx as _fx

from . import _torch_kl as _torch_kl  # registers
from . import distributions as distributions
from . import estimators as estimators
from . import functional as functional
from . import integrations as integrations
from . import nn as nn
from . import objectives as objectives
from . import testing as testing
from ._native import library as _library
from ._native.library import set_simd_level as set_simd_level
from ._native.library import simd_level as simd_level
from ._native.library import simd_levels as simd_levels
from ._region import Region as Region
from ._version import __version__ as __version__
from .functional import *
from .multivariate import kl_multivariate_normal as kl_multivariate_normal

if _library.available:
    from ._native import registration as _registration  # noqa: F401  (the ops' derivatives)


def __dir__() -> list[str]:
    return sorted(n for n in globals() if not n.startswith("_") or n.startswith("__"))


# Leaves of torch.fx.symbolic_trace, which cannot follow what looks at shapes and dtypes.
for _name in [n for n in __dir__() if callable(globals()[n]) and not n.startswith("_")]:
    _fx.wrap(_name)
