"""The check of processors that are not here, `make arm`, sees what is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("mpmath")
from tools import other_processor


class Zeros(other_processor.Program):
    """A processor that makes 0 of everything."""

    def __init__(self) -> None:
        pass

    def __call__(
        self, what: str, dtype: torch.dtype, n: int, numbers: Sequence[int], inputs: Sequence[Any]
    ) -> bytes:
        sizes = {"words": 8 * n, "sum": 8, "halves": 12 * n, "mixture": 8 * 32 * 16}
        return bytes(sizes.get(what, n * np.dtype(other_processor.NAMES[dtype]).itemsize))

    def floats(self, what: str, n: int, numbers: Sequence[int], inputs: Sequence[Tensor]) -> Tensor:
        rows = 1 + numbers[0] if len(inputs) > numbers[0] else 2 * (1 + numbers[0])
        return torch.zeros(rows, n, dtype=inputs[0].dtype)


def test_zeros_are_seen() -> None:
    complaints = other_processor.check(Zeros())
    seen = {re.split("[,:]", line)[0] for line in complaints}
    assert {"words", "noise", "sum", "float16", "bfloat16", "mixture", "classes"} <= seen
    assert len(complaints) > 280
