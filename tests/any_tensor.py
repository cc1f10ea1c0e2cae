"""Any shape, dtype, strides and offset, for tests by hypothesis."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.tolerances import DTYPES

dtypes = st.sampled_from(DTYPES)
# Around the widths of vectors (4 to 32), tiles (256) and units of work (4096).
sizes = st.one_of(
    st.integers(0, 5),
    st.sampled_from([7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 255, 256, 257]),
)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    shape: list[int] = []
    for _ in range(draw(st.integers(0, 4))):
        size = draw(sizes)
        shape.append(size if math.prod(shape) * size <= 20_000 else 2)
    if draw(st.integers(0, 9)) == 0:
        shape = [draw(st.integers(1, 3)), draw(st.sampled_from([4095, 4096, 4097, 20_001]))]
    return tuple(shape)


# ---- Layouts: a tensor of these values, somewhere in a storage whose other elements are NaN ------


def strided(values: Tensor, order: list[int], steps: list[int], offset: int) -> Tensor:
    strides, next_stride = [0] * values.ndim, 1
    for d in order:
        strides[d] = next_stride * steps[d]
        next_stride = strides[d] * max(values.shape[d], 1)
    storage = torch.full((offset + next_stride + 1,), math.nan, dtype=values.dtype)
    view = storage.as_strided(values.shape, strides, offset)
    view.copy_(values)
    return view


@st.composite
def laid_out(draw: st.DrawFn, values: Tensor) -> Tensor:
    """In place, permuted, with steps and offsets; sometimes expanded from one element of a dim."""
    kind = draw(st.sampled_from(["plain", "strided", "strided", "expanded"]))
    if kind == "plain" or values.ndim == 0:
        return values.clone()
    if kind == "expanded":
        d = draw(st.integers(0, values.ndim - 1))
        return values.narrow(d, 0, min(1, values.shape[d])).clone().expand(values.shape)
    order = draw(st.permutations(range(values.ndim)))
    steps = [draw(st.sampled_from([1, 1, 2, 3])) for _ in range(values.ndim)]
    return strided(values, list(order), steps, draw(st.integers(0, 3)))


@st.composite
def broadcast_shape(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, or one that broadcasts to it."""
    if draw(st.integers(0, 3)):
        return shape
    kept = draw(st.integers(0, len(shape)))
    return tuple(1 if draw(st.booleans()) else n for n in shape[len(shape) - kept :])
