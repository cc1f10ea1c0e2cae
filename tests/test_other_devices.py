"""Devices that no kernel of ours knows: the formulas in plain PyTorch, forward and backward, with
nothing that such a device may lack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.rows import ROWS, Row
from tests.test_modes import eager, gradients
from vae_ext._native import dispatch
from vae_ext._native import library as native

all_rows = pytest.mark.parametrize("row", ROWS, ids=repr)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", False)
    assert dispatch.route(torch.zeros(1)) == dispatch.REFERENCE


class WithoutDoubles(TorchDispatchMode):
    """What Apple's GPUs refuse: float64, and with it products of int64, which stand for 64-bit
    multipliers that devices emulate or lack."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves((args, kwargs, out)):
            if isinstance(t, Tensor):
                assert t.dtype not in (torch.float64, torch.complex128), func
                assert t.dtype != torch.int64 or "mul" not in str(func), func
        return out


@all_rows
def test_no_float64_unless_an_input_is(row: Row, no_kernels: None) -> None:
    if row.module:
        row.module.float()
    leaves = row.leaves(4, torch.float32)
    with WithoutDoubles():
        value = row(*leaves)
        assert value.dtype == torch.float32
        grads = gradients(row, value, leaves)
    if row.module:
        row.module.double()
    exact = row.leaves(4, torch.float64)
    want = eager(row, exact)
    torch.testing.assert_close(value.double(), want[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close([g.double() for g in grads], want[1], rtol=1e-4, atol=1e-5)


def test_the_mode_sees_float64(no_kernels: None) -> None:
    with pytest.raises(AssertionError, match="aten"), WithoutDoubles():
        torch.zeros(2, dtype=torch.float64)
    with pytest.raises(AssertionError, match="mul"), WithoutDoubles():
        torch.arange(3) * 2


def test_on_a_backend_of_its_own() -> None:
    """A PrivateUse1 device that runs torch's ops on the CPU, and has no float64."""
    pytest.importorskip("torch._C._acc")
    command = [sys.executable, "-u", "-m", "tests.backend"]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == len([r for r in ROWS if not r.module])
