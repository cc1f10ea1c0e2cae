"""Fixtures shared by all tests. GPU tests would parametrize `device`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import vae_ext


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads that a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=vae_ext.simd_levels())
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that was compiled in and that this processor runs."""
    before = vae_ext.simd_level()
    vae_ext.set_simd_level(request.param)
    yield request.param
    vae_ext.set_simd_level(before)
