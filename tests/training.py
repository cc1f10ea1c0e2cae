"""Steps of training, for tests that compare two ways of making them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def losses(
    model: nn.Module, step: Callable[[Tensor], Tensor], x: Tensor, steps: int, **options: bool
) -> list[float]:
    """Of so many steps of Adam on one batch, with the same noise at each call of this."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, **options)
    torch.manual_seed(1)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = step(x)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
