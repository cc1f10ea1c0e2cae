"""python -m vae_ext: what is installed, whether it is right, and how to fix what is not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import vae_ext
from vae_ext import __main__ as self_check


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )


def test_all_of_it_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vae_ext"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all of it holds" in done.stdout
    assert f"vae_ext {vae_ext.__version__}, torch {torch.__version__}" in done.stdout
    assert done.stdout.count(" ok ") == len(self_check.CHECKS) * (1 + torch.cuda.device_count())
    for level in vae_ext.simd_levels():
        assert level in done.stdout


def test_without_the_native_library() -> None:
    done = run(
        "import sys, runpy; sys.modules['vae_ext._C'] = None; sys.argv = ['vae_ext']; "
        "runpy.run_module('vae_ext', run_name='__main__')"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "missing: the native library" in done.stdout
    assert "how to fix it: install a C++ compiler" in done.stdout
    assert "WRONG" not in done.stdout  # the reference serves


@pytest.mark.parametrize("spoil", ["value", "gradient", "nan", "raises"])
def test_a_wrong_result_is_seen(
    spoil: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = vae_ext.gaussian_kl

    def wrong(mu: Tensor, logvar: Tensor) -> Tensor:
        if spoil == "raises":
            raise RuntimeError("no kernel")
        kl = real(mu, logvar)
        if spoil == "gradient":
            return kl + 1e-3 * (mu - mu.detach()).sum(1)
        return kl * (1.0001 if spoil == "value" else float("nan"))

    checks = [replace(c, ours=wrong) if c.name == "gaussian_kl" else c for c in self_check.CHECKS]
    monkeypatch.setattr(self_check, "CHECKS", checks)
    monkeypatch.setattr(sys, "argv", ["vae_ext"])
    assert self_check.main() == 1
    out = capsys.readouterr().out
    assert ("RuntimeError: no kernel" if spoil == "raises" else "WRONG") in out
    assert "not all of it holds" in out
