"""The public functions. Every quantity is in nats; log-likelihoods include their constants.

An *event* is the trailing `event_dims` dimensions of a tensor, one independent draw (the word is
`torch.distributions`'); `event_dims=None` means all dimensions but the first, so that a
[B, C, H, W] latent has B events, and 0 makes every element an event. `reduction` is "none"
(elementwise), "event" (the sum over each event), "sum", "mean" (over all elements) or "batchmean"
(the sum divided by the number of events).

Tensors are float16, bfloat16, float32 or float64, of any strides, on any device; half precision is
computed in float32, and reduced results of it are float32. Numbers in parentheses are those of
docs/derivations.md.
"""

from ._counts import *
from ._divergences import *
from ._elbo import *
from ._groups import *
from ._likelihoods import *
from ._mixtures import *
from ._pixels import *
from ._sampling import *
