"""The noise of a region: a box of a larger latent draws what it has in the whole, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import vae_ext
from tests.devices import assert_same_sum
from vae_ext import Region, _draw, _latent, estimators
from vae_ext._native import dispatch
from vae_ext.distributions import DiagonalGaussian
from vae_ext.functional import _sampling
from vae_ext.nn import GaussianLatent

WHOLE = (4, 6, 10, 12)
# Where a box starts, and its shape.
BOXES = {
    "all": ((0, 0, 0, 0), WHOLE),
    "half of the batch": ((2, 0, 0, 0), (2, 6, 10, 12)),
    "channels": ((0, 4, 0, 0), (4, 2, 10, 12)),
    "rows": ((0, 0, 5, 0), (4, 6, 5, 12)),
    "columns": ((0, 0, 0, 4), (4, 6, 10, 4)),
    "odd columns": ((0, 0, 0, 5), (4, 6, 10, 7)),
    "one column": ((0, 0, 0, 11), (4, 6, 10, 1)),
    "batch and rows": ((1, 0, 3, 0), (3, 6, 7, 12)),
    "three dimensions": ((0, 1, 2, 3), (4, 3, 5, 9)),
    "one element": ((3, 5, 9, 11), (1, 1, 1, 1)),
    "none": ((4, 0, 0, 0), (0, 6, 10, 12)),
}

Sampler = Callable[..., Tensor]


def latent(mu: Tensor, logvar: Tensor, **drawing: Any) -> Tensor:
    return GaussianLatent()(mu, logvar, **drawing)[0]


def latent_with_prior(mu: Tensor, logvar: Tensor, **drawing: Any) -> Tensor:
    return GaussianLatent(1)(mu, logvar, **drawing)[0]


SAMPLERS: dict[str, Sampler] = {
    "reparameterize": vae_ext.reparameterize,
    "log_std": lambda mu, s, **drawing: vae_ext.reparameterize(mu, log_std=s, **drawing),
    "with_kl": lambda *q, **drawing: vae_ext.reparameterize_with_kl(*q, **drawing)[0],
    "weighted": lambda *q, **drawing: vae_ext.reparameterize_with_kl(
        *q, weights=torch.ones(()), **drawing
    )[0],
    "draw": lambda *q, n_samples, **drawing: estimators.draw(*q, n_samples or 1, **drawing).z,
    "rsample": lambda *q, n_samples, **drawing: DiagonalGaussian(*q).rsample(
        (n_samples,) if n_samples else (), **drawing
    ),
    "rsample_with_kl": lambda *q, **drawing: DiagonalGaussian(*q).rsample_with_kl(**drawing)[0],
    "GaussianLatent": latent,
    "GaussianLatent with a prior": latent_with_prior,
}


def box_of(t: Tensor, start: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    lead = t.ndim - len(shape)
    for d, (first, size) in enumerate(zip(start, shape, strict=True)):
        t = t.narrow(lead + d, first, size)
    return t


def with_gradients(
    sampler: Sampler, mu: Tensor, logvar: Tensor, grad: Tensor | None, **drawing: Any
) -> tuple[Tensor, ...]:
    leaves = [t.detach().contiguous().requires_grad_() for t in (mu, logvar)]
    z = sampler(*leaves, **drawing)
    grad = torch.ones_like(z) if grad is None else grad
    return (z.detach(), *torch.autograd.grad(z, leaves, grad))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("n_samples", [None, 3])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_box_draws_what_it_has_in_the_whole(
    sampler: Sampler,
    box: tuple[tuple[int, ...], tuple[int, ...]],
    n_samples: int | None,
    dtype: torch.dtype,
) -> None:
    mu, logvar = torch.randn(WHOLE, dtype=dtype), torch.randn(WHOLE, dtype=dtype)
    options: dict[str, Any] = {"n_samples": n_samples, "seed": 7, "stream": 2}
    lead = sampler(mu, logvar, **options).ndim - len(WHOLE)
    grad = torch.randn((n_samples or 1,) * lead + WHOLE, dtype=dtype)
    whole = with_gradients(sampler, mu, logvar, grad, **options)
    part = [box_of(t, *box) for t in (mu, logvar, grad)]
    got = with_gradients(sampler, *part, region=Region(WHOLE, box[0]), **options)
    for want, found in zip(whole, got, strict=True):
        assert torch.equal(box_of(want, *box), found)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_the_reference_draws_the_same(
    box: tuple[tuple[int, ...], tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mu, logvar = torch.randn(box[1]).double(), torch.randn(box[1]).double()
    options: dict[str, Any] = {"n_samples": 2, "seed": 7, "region": Region(WHOLE, box[0])}
    native = [with_gradients(s, mu, logvar, None, **options) for s in SAMPLERS.values()]
    for module in (_sampling, _draw, _latent):
        monkeypatch.setattr(module, "route", lambda _: dispatch.REFERENCE)
    plain = [with_gradients(s, mu, logvar, None, **options) for s in SAMPLERS.values()]
    for got, want in zip(native, plain, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_noise_itself(box: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    whole = vae_ext.standard_normal(WHOLE, seed=3, stream=1)
    part = vae_ext.standard_normal(box[1], seed=3, stream=1, region=Region(WHOLE, box[0]))
    assert torch.equal(box_of(whole, *box), part)


def test_densities_and_divergences_of_parts_add_up() -> None:
    mu, logvar = torch.randn(WHOLE), torch.randn(WHOLE)
    whole = estimators.draw(mu, logvar, 3, seed=1)
    parts = [
        estimators.draw(m, lv, 3, seed=1, region=Region(WHOLE, (0, 0, 5 * i, 0)))
        for i, (m, lv) in enumerate(zip(mu.chunk(2, 2), logvar.chunk(2, 2), strict=True))
    ]
    for name in ("log_q", "log_p"):
        torch.testing.assert_close(sum(getattr(p, name) for p in parts), getattr(whole, name))
    events = [
        estimators.draw(m, lv, 3, seed=1, region=Region(WHOLE, (2 * i, 0, 0, 0)))
        for i, (m, lv) in enumerate(zip(mu.chunk(2), logvar.chunk(2), strict=True))
    ]
    for name in ("log_q", "log_p"):
        assert_same_sum(torch.cat([getattr(e, name) for e in events], 1), getattr(whole, name))


def test_tiles_with_halos_agree_where_they_overlap() -> None:
    tiles = [
        vae_ext.standard_normal((4, 6, 7, 12), seed=9, region=Region(WHOLE, (0, 0, start, 0)))
        for start in (0, 3)
    ]
    assert torch.equal(tiles[0][:, :, 3:], tiles[1][:, :, :4])


def test_far_into_a_large_latent() -> None:
    """Blocks past 2^32, which no tensor here could hold."""
    shape = (1 << 20, 1 << 17)
    start = ((1 << 20) - 3, (1 << 17) - 5)
    part = vae_ext.standard_normal((3, 5), seed=1, region=Region(shape, start))
    row = vae_ext.standard_normal((1, 5), seed=1, region=Region(shape, (start[0] + 1, start[1])))
    assert torch.equal(part[1:2], row)
    assert part.unique().numel() == 15


def test_a_compiled_program_takes_any_place() -> None:
    def sample(mu: Tensor, logvar: Tensor, row: int) -> Tensor:
        return vae_ext.reparameterize(mu, logvar, seed=1, region=Region((64, 5), (row, 0)))

    compiled = torch.compile(sample, fullgraph=True, dynamic=True, backend="aot_eager")
    whole = vae_ext.standard_normal((64, 5), seed=1)
    zero = torch.zeros(8, 5)
    for row in (3, 8, 17):
        assert torch.equal(compiled(zero, zero, row), whole[row : row + 8])


SAYS: list[tuple[Any, type[Exception], str]] = [
    (Region((4, 6), (0,)), ValueError, "region was the box at .0,. of .4, 6., which does not hold"),
    (Region((4, 6), (1, 0)), ValueError, "which does not hold a tensor of shape .4, 6."),
    (Region((4, 6), (-1, 0)), ValueError, "which does not hold"),
    ("all of it", TypeError, "region was 'all of it', expected a Region or None"),
    ((4, 6, 1), TypeError, "expected a Region or None"),
]


@pytest.mark.parametrize(("region", "kind", "says"), SAYS, ids=[s for _, _, s in SAYS])
def test_errors(region: Any, kind: type[Exception], says: str) -> None:
    mu = torch.zeros(4, 6)
    for sampler in SAMPLERS.values():
        with pytest.raises(kind, match=says):
            sampler(mu, mu, seed=0, n_samples=None, region=region)


def test_noise_needs_no_region() -> None:
    mu = torch.zeros(4, 6)
    with pytest.raises(ValueError, match="noise and region were given, expected at most one"):
        vae_ext.reparameterize(mu, mu, noise=mu, region=Region((4, 6), (0, 0)))
