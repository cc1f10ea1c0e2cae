"""The pictures of the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor


def grid(images: Tensor, columns: int, side: int) -> np.ndarray:
    """Rows of images [N, side * side] as one picture, with a light line between them."""
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (side + 1) - 1, columns * (side + 1) - 1), 0.5, np.float32)
    for i, image in enumerate(images.float().reshape(-1, side, side).clamp(0, 1).cpu().numpy()):
        top, left = i // columns * (side + 1), i % columns * (side + 1)
        canvas[top : top + side, left : left + side] = image
    return canvas


def save_images(path: Path, images: Tensor, columns: int, side: int, title: str) -> None:
    picture = grid(images, columns, side)
    height, width = picture.shape
    figure, axes = plt.subplots(figsize=(8, 8 * height / width + 0.5), layout="constrained")
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=11)
    axes.set_axis_off()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def save_reconstructions(path: Path, originals: Tensor, decoded: Tensor, side: int) -> None:
    columns = 12
    pairs = []
    for start in range(0, len(originals), columns):
        pairs += [originals[start : start + columns], decoded[start : start + columns]]
    title = "held-out digits (odd rows) and their reconstructions (even rows)"
    save_images(path, torch.cat(pairs), columns, side, title)


def save_curves(path: Path, histories: Mapping[str, Sequence[dict[str, float]]]) -> None:
    quantities = {
        "elbo": "ELBO",
        "reconstruction": "reconstruction, log p(x|z)",
        "kl": "KL(q(z|x) ‖ p(z))",
    }
    figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    styles: dict[str, dict[str, Any]] = {
        "vae_ext": {"linewidth": 4, "alpha": 0.4},
        "plain PyTorch": {"linestyle": "--"},
    }
    for axes, (key, label) in zip(panels, quantities.items(), strict=True):
        for name, history in histories.items():
            epochs = range(1, len(history) + 1)
            axes.plot(epochs, [h[key] for h in history], label=name, **styles[name])
        if key == "elbo":
            held_out = [h["held_out"] for h in histories["vae_ext"]]
            axes.plot(range(1, len(held_out) + 1), held_out, color="gray", label="held out")
        axes.set_title(label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("nats per image")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def save_latent(path: Path, mu: Tensor, labels: Tensor) -> None:
    """The posterior means of held-out digits, in their two leading principal directions."""
    points = mu.float().cpu() - mu.float().cpu().mean(0)
    if points.shape[1] > 2:
        directions = torch.linalg.svd(points, full_matrices=False)[2][:2]
        points = points @ directions.T
        title = "posterior means, two leading principal directions"
    else:
        title = "posterior means"
    columns = points.numpy()
    second = columns[:, 1] if columns.shape[1] > 1 else np.zeros(len(columns))
    figure, axes = plt.subplots(figsize=(6.5, 5.5), layout="constrained")
    dots = axes.scatter(columns[:, 0], second, c=labels.cpu().numpy(), cmap="tab10", s=18)
    figure.colorbar(dots, ax=axes, ticks=range(10), label="digit")
    axes.set_title(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)
