"""How the elements become a result: over events, by weights, over a count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .. import _checks as checks

SUM, MEAN = checks.REDUCTIONS["sum"], checks.REDUCTIONS["mean"]


class Reduction(NamedTuple):
    """What the functions that reduce are asked for: see :func:`bernoulli_log_likelihood`."""

    weights: Tensor | None = None
    event_dims: int | None = None
    reduction: str = "event"
    over: int | None = None  # count, which a tuple has already

    @property
    def by_weights(self) -> bool:
        """A mean that is a sum for the op, which the sum of the weights divides."""
        return self.reduction == "mean" and self.weights is not None and self.over is None

    @property
    def keywords(self) -> dict[str, Any]:
        """As the public functions take them."""
        return {
            "weights": self.weights,
            "event_dims": self.event_dims,
            "reduction": self.reduction,
            "count": self.over,
        }

    def arguments(self, name: str, first: Tensor, shape: Sequence[int]) -> tuple[int | None, ...]:
        """As the ops take them that reduce elements of `shape`: count, event_dims, reduction. The
        weights are held to the device of the op's first tensor."""
        dims = checks.event_dims(self.event_dims, len(shape))
        code = checks.reduction(self.reduction)
        count = checks.count(self.over, self.reduction)
        if self.weights is not None:
            checks.weights(self.weights, name, first, shape)
        return count, dims, SUM if self.by_weights else code

    def of_samples(self, n: int | None, event_dims: int) -> Reduction:
        """What is asked of so many samples, of which averaged() is the mean; None: there is no
        dimension of them."""
        over = self.over if self.over is None or n is None else self.over * n
        return self._replace(event_dims=event_dims, over=over)

    def averaged(self, found: Tensor, n: int | None) -> Tensor:
        if n is None or self.reduction == "batchmean":  # whose events are those of all samples
            return found
        return found.mean(0) if self.reduction == "event" else found / n

    def finished(self, found: Tensor, shape: Sequence[int]) -> Tensor:
        """What the op found over elements of `shape`; a mean by weights that add up to 0 is NaN."""
        if self.weights is None or not self.by_weights:
            return found
        n = self.weights.numel()
        repeats = math.prod(shape) // n if n else 0
        return found / (self.weights.sum(dtype=found.dtype) * repeats)
