"""Errors of results against exact values, in the units of the contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

from tests.arithmetic import HAS_LONG, LONG, Bulk, Digits, to_long
from tests.cases import Case, Quantity

HALF = (torch.float16, torch.bfloat16)
Formula = Callable[..., Any]  # of an arithmetic and the inputs

MANTISSA = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}


def long_array(t: Tensor) -> Any:
    return t.detach().double().cpu().numpy().astype(LONG)  # exact


def bulk(formula: Formula, inputs: list[Tensor]) -> Any:
    with np.errstate(all="ignore"):
        return np.broadcast_to(formula(Bulk, *map(long_array, inputs)), inputs[0].shape)


def digits(formula: Formula, inputs: list[Tensor]) -> Any:
    """The same by 50 digits, for finite inputs."""
    rows = zip(*(t.double().tolist() for t in inputs), strict=True)
    return np.array([to_long(formula(Digits, *map(mpmath.mpf, row))) for row in rows], dtype=LONG)


def spacing(exact: Any, dtype: torch.dtype) -> Any:
    """The distance of neighbouring floats at a value."""
    info = torch.finfo(dtype)
    bits = MANTISSA[dtype]
    smallest = np.ldexp(LONG(info.tiny), 1 - bits)  # subnormal
    _, exponent = np.frexp(np.where(np.isfinite(exact), exact, 1))
    return np.maximum(np.ldexp(LONG(1), exponent - bits), smallest)


@dataclass(frozen=True)
class Error:
    """In the unit of the quantity; inf where a result is not finite and should be, or is."""

    max: float
    mean: float
    at: int  # the worst element

    def __str__(self) -> str:
        return f"{self.max:.3g} ({self.mean:.2g})"


def limits(quantity: Quantity, dtype: torch.dtype, device: str = "cpu") -> float:
    """What the contract allows, in the unit. A result in half precision is one rounding, of half a
    unit in its own last place, of a float32 result."""
    limit = quantity.limit if device == "cpu" else quantity.cuda_limit
    if dtype not in HALF:
        return limit
    if quantity.unit == "ulp":
        return 0.51
    return 1 + limit * 2.0 ** (MANTISSA[dtype] - 24)


def error(
    quantity: Quantity, got: Tensor, exact: Any, terms: Any, dtype: torch.dtype, limit: float = 0
) -> Error:
    """The largest and the mean error."""
    result = long_array(got)
    if quantity.unit == "ulp":
        unit = spacing(exact, dtype)
    else:
        size = terms
        smallest = spacing(np.zeros_like(exact), dtype)
        unit = np.maximum(np.ldexp(size, -MANTISSA[dtype]), smallest)
    with np.errstate(all="ignore"):
        off = np.abs(result - exact) / unit
        largest = LONG(torch.finfo(dtype).max)
        # Beyond the largest float a result may be inf, and it must be if it is by more than the
        # limit.
        beyond = np.abs(exact) + (limit + 0.5) * unit > largest
        right_inf = np.isinf(result) & beyond & (np.sign(result) == np.sign(exact))
        same = (result == exact) | (np.isnan(result) & np.isnan(exact)) | right_inf
    off = np.where(same, 0, np.where(np.isnan(off), np.inf, off))
    if off.size == 0:
        return Error(0, 0, 0)
    worst = int(off.argmax())
    finite = off[np.isfinite(off)]
    return Error(float(off[worst]), float(finite.mean()) if finite.size else np.inf, worst)


def exact_and_terms(quantity: Quantity, inputs: list[Tensor]) -> tuple[Any, Any]:
    compute = bulk if HAS_LONG else digits
    return compute(quantity.value, inputs), compute(quantity.size, inputs)


def used(quantity: Quantity, by: int | None, name: str, dtype: torch.dtype) -> bool:
    """Whether it is measured on a set. In half precision gradients are on ordinary draws."""
    if dtype in HALF and (name == "wide" or (by is not None and name != "ordinary")):
        return False  # wide: beyond float16
    return not quantity.sets or name in quantity.sets


def evaluate(function: Callable[..., Tensor], inputs: list[Tensor], by: int | None) -> Tensor:
    """The elementwise value, or the derivative of its sum by one input."""
    if by is None:
        with torch.no_grad():
            return function(*inputs)
    leaves = [t.detach().requires_grad_(i == by) for i, t in enumerate(inputs)]
    (grad,) = torch.autograd.grad(function(*leaves).sum(), leaves[by])
    return grad


def naive(case: Case, name: str) -> Callable[..., Tensor]:
    """What people write, with the sign of the value."""
    other = case.naive[name]

    def function(*inputs: Tensor) -> Tensor:
        return other.sign * other.function(*inputs, reduction="none")

    return function
