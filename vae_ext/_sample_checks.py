"""Argument checks of samples: their noise, seeds and number, and the events that they are of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _checks as checks


def noise(value: object, shape: Sequence[int]) -> None:
    """A tensor of the shape of z."""
    checks.tensor("noise", value)
    assert isinstance(value, Tensor)
    if tuple(value.shape) != tuple(shape):
        raise ValueError(
            f"noise had shape {checks.shape_text(value.shape)}, expected that of z, "
            f"{checks.shape_text(shape)}"
        )


def n_samples(value: int | None) -> int:
    """The op's n_samples: 0 where there is no sample dimension."""
    if value is None:
        return 0
    value = checks.integer("n_samples", value)
    if value < 1:
        raise ValueError(f"n_samples was {value}, expected at least 1")
    return value


def word64(name: str, value: object) -> int:
    """A 64-bit key or stream number; the op takes it as a signed integer of the same bits."""
    value = checks.integer(name, value)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"{name} was {value}, expected a 64-bit integer")
    return value - 2**64 if value >= 2**63 else value


def seed_tensor(seed: Tensor, device: torch.device) -> None:
    if seed.dtype != torch.int64 or seed.ndim != 0:
        raise TypeError(
            f"seed was a tensor of dtype {seed.dtype} and shape {checks.shape_text(seed.shape)}, "
            "expected an int or a 0-dimensional int64 tensor"
        )
    if seed.device != device:
        raise ValueError(f"seed was on {seed.device}, expected the device of mu, {device}")


def samples_of(name: str, value: Tensor) -> int:
    """Along the first dimension."""
    if value.shape[0] == 0:
        raise ValueError(f"{name} had no samples, expected at least one in its first dimension")
    return value.shape[0]


def same_events(events: Sequence[int], mu: Tensor, event_dims_: int | None) -> None:
    """The target's, and those of mu."""
    of_mu = mu.shape[: mu.ndim - checks.event_dims(event_dims_, mu.ndim)]
    if tuple(events) != tuple(of_mu):
        raise ValueError(
            f"target had events of shape {checks.shape_text(events)} and mu of shape "
            f"{checks.shape_text(of_mu)}, expected the same"
        )
