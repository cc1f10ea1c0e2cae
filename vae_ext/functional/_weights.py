"""What weights of elements do to a reduction."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .. import _checks as checks

SUM, MEAN = checks.REDUCTIONS["sum"], checks.REDUCTIONS["mean"]


def reduction_code(reduction: str, weights: Tensor | None) -> int:
    """What the op is asked for: a mean by weights is a sum that :func:`mean_by` divides."""
    code = checks.reduction(reduction)
    return SUM if code == MEAN and weights is not None else code


def mean_by(weights: Tensor, total: Tensor, shape: Sequence[int]) -> Tensor:
    """A sum over elements of that shape, over the sum of their weights: NaN if that is 0."""
    n = weights.numel()
    repeats = math.prod(shape) // n if n else 0
    return total / (weights.sum(dtype=total.dtype) * repeats)
