"""The dispatcher's side of the native ops: their derivatives, and a guard where there is none.

A compiled, exported or traced program calls the ops themselves, so the derivative has to be theirs:
the autograd kernel of each is its Function. Imported only where the native library is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import _disable_dynamo as without_dynamo  # type: ignore[attr-defined]

from .._autograd import FUNCTIONS, ONE_PASS
from .._autograd.function import NativeFunction
from . import fakes
from .dispatch import differentiating_forward, transforming
from .ops import OPS, op

# What only a Function calls, and whose derivatives are the Function's affair.
INTERNAL = [f"{f.name}_backward" for f in FUNCTIONS]
INTERNAL += [f"{name}_with_gradients" for name in ONE_PASS]
INTERNAL += ["reparameterize_dnoise", "scale_gradient_"]


def needs_gradient(args: tuple[Any, ...]) -> bool:
    return torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)


def by_formula(function: type[NativeFunction]) -> Any:
    """The op in plain PyTorch, for a transform that has to see what it is made of."""
    n = function.n_tensors

    def kernel(*args: Any) -> Any:
        found = function.formula(args[:n], args[n:])
        if isinstance(found, Tensor):
            return found
        return tuple(args[0].new_empty([0]) if t is None else t for t in found)

    return without_dynamo(kernel)


def differentiated(function: type[NativeFunction]) -> Any:
    native_op, n, formula = function.op, function.n_tensors, by_formula(function)

    def kernel(keyset: torch._C.DispatchKeySet, *args: Any) -> Any:
        if transforming() or differentiating_forward():
            return formula(*args)
        if needs_gradient(args):
            return function.fast_apply(*args[:n], args[n:])
        return native_op.redispatch(keyset & torch._C._after_autograd_keyset, *args)

    return without_dynamo(kernel)


def refused(name: str) -> Any:
    """Without this a raw op called on tensors that require gradients would lose them."""
    native_op = op(name)

    def kernel(keyset: torch._C.DispatchKeySet, *args: Any) -> Any:
        if needs_gradient(args):
            raise RuntimeError(
                f"torch.ops.vae_ext.{name} has no derivative: it is part of one. Call the public "
                "function, or detach its inputs"
            )
        return native_op.redispatch(keyset & torch._C._after_autograd_keyset, *args)

    return without_dynamo(kernel)


def register() -> None:
    fakes.register_all()
    library = torch.library.Library("vae_ext", "IMPL")
    for function in FUNCTIONS:
        library.impl(function.name, differentiated(function), "Autograd", with_keyset=True)
        library.impl(function.name, by_formula(function), "FuncTorchBatched")
    for name in INTERNAL:
        library.impl(name, refused(name), "Autograd", with_keyset=True)
    # Alive as long as the ops are: an import after this module was dropped finds them registered.
    OPS._registered_by = library  # type: ignore[attr-defined]


if not hasattr(OPS, "_registered_by"):
    register()
