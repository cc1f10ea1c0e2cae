"""Tensors of given values in other layouts: gaps hold NaN, which shows if it is read."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gapped(t: Tensor) -> Tensor:
    """Every second element of a tensor whose other elements are NaN."""
    wide = torch.full((*t.shape, 2), math.nan, dtype=t.dtype)
    wide[..., 0] = t
    return wide[..., 0]


def chunked(t: Tensor) -> Tensor:
    """A half of a packed tensor, as a model's moments come."""
    return torch.cat([t, torch.full_like(t, math.nan)], dim=min(1, t.ndim - 1)).chunk(
        2, min(1, t.ndim - 1)
    )[0]


def channels_last(t: Tensor) -> Tensor:
    return t.clone(memory_format=torch.channels_last) if t.ndim == 4 else t.clone()


def channels_last_chunk(t: Tensor) -> Tensor:
    if t.ndim != 4:
        return chunked(t)
    packed = torch.cat([t, torch.full_like(t, math.nan)], dim=1)
    return packed.contiguous(memory_format=torch.channels_last).chunk(2, dim=1)[0]


def transposed(t: Tensor) -> Tensor:
    return t.transpose(0, -1).contiguous().transpose(0, -1)


def offset(t: Tensor) -> Tensor:
    """Starting at an address that no vector load likes."""
    flat = torch.empty(t.numel() + 1, dtype=t.dtype)
    return flat[1:].copy_(t.reshape(-1)).reshape(t.shape)


LAYOUTS = [gapped, chunked, channels_last, channels_last_chunk, transposed, offset]
