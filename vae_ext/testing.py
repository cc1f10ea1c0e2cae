"""For tests: the raw numbers behind the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks as checks
from . import _sample_checks as sample_checks
from ._native import library
from ._reference import philox

__all__ = ["philox_words"]


def philox_words(n: int, seed: int, stream: int = 0) -> Tensor:
    """The first n 32-bit words of a stream, int64 [n] on the CPU: the raw numbers behind
    the noise, for tests.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Raises:
        TypeError, ValueError: arguments that are not integers, or do not fit 64 bits.
    """
    n = checks.integer("n", n)
    if n < 0:
        raise ValueError(f"n was {n}, expected at least 0")
    seed, stream = sample_checks.word64("seed", seed), sample_checks.word64("stream", stream)
    cpu = torch.device("cpu")
    if not library.available:
        return philox.words(n, seed, stream, cpu)
    out = torch.empty(n, dtype=torch.int64, device=cpu)
    torch.ops.vae_ext.philox_words.default(out, seed, stream)
    return out
