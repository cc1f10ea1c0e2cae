"""Where a tensor lies in a larger one, of whose noise it then has a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import _checks as checks


class Region(NamedTuple):
    """A tensor is the box at `start` of a latent of `shape`: a shard, a micro-batch, a tile.

    Element i of the box gets the noise of element start + i of the whole, in its row-major order,
    and so what is drawn does not depend on how the latent is cut up. Boxes may overlap, as tiles
    with halos do, and may be empty.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, for noise that is
    a function of where it goes.

    Args:
        shape: of the whole latent, without the dimension of samples.
        start: where in it the tensor's first element lies, as many integers.

    Raises:
        TypeError, ValueError: whoever takes it, where the tensor is not within the whole.
    """

    shape: Sequence[int]
    start: Sequence[int]


def places(region: object, shape: Sequence[int], n_samples: int) -> list[int] | None:
    """The stream's elements as the ops take them, [offset, size, stride, size, stride, ...]: of the
    samples, if there is that dimension (n_samples > 0), and of `shape`, outermost first."""
    if region is None:
        return None
    if not isinstance(region, tuple) or len(region) != 2:
        raise TypeError(f"region was {region!r}, expected a Region or None")
    whole, start = (tuple(part) for part in region)
    fits = len(whole) == len(start) == len(shape) and all(
        first >= 0 and first + size <= full
        for first, size, full in zip(start, shape, whole, strict=True)
    )
    if not fits:
        raise ValueError(
            f"region was the box at {start} of {checks.shape_text(whole)}, which does not hold a "
            f"tensor of shape {checks.shape_text(shape)}"
        )
    offset, stride, pairs = 0, 1, []
    for first, size, full in zip(reversed(start), reversed(shape), reversed(whole), strict=True):
        pairs.append((size, stride))
        # Not in place: under torch.jit.trace sizes are tensors.
        offset, stride = offset + first * stride, stride * full
    if n_samples:
        pairs.append((n_samples, stride))
    return [offset, *(number for pair in reversed(pairs) for number in pair)]
