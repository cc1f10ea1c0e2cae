"""What a mean is over: shards and micro-batches of any sizes add up to the whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import vae_ext
from tests.cases import REDUCING, Case, wanted
from vae_ext.distributions import DiagonalGaussian

SHAPE = (11, 5, 13)
SHARDS = (4, 1, 0, 6)  # of the first dimension
MEANS = {"mean": 11 * 5 * 13, "batchmean": 11}
cases = pytest.mark.parametrize("case", REDUCING, ids=repr)
means = pytest.mark.parametrize("reduction", MEANS)


def part(t: Tensor, start: int, size: int) -> Tensor:
    return t[start : start + size].detach().requires_grad_(t.requires_grad)


def shards(tensors: Sequence[Tensor], whole: Sequence[int] = SHAPE) -> list[list[Tensor]]:
    """Tensors of the whole shape, cut along its first dimension."""
    assert all(t.shape[0] == whole[0] for t in tensors)
    starts = [sum(SHARDS[:i]) for i in range(len(SHARDS))]
    return [
        [part(t, start, size) for t in tensors] for start, size in zip(starts, SHARDS, strict=True)
    ]


@cases
@means
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shards_add_up(case: Case, reduction: str, dtype: torch.dtype) -> None:
    whole = case.leaves([t.to(dtype).expand(SHAPE).contiguous() for t in case.inputs(SHAPE)])
    value = case.function(*whole, reduction=reduction)
    gradients = torch.autograd.grad(-value, wanted(whole))
    values, found = [], []
    for tensors in shards(whole):
        of_shard = case.function(*tensors, reduction=reduction, count=MEANS[reduction])
        values.append(of_shard.detach())
        found.append(torch.autograd.grad(-of_shard, wanted(tensors)))
    exact = 1e-13 if dtype == torch.float64 else 3e-7
    torch.testing.assert_close(sum(values), value.detach(), rtol=exact, atol=0.0)
    for pieces, want in zip(zip(*found, strict=True), gradients, strict=True):
        assert torch.equal(torch.cat(pieces), want)


@cases
@means
def test_the_same_as_without(case: Case, reduction: str) -> None:
    """The number that there is changes no bit."""
    leaves = case.leaves(case.inputs(SHAPE))
    a = case.function(*leaves, reduction=reduction)
    b = case.function(*leaves, reduction=reduction, count=MEANS[reduction])
    assert torch.equal(a, b)
    pairs = zip(*(torch.autograd.grad(v, wanted(leaves)) for v in (a, b)), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("case", [c for c in REDUCING if c.measured], ids=repr)
@means
def test_with_weights(case: Case, reduction: str) -> None:
    """ "mean" is over the count, whatever the weights are; and the weights' own gradient."""
    leaves = case.leaves(case.inputs(SHAPE))
    weights = torch.rand(SHAPE[0], 1, SHAPE[2], dtype=torch.float64, requires_grad=True)
    got = case.function(*leaves, weights=weights, reduction=reduction, count=77)
    want = case.function(*leaves, weights=weights, reduction="sum") / 77
    torch.testing.assert_close(got, want)
    inputs = [*wanted(leaves), weights]
    found, expected = (torch.autograd.grad(v, inputs) for v in (got, want))
    torch.testing.assert_close(found, expected)


@means
def test_of_samples(reduction: str) -> None:
    mu, logvar = torch.randn(2, *SHAPE, dtype=torch.float64).unbind()
    q = DiagonalGaussian(mu, logvar)
    latent = vae_ext.nn.GaussianLatent((SHAPE[1], 1), reduction=reduction).double()
    want = vae_ext.gaussian_kl(mu, logvar, reduction="sum") / 30
    ones = torch.ones(SHAPE[0], 1, 1)
    for weights in (None, ones):
        over = {"reduction": reduction, "count": 30, "weights": weights}
        found = [
            vae_ext.reparameterize_with_kl(mu, logvar, seed=1, **over)[1],
            vae_ext.reparameterize_with_kl(mu, std=(0.5 * logvar).exp(), seed=1, **over)[1],
            q.kl(**over),
            q.rsample_with_kl(seed=1, **over)[1],
            latent(mu, logvar, seed=1, weights=weights, count=30)[1],
        ]
        for kl in found:
            torch.testing.assert_close(kl, want)


@pytest.mark.parametrize("samples", [(), (3,)])
@pytest.mark.parametrize("weights", [None, torch.rand(SHAPE[0], 1, 1, dtype=torch.float64)])
def test_losses_add_up(samples: tuple[int, ...], weights: Tensor | None) -> None:
    """Of the loss and its module, with several samples of each event, too."""
    recon = torch.randn(*samples, *SHAPE, dtype=torch.float64).transpose(0, -3)
    target, mu, logvar = torch.rand(3, *SHAPE, dtype=torch.float64).unbind()
    module = vae_ext.nn.ELBOLoss("bernoulli", beta=0.7)
    parts = shards([recon, target, mu, logvar, *([] if weights is None else [weights])])

    def loss(x: Tensor, t: Tensor, m: Tensor, v: Tensor, *w: Tensor, count: int | None) -> Tensor:
        found: Tensor = module(
            x.transpose(0, -3), t, m, v, weights=w[0] if w else None, count=count
        )
        return found

    given = (recon, target, mu, logvar, *([] if weights is None else [weights]))
    whole = loss(*given, count=None)
    total = sum(loss(*tensors, count=SHAPE[0]) for tensors in parts)
    torch.testing.assert_close(total, whole)


def test_of_modules() -> None:
    x, target = torch.randn(2, *SHAPE, dtype=torch.float64).unbind()
    counts = target.exp().floor()
    for module, t in (
        (vae_ext.nn.BernoulliNLL(), target.sigmoid()),
        (vae_ext.nn.GaussianNLL(learned_variance=True).double(), target),
        (vae_ext.nn.LaplaceNLL(), target),
        (vae_ext.nn.PoissonNLL(log_input=True), counts),
        (vae_ext.nn.NegativeBinomialNLL(total_count=2.0), counts),
        (vae_ext.nn.ZeroInflatedNegativeBinomialNLL(total_count=2.0, zero_logits=0.3), counts),
    ):
        torch.testing.assert_close(module(x, t, count=100), module(x, t) * (x.numel() / 100))
    mixture = vae_ext.nn.NegativeBinomialMixtureNLL(1.5, 2.0, 0.1)
    torch.testing.assert_close(mixture(x.exp(), counts, count=5), 143 * mixture(x.exp(), counts))


def test_one_graph_for_any_count() -> None:
    torch._dynamo.reset()
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(1)
        return graph

    @torch.compile(backend=backend, fullgraph=True, dynamic=True)
    def loss(mu: Tensor, logvar: Tensor, count: int) -> Tensor:
        return vae_ext.gaussian_kl(mu, logvar, reduction="batchmean", count=count)

    for batch in (4, 5, 9, 17):
        mu, logvar = torch.randn(2, batch, 6).unbind()
        want = vae_ext.gaussian_kl(mu, logvar, reduction="batchmean", count=7 * batch)
        assert torch.equal(loss(mu, logvar, 7 * batch), want)
    assert len(graphs) == 1


@pytest.mark.parametrize("case", [c for c in REDUCING if c.measured], ids=repr)
def test_refused(case: Case) -> None:
    leaves = case.leaves(case.inputs((3, 4)))
    for reduction in ("none", "event", "sum"):
        with pytest.raises(ValueError, match=f"count was 4 with reduction='{reduction}'"):
            case.function(*leaves, reduction=reduction, count=4)
    with pytest.raises(ValueError, match="count was 0, expected at least 1"):
        case.function(*leaves, reduction="mean", count=0)
    with pytest.raises(TypeError, match=r"count was 2\.5, expected an int"):
        case.function(*leaves, reduction="mean", count=2.5)


def test_balanced() -> None:
    tensors = torch.randn(4, 6, 3, dtype=torch.float64).unbind()
    whole = vae_ext.objectives.balanced_kl(*tensors, reduction="batchmean", event_dims=1)
    part = vae_ext.objectives.balanced_kl(*tensors, reduction="batchmean", event_dims=1, count=60)
    torch.testing.assert_close(whole, 10 * part)
