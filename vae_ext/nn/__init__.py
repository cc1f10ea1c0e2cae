"""The functions as modules, with torch's conventions: parameters, state, `extra_repr`."""

from ._counts import *
from ._groups import *
from ._latent import *
from ._losses import *
from ._priors import *
