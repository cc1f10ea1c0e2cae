"""Which implementation serves a call: the native ops, or the reference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import native


def use_native(first: Tensor) -> bool:
    """True where a kernel exists for the device and no transform needs to see the formulas."""
    if first.device.type not in native.devices:
        return False
    if torch._C._are_functorch_transforms_active():  # torch.func.grad, vmap, jvp, …
        return False
    return torch.compiler.is_compiling() or forward_ad._current_level < 0


def gradient_needed(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
