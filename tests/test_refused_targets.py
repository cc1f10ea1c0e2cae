"""Targets that a likelihood does not take: an error on the CPU, NaN elsewhere."""

from __future__ import annotations

import math

import pytest
import torch

import vae_ext
from tests.devices import device
from vae_ext._native import library as native

IMAGE = torch.randint(2, 256, (3, 700), dtype=torch.uint8)


@pytest.mark.parametrize("reduction", ["none", "event", "sum", "mean"])
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kernels", [False, True])
def test_targets_that_are_no_probabilities(
    reduction: str, wanted: bool, dtype: torch.dtype, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of an image that nobody has divided by 255: refused on the CPU, NaN elsewhere."""
    if not kernels:
        monkeypatch.setattr(native, "available", False)
    logits = torch.randn(3, 700, dtype=torch.float64, requires_grad=wanted)

    def call(target: torch.Tensor) -> torch.Tensor:
        return vae_ext.bernoulli_log_likelihood(logits, target, reduction=reduction)

    for target in (IMAGE, -1.0 * IMAGE):
        if dtype is torch.uint8 and bool((target < 0).any()):
            continue
        one = torch.zeros(3, 700).to(dtype)
        one[2, 650] = target[2, 650]  # alone among good ones, in a tile's tail
        for bad in (target.to(dtype), one):
            if device().type == "cpu":
                with pytest.raises(ValueError, match=r"^target had the value -?\d+.*in \[0, 1\]"):
                    call(bad)
            else:
                assert bool(call(bad).isnan().any())
    good = torch.tensor([0.0, -0.0, 1.0]).to(dtype).repeat(3, 240)[:, :700]
    assert bool(call(good).isfinite().all())
    if dtype.is_floating_point:
        good[1, 1] = math.nan  # shows by itself
        assert bool(call(good).isnan().any())


def test_a_target_is_refused_where_it_counts() -> None:
    target = torch.tensor([[0.0, -7.0], [1.0, 0.5]])
    mask = target != -7.0
    logits = torch.randn(2, 2)
    assert vae_ext.bernoulli_log_likelihood(logits, target, weights=mask).isfinite().all()
    if device().type == "cpu":
        with pytest.raises(ValueError, match=r"target had the value -7"):
            vae_ext.bernoulli_log_likelihood(logits, target, weights=mask.logical_not())
    else:
        wrong = vae_ext.bernoulli_log_likelihood(logits, target, weights=mask.logical_not())
        assert torch.equal(wrong.isnan(), torch.tensor([True, False]))


def test_compiled_programs_refuse_targets_too() -> None:
    compiled = torch.compile(vae_ext.bernoulli_log_likelihood, fullgraph=True, backend="aot_eager")
    logits = torch.randn(3, 700)
    if device().type == "cpu":
        with pytest.raises(RuntimeError, match="target had the value"):
            compiled(logits, IMAGE)
    assert bool(compiled(logits, IMAGE % 2).isfinite().all())
