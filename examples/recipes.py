"""What the recipes share: a model with the usual loss and the same model with vae_ext's are trained
on digits from the same weights and with the same noise, and their losses are compared."""

from __future__ import annotations

import copy
import sys
from typing import Protocol

import torch
from digits import load_sklearn
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor

TOLERANCE = 1e-3  # relative: rounding differs, and training amplifies it
STEPS, BATCH = 200, 100


class Recipe(Protocol):
    """A module whose `loss` is the loss of a batch of images."""

    def loss(self, x: Tensor) -> Tensor: ...


def train(model: Recipe, images: Tensor) -> list[float]:
    torch.manual_seed(1)  # the noise of every step
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # type: ignore[attr-defined]
    losses = []
    for step in range(STEPS):
        first = step * BATCH % (len(images) - BATCH + 1)
        loss = model.loss(images[first : first + BATCH])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def report(
    title: str, before: list[float], after: list[float], tolerance: float = TOLERANCE
) -> int:
    """Prints the losses beside each other; the exit status says whether they are equal."""
    table = Table("step", "before", "after", title=title, box=SIMPLE, title_justify="left")
    for step in range(0, len(before), max(1, len(before) // 8)):
        table.add_row(str(step + 1), f"{before[step]:.4f}", f"{after[step]:.4f}")
    table.add_row(str(len(before)), f"{before[-1]:.4f}", f"{after[-1]:.4f}")
    console = Console()
    console.print(table)
    worst = max(abs(a - b) / abs(b) for a, b in zip(after, before, strict=True))
    equal = worst <= tolerance and after[-1] < after[0]
    verdict = "equal losses" if equal else "the losses are NOT equal"
    console.print(f"largest relative difference of {len(before)} steps: {worst:.1e}: {verdict}")
    return 0 if equal else 1


def compare(title: str, before: Recipe, after: Recipe, tolerance: float = TOLERANCE) -> None:
    """Trains both from the weights of `before`, and exits."""
    state = copy.deepcopy(before.state_dict())  # type: ignore[attr-defined]
    after.load_state_dict(state)  # type: ignore[attr-defined]
    images = load_sklearn().train
    sys.exit(report(title, train(before, images), train(after, images), tolerance))
