"""What a result may differ by: dtypes, their roundings, and the comparison by magnitudes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests import devices

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
REDUCTIONS = ["none", "event", "sum", "mean", "batchmean"]

# Rounding of one elementwise result, relative. Half types: one rounding of a float32 result.
ROUNDING = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.bfloat16: 2.0**-8,
    torch.float16: 2.0**-11,
}
# Below the normal range the spacing is absolute.
SMALLEST = {
    torch.float64: 5e-324,
    torch.float32: 1.4e-45,
    torch.bfloat16: 9.2e-41,
    torch.float16: 6e-8,
}


def elementwise_tolerance(dtype: torch.dtype, roundings: float) -> float:
    """Relative tolerance of an elementwise result that is good to that many roundings."""
    if devices.machine_code:
        roundings = max(roundings, 16 + 2)
    if dtype == torch.float64:
        return 4 * roundings * ROUNDING[dtype]  # the oracle rounds too
    if dtype == torch.float32:
        return roundings * ROUNDING[dtype]
    return 1.02 * ROUNDING[dtype] + roundings * ROUNDING[torch.float32]


def reduced_tolerance(dtype: torch.dtype) -> float:
    return 1e-14 if dtype == torch.float64 else 5e-7


def assert_within(
    actual: Tensor, exact: Tensor, magnitude: Tensor, tolerance: float, floor: float = 0
) -> None:
    """|actual − exact| ≤ tolerance · magnitude, and the same NaN and infinities: one where exact
    numbers are beyond what the dtype holds."""
    assert actual.shape == exact.shape
    floor = max(floor, SMALLEST[actual.dtype])
    # Written so that NaN fails.
    error = (actual.double() - exact.double()).abs()
    beyond = actual.isinf() & (exact.to(actual.dtype) == actual)
    equal = (actual.double() == exact.double()) | (actual.isnan() & exact.isnan()) | beyond
    good = equal | (error <= tolerance * magnitude.double() + floor)
    if not bool(good.all()):
        excess = torch.where(good, 0.0, error / (magnitude.double() + 1e-300))
        i = int(excess.reshape(-1).nan_to_num(math.inf).argmax())
        raise AssertionError(
            f"element {i}: got {actual.reshape(-1)[i].item()!r}, exact "
            f"{exact.reshape(-1)[i].item()!r}, magnitude "
            f"{magnitude.expand_as(exact).reshape(-1)[i].item()!r}, {excess.max().item():.3e} > "
            f"{tolerance:.3e}; {int((~good).sum())} of {good.numel()} fail"
        )
