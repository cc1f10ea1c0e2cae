"""Calls of the native ops, past the dispatcher's autograd where a Function stands for it."""

from __future__ import annotations

from typing import Any

import torch

OPS = torch.ops.vae_ext


def call(op: Any, *args: Any) -> Any:
    """An op from inside an autograd Function, or where no gradient is wanted: straight to its
    kernel."""
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)
