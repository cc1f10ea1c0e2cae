"""Which implementation serves a call: the native ops, or the reference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import native


def tracing() -> bool:
    """True where somebody records the ops of a call, to run them again with other numbers.

    Then a call must be one op of the dispatcher, which holds its derivative, and draw its seed by
    an op too.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
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
    return bool(torch._C._are_functorch_transforms_active())


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


def use_native(first: Tensor) -> bool:
    """True where a kernel exists for the device and nothing needs to see the formulas."""
    if not native.available:
        return False
    if first.is_cuda:
        if not native.cuda_available:
            if not tracing():
                if type(first).__name__ == "FakeTensor":
                    raise TypeError(
                        "the tensors were FakeTensors outside of their FakeTensorMode, expected a "
                        "call within it: plain PyTorch makes new tensors for CUDA here"
                    )
                native.warn_of_missing_cuda()
            return False
    elif not (first.is_cpu or first.is_meta):
        return False
    return not (transforming() or differentiating_forward() or for_other_runtimes())
