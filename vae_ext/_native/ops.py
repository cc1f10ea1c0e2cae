"""The native ops by their names, and calls of them past the dispatcher's autograd."""

from __future__ import annotations

from typing import Any

import torch

OPS = torch.ops.vae_ext


def op(name: str) -> Any:
    return getattr(OPS, name).default


def call(native_op: Any, *args: Any) -> Any:
    """An op from inside an autograd Function, or where no gradient is wanted: straight to its
    kernel. Compiled autograd, which looks into this, has no gradients to see to."""
    if torch.compiler.is_dynamo_compiling():
        return native_op(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return native_op(*args)
