"""What only the emulated machine code shows: `pytest --cuda-emulated FOLDER`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import vae_ext
from tests.conftest import EMULATOR
from tools.emulator.build import Emulator
from vae_ext._reference import philox


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Emulator:
    found = request.config.stash.get(EMULATOR, None)
    if found is None:
        pytest.skip("the kernels are not emulated")
    return found


def rows_past_two_to_the_31() -> Tensor:
    columns = (1 << 29) + 64
    mu = torch.zeros(columns, dtype=torch.bfloat16)
    mu[-64:] = torch.arange(64).bfloat16() / 8
    return mu.expand(4, columns)


@pytest.mark.big
def test_more_than_two_to_the_31_elements(emulator: Emulator) -> None:
    """The last of them are where they belong, and have the noise of their own index."""
    mu = rows_past_two_to_the_31()
    numel = mu.numel()
    logvar = torch.zeros((), dtype=torch.bfloat16)
    emulator.run_blocks(2, last=True)
    try:
        z = vae_ext.reparameterize(mu, logvar, seed=11)
    finally:
        emulator.run_blocks()
    block = torch.arange((numel - 64) // 4, numel // 4, dtype=torch.int64)
    zero = torch.zeros_like(block, dtype=torch.int32)
    counter = (*philox.halves(block, block.device), zero, zero)
    words = torch.stack(philox.philox4x32_10(counter, philox.halves(11, block.device)), dim=-1)
    want = philox.box_muller(words, torch.float64) + torch.arange(64, dtype=torch.float64) / 8
    assert float((z[-1, -64:].double() - want).abs().max()) <= 2.0**-4


@pytest.mark.big
def test_a_divergence_of_more_than_two_to_the_31_elements(emulator: Emulator) -> None:
    mu = rows_past_two_to_the_31()
    emulator.run_blocks(2, last=True)
    d = vae_ext.distributions.DiagonalGaussian(
        mu, torch.zeros((), dtype=torch.bfloat16), event_dims=0, bounds=(-1, 1), validate_args=False
    )
    try:
        kl = d.kl(reduction="none")
    finally:
        emulator.run_blocks()
    assert torch.equal(kl[-1, -64:], (0.5 * mu[-1, -64:].float().square()).to(kl.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_special_functions_that_are_one_unit_off(emulator: Emulator, dtype: torch.dtype) -> None:
    """As a card's may be: noise and likelihoods stay within the contract."""
    mu, logvar = torch.randn(2, 64, 1024).to(dtype).unbind()
    target = torch.rand(64, 1024).to(dtype)

    def everything() -> list[Tensor]:
        return [
            vae_ext.standard_normal(64, 1024, seed=3).double(),
            vae_ext.gaussian_kl(mu, logvar).double(),
            vae_ext.bernoulli_log_likelihood(mu, target).double(),
            vae_ext.gaussian_log_likelihood(mu, target, logvar).double(),
        ]

    plain = everything()
    emulator.disturb(True)
    try:
        moved = everything()
    finally:
        emulator.disturb(False)
    assert not torch.equal(plain[0], moved[0])
    assert float((plain[0] - moved[0]).abs().max()) <= 2e-6
    for a, b in zip(plain[1:], moved[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)


def test_noise_words_are_identical(emulator: Emulator) -> None:
    for seed, stream in ((0, 0), (-1, 3), (2**63 - 1, 2**40)):
        words = torch.empty(4099, dtype=torch.int64)
        torch.ops.vae_ext.philox_words(words, seed, stream)
        block = torch.arange(1025, dtype=torch.int64)
        counter = (
            *philox.halves(block, block.device),
            *(half.expand(1025) for half in philox.halves(stream, block.device)),
        )
        want = philox.philox4x32_10(counter, philox.halves(seed, block.device))
        drawn = torch.stack(want, -1).flatten()[:4099].long()
        assert torch.equal(words & 0xFFFFFFFF, drawn & 0xFFFFFFFF)
