"""Which implementation serves a call: the native ops, or the reference. And who is tracing."""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import library

# Looked up once: each call asks all of it.
is_dynamo_compiling = torch.compiler.is_dynamo_compiling
len_dispatch_stack = torch._C._len_torch_dispatch_stack
jit_tracing_state = torch._C._get_tracing_state
key_included = torch._C._dispatch_tls_is_dispatch_key_included
transforms_active = torch._C._are_functorch_transforms_active
PRE_DISPATCH = torch._C.DispatchKey.PreDispatch


def tracing() -> bool:
    """True where somebody records the ops of a call, to run them again with other numbers."""
    return (
        is_dynamo_compiling()
        or len_dispatch_stack() > 0
        or jit_tracing_state() is not None
        or key_included(PRE_DISPATCH)  # make_fx above autograd
    )


def changes(number: float) -> bool:
    """True for a number that is an argument of the program being compiled, and no constant in it.

    An op with such a number among its options would be compiled anew for each value.
    """
    if not torch.compiler.is_compiling():
        return False
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return not has_static_value(number)


def transforming() -> bool:
    """Within torch.func.grad, vmap, jvp, … or a batched backward pass."""
    return bool(transforms_active())


def within(*transforms: str) -> bool:
    """Whether one of these transforms of torch.func is active: "Vmap", "Functionalize"."""
    if torch.compiler.is_compiling():  # which sees the innermost alone
        return torch._C._functorch.peek_interpreter_stack() is not None and "Vmap" in transforms
    kinds = torch._C._functorch.TransformType
    wanted = [getattr(kinds, name) for name in transforms]
    stack = torch._C._functorch.get_interpreter_stack() or []
    return any(interpreter.key() in wanted for interpreter in stack)


def differentiating_forward() -> bool:
    return forward_ad._current_level >= 0


def for_other_runtimes() -> bool:
    """True while torch.onnx.export looks: a program for a runtime that has none of our ops."""
    return tracing() and torch.onnx.is_in_onnx_export()


# How a call is served. Who records it must see one op of the dispatcher, which has its derivative,
# and a seed that is drawn by an op too. For all others the op's Function and kernel are called
# directly, which takes less time.
# A DTensor's parts are served one by one.
REFERENCE, BY_OP, DIRECT, SHARDED = range(4)


def is_dtensor(t: object) -> bool:
    """Asked in vain wherever nobody has loaded what DTensors need, which takes seconds."""
    if type(t) is Tensor:
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(t, module.DTensor)


def route(first: Tensor) -> int:
    """By a kernel, if one exists for the device and nothing needs to see the formulas."""
    if is_dtensor(first):
        return SHARDED
    if not library.available or not (first.is_cpu or other_kernels(first)):
        return REFERENCE
    if transforms_active() or forward_ad._current_level >= 0:
        return REFERENCE
    if not tracing():
        return DIRECT
    return REFERENCE if torch.onnx.is_in_onnx_export() else BY_OP


def route_by_noise(way: int, noise: Tensor | None) -> int:
    """Of an op that has no gradient by the noise it is given."""
    if noise is not None and noise.requires_grad and way != SHARDED:
        return REFERENCE
    return way


def other_kernels(first: Tensor) -> bool:
    """Whether a device other than the CPU has kernels."""
    if not first.is_cuda or library.cuda_available:
        return bool(first.is_cuda or first.is_meta)
    if not tracing():
        if type(first).__name__ == "FakeTensor":
            raise TypeError(
                "the tensors were FakeTensors outside of their FakeTensorMode, expected a call "
                "within it: plain PyTorch makes new tensors for CUDA here"
            )
        library.warn_of_missing_cuda()
    return False
