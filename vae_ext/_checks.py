"""Argument checks: bad input is named here, before any kernel starts. Those of samples are in
_sample_checks.py."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
import torch.fx
from torch import Tensor

from ._native.dispatch import is_dtensor, jit_tracing_state, tracing, transforming
from ._reference.formulas import REDUCTION_NAMES

FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
BINARY = (torch.bool, torch.uint8)
TARGETS = FLOATING + BINARY
COUNTS = (*TARGETS, torch.int16, torch.uint16, torch.int32, torch.int64)
STRIDED = torch.strided
REDUCTIONS = {name: code for code, name in REDUCTION_NAMES.items()}
MEANS = ("mean", "batchmean")  # those that divide

# What flows back through samples and their densities, in the order of `DrawGradient` in csrc/math.
GRADIENTS = ("reparameterized", "score", "sticking-the-landing")


def names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)


def described(value: object) -> str:
    """What a thing that should have been a tensor is."""
    if isinstance(value, torch.fx.Proxy):
        return (
            "a torch.fx.Proxy (torch.fx.symbolic_trace takes the functions of vae_ext for leaves "
            'where they are called as vae_ext.name(...), or after torch.fx.wrap("name") in the '
            "module that imports the name)"
        )
    return f"a {type(value).__name__}"


def tensor(name: str, value: object, dtypes: tuple[torch.dtype, ...] = FLOATING) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} was {described(value)}, expected a torch.Tensor")
    if value.is_nested:
        raise TypeError(f"{name} was a nested tensor, expected a dense one: pass its values()")
    if value.dtype not in dtypes:
        raise TypeError(f"{name} had dtype {value.dtype}, expected one of {names(dtypes)}")
    if value.layout is not STRIDED:
        raise TypeError(f"{name} had layout {value.layout}, expected a strided tensor")


def fake(value: Tensor) -> bool:
    """A FakeTensor, which has a shape and no numbers."""
    return type(value).__name__ == "FakeTensor"


def same_device(first_name: str, first: Tensor, name: str, value: Tensor) -> None:
    if type(first) is type(value) is Tensor and first.is_cpu and value.is_cpu:
        return  # the usual case, by what costs least
    distributed(first_name, first, name, value)
    if fake(first) != fake(value) and not tracing():
        one, other = (name, first_name) if fake(value) else (first_name, name)
        raise TypeError(
            f"{one} was a FakeTensor and {other} was not, expected both or neither (or a call "
            "within the FakeTensorMode, if it allows that)"
        )
    if first.device != value.device:
        raise ValueError(
            f"{name} was on {value.device}, expected the device of {first_name}, {first.device}"
        )


def distributed(first_name: str, first: Tensor, name: str, value: Tensor) -> None:
    """A DTensor's companions are DTensors, or have one element: what others hold nobody knows, all
    or a rank's part."""
    mixed = is_dtensor(first) != is_dtensor(value)
    if mixed and (is_dtensor(value) or value.numel() != 1):
        plain, other = (name, first_name) if is_dtensor(first) else (first_name, name)
        raise ValueError(
            f"{plain} was a plain tensor and {other} a DTensor, expected two DTensors: "
            "distribute_tensor makes one of a whole tensor, DTensor.from_local of a rank's part"
        )


def pair(
    first_name: str,
    first: Tensor,
    name: str,
    value: Tensor,
    dtypes: tuple[torch.dtype, ...] = FLOATING,
    to_first: bool = False,
) -> Sequence[int]:
    """Two tensors that go together, the second of these dtypes: their common shape.

    `to_first`: the second must broadcast to the first.
    """
    # Two alike on the CPU, the usual case, in one condition: calls cost more than the comparisons.
    try:
        if (
            type(first) is type(value) is Tensor
            and first.shape == value.shape
            and first.dtype in FLOATING
            and value.dtype in dtypes
            and first.layout is value.layout is STRIDED
            and first.is_cpu
            and value.is_cpu
        ):
            return first.shape
    except RuntimeError:  # nested tensors, which have no shape; they are named below
        pass
    tensor(first_name, first)
    tensor(name, value, dtypes)
    same_device(first_name, first, name, value)
    if to_first:
        broadcastable_to(name, value, first_name, first.shape)
        return first.shape
    return broadcast(**{first_name: first, name: value})


def shape_text(shape: Sequence[int]) -> str:
    return str(list(shape))


def common_shape(*shapes: Sequence[int]) -> tuple[int, ...] | None:
    """What shapes broadcast to, or None."""
    first, *others = shapes
    for shape in others:
        if shape != first:
            break
    else:
        return tuple(first)
    common: list[int] = []
    for d in range(max(map(len, shapes))):  # from the last dimension
        size = 1
        for shape in shapes:
            n = shape[-1 - d] if d < len(shape) else 1
            if size == 1:
                size = n
            elif n != 1 and n != size:  # one by one: they may be symbols
                return None
        common.append(size)
    return tuple(reversed(common))


def broadcast(**tensors: Tensor | None) -> Sequence[int]:
    """The common shape of the tensors given, which the error names if there is none."""
    given = {name: t for name, t in tensors.items() if t is not None}
    common = common_shape(*[t.shape for t in given.values()])
    if common is None:
        listed = ", ".join(f"{name} {shape_text(t.shape)}" for name, t in given.items())
        raise ValueError(f"the shapes were {listed}; expected shapes that broadcast")
    return common


def broadcastable_to(name: str, value: Tensor, target_name: str, shape: Sequence[int]) -> None:
    if value.shape != shape and common_shape(value.shape, shape) != tuple(shape):
        raise ValueError(
            f"{name} had shape {shape_text(value.shape)}, expected one that broadcasts to that of "
            f"{target_name}, {shape_text(shape)}"
        )


def same_shape(first_name: str, first: Tensor, name: str, value: Tensor) -> None:
    if first.shape != value.shape:
        raise ValueError(
            f"{name} had shape {shape_text(value.shape)}, expected that of {first_name}, "
            f"{shape_text(first.shape)}"
        )


def integer(name: str, value: object) -> int:
    """Python's own, NumPy's, or a symbol for one while a program is traced."""
    if type(value) is int or isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    if isinstance(value, (bool, Tensor)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} was {value!r}, expected an int")
    return int(value)


def number(name: str, value: object, expected: str = "a float") -> float:
    """Likewise."""
    if type(value) in (float, int) or isinstance(value, (torch.SymFloat, torch.SymInt)):
        return value  # type: ignore[return-value]
    if isinstance(value, (bool, Tensor)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} was {value!r}, expected {expected}")
    return float(value)


def size(name: str, value: Sequence[Any]) -> tuple[int, ...]:
    """A shape, given as integers or as one sequence of them."""
    if len(value) == 1 and isinstance(value[0], Sequence):
        value = value[0]
    shape = tuple(integer(name, n) for n in value)
    if any(n < 0 for n in shape):
        raise ValueError(f"{name} was {shape_text(shape)}, expected no negative dimension")
    return shape


def weights(value: Tensor, name: str, first: Tensor, shape: Sequence[int]) -> None:
    """A mask or weights of elements of that shape."""
    tensor("weights", value, (*FLOATING, torch.bool))
    same_device(name, first, "weights", value)
    broadcastable_to("weights", value, "the elements", shape)


def target_range(value: Tensor, largest: float, weights: Tensor | None = None) -> None:
    """Targets between 0 and the largest, which the native kernels of the CPU see to themselves.
    Elsewhere a look would wait for the device: a target outside makes the results NaN there."""
    expected = f"values in [0, {largest}]" if largest < math.inf else "values of at least 0"
    within(value, 0, largest, weights, expected)


def within(
    value: Tensor, least: float, largest: float, weights: Tensor | None, expected: str
) -> None:
    if not value.is_cpu or value.dtype == torch.bool or tracing() or transforming():
        return
    refused = (value < least) | (value > largest)
    if weights is not None:
        refused = refused & (weights != 0)
    outside = value.expand(refused.shape)[refused]
    if outside.numel():
        raise ValueError(f"target had the value {outside[0].item()}, expected {expected}")


def raise_as_value_error(error: RuntimeError, words: str) -> NoReturn:
    """An error of a kernel that found a bad value, without the kernel's file and line."""
    _, found, rest = str(error).partition(words)
    if not found:
        raise error
    raise ValueError(found + rest) from None


def event_dims(value: int | None, ndim: int) -> int:
    """The number of trailing dimensions of one event; None: all dimensions but the first."""
    if value is None:
        return max(ndim - 1, 0)
    value = integer("event_dims", value)
    if not 0 <= value <= ndim:
        raise ValueError(
            f"event_dims was {value}, expected 0 to {ndim} for a tensor of {ndim} dimensions"
        )
    return value


def reduction(value: str, allowed: Sequence[str] = tuple(REDUCTIONS)) -> int:
    code = REDUCTIONS.get(value) if isinstance(value, str) else None
    if code is None or value not in allowed:
        raise ValueError(f"reduction was {value!r}, expected one of {list(allowed)}")
    return code


def count(value: int | None, reduction: str) -> int | None:
    """What a mean is over, if not over the elements or events that there are."""
    if value is None:
        return None
    if isinstance(value, Tensor) and jit_tracing_state() is not None:
        value = int(value)  # made of sizes, which are tensors there
    value = integer("count", value)
    if reduction not in MEANS:
        raise ValueError(
            f"count was {value} with reduction={reduction!r}, expected it with one of {list(MEANS)}"
        )
    if value < 1:
        raise ValueError(f"count was {value}, expected at least 1")
    return value


def scalar(name: str, value: float | Tensor) -> float | Tensor:
    """A Python number, or a tensor of one element, without its dimensions."""
    if not isinstance(value, Tensor):
        return number(name, value, "a float or a scalar tensor")
    tensor(name, value)
    if value.numel() != 1:
        raise ValueError(
            f"{name} was a tensor of shape {shape_text(value.shape)}, expected one element"
        )
    return value.reshape(())


def bounds(value: object, soft: bool) -> tuple[float, float]:
    """(low, high), of which one may be infinite where the bounds are a cut."""
    try:
        low, high = (number("bounds", b) for b in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ValueError(
            f"bounds was {value!r}, expected two numbers, (low, high); of a bound that is not "
            "wanted, -inf or inf"
        ) from None
    if not low < high:
        raise ValueError(f"bounds was {value!r}, expected (low, high) with low < high")
    if soft and not (-math.inf < low and high < math.inf):
        raise ValueError(f"bounds was {value!r} with soft=True, expected finite bounds")
    return low, high
