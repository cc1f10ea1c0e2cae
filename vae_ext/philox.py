"""Philox4x32-10 and Box–Muller in plain PyTorch: the noise of the kernels, on any device.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. 32-bit words are held in
int64 tensors; products are taken in 16-bit halves, since int64 has no unsigned 64-bit product.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF


def multiply(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low words of the 64-bit product of a 32-bit constant and 32-bit words."""
    high = (b >> 16) * a
    low = (b & 0xFFFF) * a
    middle = high + (low >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (low & 0xFFFF)


def philox4x32_10(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = multiply(0xD2511F53, c0)
        high1, low1 = multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 = (k0 + 0x9E3779B9) & MASK
        k1 = (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def halves(value: int | Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Low and high words of a 64-bit number; negative numbers by their two's complement."""
    if not isinstance(value, Tensor):
        value = torch.tensor(value, dtype=torch.int64, device=device)
    return value & MASK, (value >> 32) & MASK


def words(n: int, seed: int | Tensor, stream: int, device: torch.device) -> Tensor:
    """The words of elements 0 … n − 1 of a stream, int64 [n]."""
    block = torch.arange((n + 3) // 4, device=device)
    low, high = halves(stream, device)
    counter = (*halves(block, device), low.expand_as(block), high.expand_as(block))
    return torch.stack(philox4x32_10(counter, halves(seed, device)), dim=-1).reshape(-1)[:n]


def box_muller(words: Tensor) -> Tensor:
    """The standard normals of an even number of words, float64, exact to its rounding."""
    pairs = words.reshape(-1, 2).to(torch.float64)
    u = (pairs[:, 0] + 0.5) * 2.0**-32
    theta = pairs[:, 1] * (2.0 * math.pi * 2.0**-32)
    radius = torch.sqrt(-2.0 * torch.log(u))
    return torch.stack((radius * torch.cos(theta), radius * torch.sin(theta)), dim=-1).reshape(-1)


def standard_normal(
    shape: tuple[int, ...], seed: int | Tensor, stream: int, device: torch.device
) -> Tensor:
    """Standard normals of the elements of `shape`, float64."""
    n = math.prod(shape)
    return box_muller(words(n + (-n) % 4, seed, stream, device))[:n].reshape(shape)
