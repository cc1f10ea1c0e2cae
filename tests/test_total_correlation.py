"""What the KL of a batch is made of, as β-TCVAE weights it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import vae_ext
from tests.test_mixtures import with_gradients
from vae_ext import objectives as o
from vae_ext._total_correlation import log_weights_of


def of_batch(batch: int, dims: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(batch)
    return [torch.randn(batch, dims, dtype=torch.float64).to(dtype) for _ in range(3)]


def parts_written_out(
    z: Tensor, mu: Tensor, logvar: Tensor, log_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As β-TCVAE's code has it, with the batch × batch × dimensions."""

    def density(x: Tensor, m: Tensor, v: Tensor) -> Tensor:
        return -0.5 * (math.log(2 * math.pi) + v + (x - m) ** 2 / v.exp())

    each = density(z[:, None], mu[None], logvar[None])
    log_q = torch.logsumexp(log_weights + each.sum(2), 1)
    log_q_of_each = torch.logsumexp(log_weights[..., None] + each, 1).sum(1)
    log_p = density(z, torch.zeros_like(z), torch.zeros_like(z)).sum(1)
    log_q_given_x = density(z, mu, logvar).sum(1)
    return log_q_given_x - log_q, log_q - log_q_of_each, log_q_of_each - log_p


@pytest.mark.parametrize("estimator", ["stratified", "weighted", "batch", "own"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_parts_written_out(estimator: str, dtype: torch.dtype) -> None:
    batch = 37
    inputs = [t.to(dtype) for t in of_batch(batch, 5)]
    own = torch.randn(batch, batch)
    if estimator == "own":
        given = {"log_weights": own.to(dtype)}
        weights = own.to(dtype).double()
    else:
        given = {"n_data": 1000, "estimator": estimator}
        weights = log_weights_of(estimator, 1000, inputs[1].double())

    def ours(*t: Tensor) -> Tensor:
        return torch.stack(list(o.kl_parts(*t, **given)))

    def theirs(*t: Tensor) -> Tensor:
        return torch.stack(list(parts_written_out(*t, weights)))

    by = torch.randn(3, batch)
    want = with_gradients(theirs, [t.double() for t in inputs], by)
    got = with_gradients(ours, inputs, by)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_the_stratified_weights() -> None:
    """They sum to 1, of which a sample's own posterior has its share of the data."""
    mu = torch.zeros(9, 2, dtype=torch.float64)
    weights = log_weights_of("stratified", 500, mu).exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(weights.diagonal(), torch.full((9,), 1 / 500, dtype=torch.float64))


def test_the_sum_of_the_parts() -> None:
    """log q(z|x) − log p(z), whatever estimates what is between them."""
    z, mu, logvar = of_batch(20, 4)
    total = o.beta_tcvae(z, mu, logvar, n_data=100)
    log_q = vae_ext.gaussian_log_likelihood(mu, z, logvar)
    log_p = vae_ext.gaussian_log_likelihood(z, torch.zeros_like(z), 0.0)
    torch.testing.assert_close(total, log_q - log_p, rtol=1e-12, atol=1e-12)
    parts = o.kl_parts(z, mu, logvar, n_data=100)
    weighted = o.beta_tcvae(z, mu, logvar, alpha=2, beta=3, gamma=5, n_data=100)
    by_hand = 2 * parts.mutual_information + 3 * parts.total_correlation
    torch.testing.assert_close(weighted, by_hand + 5 * parts.dimension_wise)


def test_independent_dimensions_have_no_total_correlation() -> None:
    """Of N(0, I) for every x: log q(z) = Σ log q(z_j), and no information."""
    z = of_batch(50, 3)[0]
    parts = o.kl_parts(z, torch.zeros_like(z), torch.zeros_like(z), estimator="batch")
    for part in parts:
        torch.testing.assert_close(part, torch.zeros(50, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, TypeError, "n_data was None"),
        ({"n_data": 3}, ValueError, "n_data was 3, expected at least the batch's 4"),
        ({"n_data": 9, "estimator": "mss"}, ValueError, "estimator was 'mss'"),
        ({"log_weights": torch.zeros(4)}, ValueError, r"log_weights had shape \[4\]"),
    ],
)
def test_arguments_of_the_parts(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    z = torch.zeros(4, 2)
    with pytest.raises(error, match=words):
        o.kl_parts(z, z, z, **options)
    with pytest.raises(ValueError, match="mu had one event"):
        o.kl_parts(z[:1], z[:1], z[:1], n_data=10)
