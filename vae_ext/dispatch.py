"""Which implementation serves a call: the native ops, or the reference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import native


def use_native(first: Tensor) -> bool:
    """True where a kernel exists for the device and no transform needs to see the formulas."""
    if not native.available:
        return False
    if first.is_cuda:
        if not native.cuda_available:
            if not torch.compiler.is_compiling():
                native.warn_of_missing_cuda()
            return False
    elif not (first.is_cpu or first.is_meta):
        return False
    if torch._C._are_functorch_transforms_active():  # torch.func.grad, vmap, jvp, …
        return False
    return forward_ad._current_level < 0 or torch.compiler.is_compiling()
