"""Argument checks: the one place in Python where bad input is named, before any kernel starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
BINARY = (torch.bool, torch.uint8)
TARGETS = FLOATING + BINARY
STRIDED = torch.strided
REDUCTIONS = {"none": 0, "event": 1, "sum": 2, "mean": 3, "batchmean": 4}

# What flows back through samples and their densities, in the order of `Flow` in csrc/formulas.h.
GRADIENTS = ("reparameterized", "score", "sticking-the-landing")


def names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)


def tensor(name: str, value: object, dtypes: tuple[torch.dtype, ...] = FLOATING) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} was a {type(value).__name__}, expected a torch.Tensor")
    if value.dtype not in dtypes:
        raise TypeError(f"{name} had dtype {value.dtype}, expected one of {names(dtypes)}")
    if value.layout is not STRIDED:
        raise TypeError(f"{name} had layout {value.layout}, expected a strided tensor")


def same_device(first_name: str, first: Tensor, name: str, value: Tensor) -> None:
    if first.device != value.device:
        raise ValueError(
            f"{name} was on {value.device}, expected the device of {first_name}, {first.device}"
        )


def pair(
    first_name: str,
    first: Tensor,
    name: str,
    value: Tensor,
    dtypes: tuple[torch.dtype, ...] = FLOATING,
    to_first: bool = False,
) -> torch.Size:
    """Two tensors that go together, the second of these dtypes: their common shape.

    `to_first`: the second must broadcast to the first.
    """
    # Two alike on the CPU, the usual case, in one condition: calls cost more than the comparisons.
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
    tensor(first_name, first)
    tensor(name, value, dtypes)
    same_device(first_name, first, name, value)
    if to_first:
        broadcastable_to(name, value, first_name, first.shape)
        return first.shape
    return broadcast(**{first_name: first, name: value})


def shape_text(shape: Sequence[int]) -> str:
    return str(list(shape))


def broadcast(**tensors: Tensor | None) -> torch.Size:
    """The common shape of the tensors given, which the error names if there is none."""
    given = {name: t for name, t in tensors.items() if t is not None}
    shapes = [t.shape for t in given.values()]
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    try:
        common: torch.Size = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        listed = ", ".join(f"{name} {shape_text(t.shape)}" for name, t in given.items())
        raise ValueError(f"the shapes were {listed}; expected shapes that broadcast") from None
    return common


def broadcastable_to(name: str, value: Tensor, target_name: str, shape: torch.Size) -> None:
    if value.shape == shape:
        return
    try:
        fits = torch.broadcast_shapes(value.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} had shape {shape_text(value.shape)}, expected one that broadcasts to that of "
            f"{target_name}, {shape_text(shape)}"
        )


def event_dims(value: int | None, ndim: int) -> int:
    """The number of trailing dimensions of one event; None: all dimensions but the first."""
    if value is None:
        return max(ndim - 1, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"event_dims was {value!r}, expected an int or None")
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


def noise(value: object, shape: Sequence[int]) -> None:
    """A tensor of the shape of z."""
    tensor("noise", value)
    assert isinstance(value, Tensor)
    if tuple(value.shape) != tuple(shape):
        raise ValueError(
            f"noise had shape {shape_text(value.shape)}, expected that of z, {shape_text(shape)}"
        )


def n_samples(value: int | None) -> int:
    """The op's n_samples: 0 where there is no sample dimension."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"n_samples was {value!r}, expected an int or None")
    if value < 1:
        raise ValueError(f"n_samples was {value}, expected at least 1")
    return value


def word64(name: str, value: object) -> int:
    """A 64-bit key or stream number; the op takes it as a signed integer of the same bits."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} was {value!r}, expected an int")
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"{name} was {value}, expected a 64-bit integer")
    return value - 2**64 if value >= 2**63 else value


def seed_tensor(seed: Tensor, device: torch.device) -> None:
    if seed.dtype != torch.int64 or seed.ndim != 0:
        raise TypeError(
            f"seed was a tensor of dtype {seed.dtype} and shape {shape_text(seed.shape)}, expected "
            "an int or a 0-dimensional int64 tensor"
        )
    if seed.device != device:
        raise ValueError(f"seed was on {seed.device}, expected the device of mu, {device}")


def scalar(name: str, value: float | Tensor) -> None:
    """A Python number, or a tensor of one element."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(
                f"{name} was a tensor of shape {shape_text(value.shape)}, expected one element"
            )
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} was {value!r}, expected a float or a scalar tensor")
