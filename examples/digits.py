"""Handwritten digits: the 1,797 that ship inside scikit-learn, or MNIST from IDX files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Digits(NamedTuple):
    train: Tensor  # [N, side * side] in [0, 1]
    test: Tensor  # [M, side * side]
    test_labels: Tensor  # [M]
    side: int


def load_sklearn(seed: int = 0) -> Digits:
    """1,500 images of 8 × 8 for training, 297 held out."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    x = torch.from_numpy(images / 16.0).float()[order]
    y = torch.from_numpy(labels)[order]
    return Digits(x[:1500], x[1500:], y[1500:], side=8)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """An IDX file of bytes, plain or gzipped (the format of yann.lecun.com/exdb/mnist)."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        content = file.read()
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != int(np.prod(shape)):
        raise ValueError(f"{path} holds {values.size} bytes, its header says {shape}")
    return torch.from_numpy(values.copy()).reshape(shape)


def load_idx(folder: Path) -> Digits:
    """The four MNIST files in a folder, each with or without .gz."""

    def find(name: str) -> Path:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
        raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")

    train = read_idx(find("train-images-idx3-ubyte"), 3)
    test = read_idx(find("t10k-images-idx3-ubyte"), 3)
    labels = read_idx(find("t10k-labels-idx1-ubyte"), 1)
    side = train.shape[-1]
    return Digits(
        train.flatten(1).float() / 255, test.flatten(1).float() / 255, labels.long(), side
    )
