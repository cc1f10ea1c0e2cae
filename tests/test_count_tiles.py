"""The CPU's kernels look at what counts a tile has: at how many are 0, and whether the others are
whole (csrc/cpu/split_at_zero.inl)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import vae_ext
from tests import devices
from vae_ext._formulas import LIKELIHOODS


def tiles() -> dict[str, Tensor]:
    """Targets of 300 elements, a whole tile and a part of one."""
    generator = devices.generator().manual_seed(0)
    counts = torch.poisson(torch.full((300,), 5.0), generator) + 1
    keep = torch.rand(300, generator=generator)
    found = {f"{part} of them 0": counts * (keep >= part) for part in (0, 0.05, 0.4, 0.6, 0.95, 1)}
    found["one 0"] = counts * (torch.arange(300) != 299)
    found["one count"] = counts * (torch.arange(300) == 299)
    fractions = counts * torch.rand(300, generator=generator)
    return {
        **found,
        "fractions": fractions,
        "fractions and 0": fractions * (keep >= 0.3),
        "few fractions": fractions * (keep >= 0.9),
        "one fraction": torch.where(torch.arange(300) == 7, 0.25, counts),
        "small": torch.full((300,), 1e-30),
    }


def of_each(name: str, given: dict[str, Tensor], target: Tensor) -> list[Tensor]:
    """Of each element the value and the gradients, those of two passes and of one."""
    function = getattr(vae_ext, LIKELIHOODS[name].op)
    x = {n: v.clone().requires_grad_() for n, v in given.items()}
    each = function(**x, target=target, reduction="none")
    total = function(**x, target=target, reduction="sum")
    torch.testing.assert_close(total, each.sum(), rtol=2e-6, atol=1e-4)
    grads = [torch.autograd.grad(t, list(x.values()), torch.ones_like(t)) for t in (each, total)]
    return [each.detach(), *grads[0], *grads[1]]


@pytest.mark.parametrize("name", [n for n, f in LIKELIHOODS.items() if not f.target_gradient])
def test_in_any_company(name: str, simd: str) -> None:
    """No element may be moved, and none may have other bits for the others of its tile."""
    for form in LIKELIHOODS[name].forms:
        names = (form.prediction, *form.parameters)
        given = {n: torch.randn(300) if "log" in n else torch.randn(300).exp() for n in names}
        found = {kind: of_each(name, given, x) for kind, x in tiles().items()}
        exactly = {n: v.double() for n, v in given.items()}
        for kind, target in tiles().items():
            doubles = of_each(name, exactly, target.double())
            for a, b in zip(found[kind], doubles, strict=True):
                torch.testing.assert_close(a.double(), b, rtol=2e-4, atol=2e-5)
            for other, others in tiles().items():
                same = target == others
                for a, b in zip(found[kind], found[other], strict=True):
                    assert torch.equal(a[same], b[same]), (form, kind, other)
