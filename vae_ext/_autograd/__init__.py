"""The torch.autograd Functions: the native ops with their hand-derived backward ops. Imported only
where the native library is."""

from __future__ import annotations

from .draw import SampleWithLogDensities
from .formulas import FUNCTIONS as OF_FORMULAS
from .formulas import ONE_PASS as ONE_PASS
from .function import NativeFunction
from .latent import Latent, Reparameterize, ReparameterizeWithKL
from .mixture import MixtureLogDensity

# The autograd kernel of each op.
FUNCTIONS: tuple[type[NativeFunction], ...] = (
    Reparameterize,
    ReparameterizeWithKL,
    Latent,
    SampleWithLogDensities,
    MixtureLogDensity,
    *OF_FORMULAS,
)
# What serves a public function, by its op.
DIRECT: dict[str, type[NativeFunction]] = {**{f.name: f for f in FUNCTIONS}, **ONE_PASS}
