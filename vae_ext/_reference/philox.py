"""Philox4x32-10 and Box–Muller in plain PyTorch: the noise of the kernels, on any device.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. 32-bit words are held in
int32 tensors, as bits: sums and products wrap, and no 64-bit product is asked of a device. Normals
are computed in float32 except for tensors of float64, which not every device has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MASK = 0xFFFFFFFF


def signed(word: int) -> int:
    """The int32 of the same bits."""
    return word - 2**32 if word & 0x80000000 else word


def high_half(word: Tensor) -> Tensor:
    return (word >> 16) & 0xFFFF


def multiply(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low words of the 64-bit product of a 32-bit constant and 32-bit words."""
    a_high, a_low = a >> 16, a & 0xFFFF
    b_high, b_low = high_half(b), b & 0xFFFF
    low = b_low * a_low
    middle, other = b_high * a_low, b_low * a_high
    carry = high_half(low) + (middle & 0xFFFF) + (other & 0xFFFF)
    high = b_high * a_high + high_half(middle) + high_half(other) + (carry >> 16)
    return high, b * signed(a)


def philox4x32_10(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = multiply(0xD2511F53, c0)
        high1, low1 = multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 = k0 + signed(0x9E3779B9)
        k1 = k1 + signed(0xBB67AE85)
    return c0, c1, c2, c3


def as_word(value: Tensor) -> Tensor:
    """int64 from 0 to 2^32 - 1, as a word."""
    return torch.where(value > 0x7FFFFFFF, value - 2**32, value).to(torch.int32)


def halves(value: int | Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Low and high words of a 64-bit number; negative numbers by their two's complement."""
    if not isinstance(value, Tensor):
        value = torch.full((), value, dtype=torch.int64, device=device)
    return as_word(value & MASK), as_word((value >> 32) & MASK)


def blocks(block: Tensor, seed: int | Tensor, stream: int) -> Tensor:
    """The four words of each block of a stream, int32 [n, 4]."""
    low, high = halves(stream, block.device)
    counter = (*halves(block, block.device), low.expand_as(block), high.expand_as(block))
    return torch.stack(philox4x32_10(counter, halves(seed, block.device)), dim=-1)


def bits(n: int, seed: int | Tensor, stream: int, device: torch.device) -> Tensor:
    """The words of elements 0 … n − 1 of a stream, int32 [n]."""
    return blocks(torch.arange((n + 3) // 4, device=device), seed, stream).reshape(-1)[:n]


def as_numbers(words: Tensor) -> Tensor:
    """Words as numbers from 0 to 2^32 - 1, int64."""
    return words.to(torch.int64) & MASK


def words(n: int, seed: int | Tensor, stream: int, device: torch.device) -> Tensor:
    """The same words as numbers, int64 [n]."""
    return as_numbers(bits(n, seed, stream, device))


def box_muller(words: Tensor, dtype: torch.dtype) -> Tensor:
    """The standard normals of an even number of words."""
    pairs = words.reshape(-1, 2)
    polar = polar_double if dtype == torch.float64 else polar_single
    radius, cosine, sine = polar(pairs[:, 0], pairs[:, 1])
    return torch.stack((radius * cosine, radius * sine), dim=-1).reshape(-1)


def polar_double(radial: Tensor, angular: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """√(−2 ln u), cos θ and sin θ, exact to their rounding."""
    u = (as_numbers(radial).to(torch.float64) + 0.5) * 2.0**-32
    theta = as_numbers(angular).to(torch.float64) * (2.0 * math.pi * 2.0**-32)
    return torch.sqrt(-2.0 * torch.log(u)), torch.cos(theta), torch.sin(theta)


def polar_single(radial: Tensor, angular: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same in float32, to 1e-6 of their product."""
    # ln u near 1 from 1 − u, which float32 has where u itself is rounded to 1. A word below 2^31 is
    # not negative as an int32, and the complement of another is not.
    above = radial < 0
    distance = (torch.where(above, ~radial, radial).to(torch.float32) + 0.5) * 2.0**-32
    logarithm = torch.where(above, torch.log1p(-distance), torch.log(distance))
    # θ is a whole number of quarter turns, and at most an eighth beside it, which is where sine and
    # cosine keep their digits.
    quarter = (((angular >> 29) & 7) + 1) >> 1
    rest = (angular - (quarter << 30)).to(torch.float32) * (2.0 * math.pi * 2.0**-32)
    cosine, sine = torch.cos(rest), torch.sin(rest)
    odd = (quarter & 1) == 1
    first, second = torch.where(odd, -sine, cosine), torch.where(odd, cosine, sine)
    turned = (quarter & 2) == 2
    return (
        torch.sqrt(-2.0 * logarithm),
        torch.where(turned, -first, first),
        torch.where(turned, -second, second),
    )


def standard_normal(
    shape: tuple[int, ...],
    seed: int | Tensor,
    stream: int,
    device: torch.device,
    dtype: torch.dtype = torch.float64,
    places: Sequence[int] | None = None,
) -> Tensor:
    """Standard normals of the elements of `shape`, in float32 or float64; of a box in a larger
    tensor those at `places` of the stream, [offset, size, stride, size, stride, …]."""
    n = math.prod(shape)
    if places is not None:
        offset, *pairs = places
        at = torch.full((), offset, dtype=torch.int64, device=device)
        for size, stride in zip(pairs[::2], pairs[1::2], strict=True):
            # By steps: some devices have no product of 64-bit integers.
            at = at[..., None] + torch.arange(0, size * stride, max(stride, 1), device=device)
        at = at.reshape(-1)
        four = box_muller(blocks(at >> 2, seed, stream).reshape(-1), dtype).reshape(-1, 4)
        return four.gather(1, (at & 3)[:, None]).reshape(shape)
    return box_muller(bits(n + (-n) % 4, seed, stream, device), dtype)[:n].reshape(shape)
