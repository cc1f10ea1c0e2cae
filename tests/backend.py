"""A device in Python for test_other_devices.py: torch's own ops, run on the CPU, float64 refused.

    python backend.py      # every public function on it, against the CPU

A tensor of it is a wrapper around one of the CPU. It is a PrivateUse1 device as far as torch can
tell: no op of ours has a kernel for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pydevice")

DEVICE = torch.device("pydevice:0")


class PyTensor(Tensor):
    @staticmethod
    def __new__(cls, inner: Tensor) -> PyTensor:
        if inner.dtype == torch.float64:
            raise TypeError("this device has no float64")
        made: PyTensor = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    inner: Tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs and kwargs["device"] is not None:
            kwargs["device"] = torch.device("cpu")
        unwrapped = tree_map(lambda t: t.inner if isinstance(t, PyTensor) else t, (args, kwargs))
        out = func(*unwrapped[0], **unwrapped[1])
        wanted = kwargs.get("device")
        if func is torch.ops.aten._to_copy.default and wanted is not None:
            return out  # to the CPU
        if func._schema.is_mutable:
            return args[0]
        return tree_map(lambda t: PyTensor(t) if isinstance(t, Tensor) else t, out)


class Factories(torch.utils._python_dispatch.TorchDispatchMode):
    """New tensors on the device, by ops that take none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("device") == DEVICE:
            kwargs["device"] = torch.device("cpu")
            unwrapped = tree_map(lambda t: t.inner if isinstance(t, PyTensor) else t, args)
            return PyTensor(func(*unwrapped, **kwargs))
        return func(*args, **kwargs)


def main() -> None:
    from tests.rows import ROWS

    for row in ROWS:
        if row.module:
            continue
        leaves = row.leaves(4, torch.float32)
        want = row(*leaves)
        there = [PyTensor(t.detach()).requires_grad_(t.requires_grad) for t in leaves]
        with Factories():
            value = row(*there)
        assert value.device == DEVICE, value.device
        torch.testing.assert_close(value.inner, want.detach(), rtol=1e-4, atol=1e-5)
        wanted = [i for i, t in enumerate(leaves) if t.requires_grad]
        if wanted:
            with Factories():
                got = torch.autograd.grad(value.sum(), [there[i] for i in wanted])
            exact = torch.autograd.grad(want.sum(), [leaves[i] for i in wanted])
            for g, e in zip(got, exact, strict=True):
                torch.testing.assert_close(g.inner, e, rtol=1e-4, atol=1e-5)
        print(row.name)


if __name__ == "__main__":
    main()
