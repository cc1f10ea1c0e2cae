"""torch's distributions of counts on the kernels, against torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, distributions
from torch.distributions import Independent

import vae_ext
from vae_ext.distributions import NegativeBinomial, Poisson

Make = Callable[..., Any]
PAIRS: dict[str, tuple[Make, Make]] = {
    "rate": (lambda m, _: Poisson(m), lambda m, _: distributions.Poisson(m)),
    "log_rate": (
        lambda m, _: Poisson(log_rate=m.log()),
        lambda m, _: distributions.Poisson(m),
    ),
    "mean": (
        lambda m, t: NegativeBinomial(t, mean=m),
        lambda m, t: distributions.NegativeBinomial(t, logits=m.log() - t.log()),
    ),
    "logits": (
        lambda m, t: NegativeBinomial(t, logits=m.log()),
        lambda m, t: distributions.NegativeBinomial(t, logits=m.log()),
    ),
    "probs": (
        lambda m, t: NegativeBinomial(t, m / (m + 1)),
        lambda m, t: distributions.NegativeBinomial(t, m / (m + 1)),
    ),
}
pairs = pytest.mark.parametrize(("ours", "theirs"), PAIRS.values(), ids=PAIRS)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    mean = torch.rand(4, 5, dtype=torch.float64).add_(0.1).mul_(4).requires_grad_()
    theta = torch.rand(5, dtype=torch.float64).add_(0.5).requires_grad_()
    return mean, theta, torch.poisson(mean.detach())


@pairs
def test_log_prob(ours: Make, theirs: Make) -> None:
    mean, theta, x = inputs()
    got, want = ours(mean, theta).log_prob(x), theirs(mean, theta).log_prob(x)
    torch.testing.assert_close(got, want)
    found = [
        torch.autograd.grad(y.sin().sum(), (mean, theta), materialize_grads=True)
        for y in (got, want)
    ]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(ours(mean, theta).log_prob(x.int()), want)
    events = Independent(ours(mean, theta), 1).log_prob(x)
    torch.testing.assert_close(events, want.sum(1))


@pairs
def test_moments_samples_and_expansion(ours: Make, theirs: Make) -> None:
    mean, theta, _ = inputs()
    p, q = ours(mean, theta), theirs(mean, theta)
    for name in ("mean", "variance", "mode", "batch_shape", "event_shape"):
        torch.testing.assert_close(getattr(p, name), getattr(q, name))
    torch.manual_seed(1)
    sample = p.sample((3,))
    torch.manual_seed(1)
    assert torch.equal(sample, q.sample((3,)))
    wide, other = p.expand((2, 4, 5)), q.expand((2, 4, 5))
    assert type(wide) is type(p)
    x = sample[:2]
    torch.testing.assert_close(wide.log_prob(x), other.log_prob(x))
    torch.testing.assert_close(wide.mean, other.mean)
    assert wide.sample().shape == (2, 4, 5)


def test_a_row_is_not_expanded() -> None:
    mean, theta, x = inputs()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape), lambda _: _):
        NegativeBinomial(theta, mean=mean).log_prob(x)
    assert (5,) in saved


def test_float32_keeps_its_digits() -> None:
    x, mean, theta = torch.tensor([95.0]), torch.tensor([105.52288818]), torch.tensor([1252766.0])
    value = NegativeBinomial(theta, mean=mean).log_prob(x)
    torch.testing.assert_close(value, torch.tensor([-3.7397921]), rtol=3e-7, atol=0)


def test_what_is_refused() -> None:
    x = torch.ones(3)
    for message, call in [
        ("neither rate nor log_rate was given", lambda: Poisson()),
        ("rate and log_rate were given", lambda: Poisson(x, log_rate=x)),
        ("none was given, expected one of probs", lambda: NegativeBinomial(x)),
        ("logits and mean was given", lambda: NegativeBinomial(x, logits=x, mean=x)),
        ("mean had a minimum of -1", lambda: NegativeBinomial(x, mean=-x, validate_args=True)),
        ("within the support", lambda: Poisson(x, validate_args=True).log_prob(x / 2)),
        (
            "within the support",
            lambda: NegativeBinomial(x, mean=x, validate_args=True).log_prob(-x),
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="mean was a float, expected a"):
        NegativeBinomial(x, mean=0.5)  # type: ignore[arg-type]
    assert vae_ext.distributions.Poisson is Poisson
