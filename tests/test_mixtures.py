"""The log-density of a mixture of diagonal Gaussians, and priors that are one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import grad

import vae_ext

mpmath = pytest.importorskip("mpmath")
U = 2.0**-24
SHAPES = [
    # rows, components, dims
    (1, 1, 1),
    (7, 5, 3),
    (33, 17, 2),
    (5, 300, 33),
    (70, 3, 40),
    (300, 20, 0),
    (0, 4, 3),
    (3, 1100, 2),
    (1100, 2, 3),
]


def made(
    rows: int, components: int, dims: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, ...]:
    torch.manual_seed(rows + components + dims)
    shapes = ((rows, dims), (components, dims), (components, dims), (components,))
    return tuple(torch.randn(s, dtype=torch.float64).to(dtype) for s in shapes)


def written_out(z: Tensor, means: Tensor, logvars: Tensor, logits: Tensor) -> Tensor:
    """As people write it, in float64."""
    z, means, logvars, logits = (t.double() for t in (z, means, logvars, logits))
    square = (z[:, None] - means) ** 2 / logvars.exp()
    each = -0.5 * (square + logvars + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(each + logits.log_softmax(0), 1)


def with_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], weights: Tensor
) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    value = function(*leaves)
    return [t.double() for t in (value.detach(), *grad(value, leaves, weights.to(value.dtype)))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_written_out(simd: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    inputs = made(*shape, dtype=dtype)
    weights = torch.randn(shape[0])
    exact = [t.double() for t in inputs]
    want = with_gradients(written_out, exact, weights)
    got = with_gradients(vae_ext.mixture_log_density, inputs, weights)
    unit = 2.0**-52 if dtype == torch.float64 else 2.0**-23
    scale = float(1 + weights.abs().sum())
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.shape == b.shape
        rounded = 2.0**-8 if dtype == torch.bfloat16 and i > 0 else 0.0
        largest = float(b.abs().max()) if b.numel() else 0.0
        # A term's distance is a sum over the dimensions, each of a few roundings.
        bound = 16 * unit * (shape[2] + 1) * max(largest, 1.0 if i == 0 else scale)
        assert torch.allclose(a, b, rtol=rounded, atol=bound)


def exact_density(z: Tensor, means: Tensor, logvars: Tensor) -> tuple[float, float]:
    """By mpmath with equal weights, and the sum of the magnitudes of the terms that matter."""
    with mpmath.workdps(60):
        terms = []
        for m, v in zip(means.tolist(), logvars.tolist(), strict=True):
            parts = [
                ((x - mpmath.mpf(mean)) ** 2 * mpmath.exp(-mpmath.mpf(lv)), mpmath.mpf(lv))
                for x, mean, lv in zip(z.tolist(), m, v, strict=True)
            ]
            log_2pi = mpmath.log(2 * mpmath.pi)
            term = -sum(s + lv + log_2pi for s, lv in parts) / 2
            size = sum(s + abs(lv) + log_2pi for s, lv in parts) / 2
            terms.append((term, size))
        largest = max(term for term, _ in terms)
        total = sum(mpmath.exp(term - largest) for term, _ in terms)
        size = max(size for term, size in terms if term > largest - 40)
        return float(largest + mpmath.log(total / len(terms))), float(size)


@pytest.mark.parametrize("dims", [1, 20, 1000])
@pytest.mark.parametrize("spread", [0.1, 1.0, 20.0])
def test_accuracy(simd: str, dims: int, spread: float) -> None:
    """In units of the terms' own rounding, however many there are; the eager code has 10 times the
    error at 1,000 dimensions."""
    means = torch.randn(6, dims) * spread
    logvars = torch.randn(6, dims)
    z = means[:2] + torch.randn(2, dims)
    got = vae_ext.mixture_log_density(z, means, logvars)
    for row in range(2):
        want, size = exact_density(z[row], means, logvars)
        assert abs(float(got[row]) - want) <= 4 * U * (size + abs(want))


def test_components_that_weigh_the_same() -> None:
    """Two components thousands of nats away share by their difference, which float32 would not
    have: half each, to the last digits."""
    z = torch.randn(1, 4096) * 3
    mean = torch.randn(1, 4096)
    means = torch.cat([mean, mean]).requires_grad_()
    logvars = torch.zeros(2, 1)
    value = vae_ext.mixture_log_density(z, means, logvars)
    (found,) = grad(value.sum(), means)
    assert float(value.detach()) < -10000
    torch.testing.assert_close(found, 0.5 * (z - means).detach(), rtol=1e-6, atol=1e-6)


def test_one_component_is_a_gaussian() -> None:
    z, mean, logvar, _ = (t.float() for t in made(9, 1, 5))
    got = vae_ext.mixture_log_density(z, mean, logvar)
    want = vae_ext.gaussian_log_likelihood(mean.expand(9, 5), z, logvar.expand(9, 5))
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_numbers_at_the_ends() -> None:
    z = torch.tensor([[0.0], [1.0], [math.nan], [1e30]])
    means = torch.tensor([[0.0], [3.0]])
    logits = torch.tensor([0.0, -math.inf])
    got = vae_ext.mixture_log_density(z, means, torch.zeros(1, 1), logits)
    half = 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(got[:2], torch.tensor([-half, -half - 0.5]))
    assert got[2].isnan()
    assert got[3] == -math.inf
    narrow = vae_ext.mixture_log_density(z[:1], means[:1], torch.full((1, 1), -300.0))
    torch.testing.assert_close(narrow, torch.tensor([150 - half]))


def test_what_is_kept_for_backward() -> None:
    """Of the size events × components × dimensions nothing: less than 0.1 words of it."""
    z, means, logvars, logits = (t.float().requires_grad_() for t in made(256, 100, 16))
    kept: dict[int, Tensor] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        vae_ext.mixture_log_density(z, means, logvars, logits)
    words = sum(t.numel() * t.element_size() for t in kept.values()) / 4
    assert 0 < words < 0.1 * 256 * 100 * 16


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_on_any_number_of_threads(threads: int) -> None:
    inputs = [t.float() for t in made(700, 20, 8)]
    weights = torch.ones(700)
    before = torch.get_num_threads()
    want = with_gradients(vae_ext.mixture_log_density, inputs, weights)
    try:
        torch.set_num_threads(threads)
        got = with_gradients(vae_ext.mixture_log_density, inputs, weights)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((4, 3), (0, 3), (0, 3)), r"means had shape \[0, 3\]"),
        (((4, 2), (5, 3), (5, 3)), r"z had shape \[4, 2\]"),
        (((3,), (5, 3, 2), (5, 3, 2)), r"z had shape \[3\]"),
        (((4, 3), (5, 3), (4, 3)), r"logvars had shape \[4, 3\]"),
        (((4, 3), (5, 3), (5, 3), (4,)), r"logits had shape \[4\].*\[5\]"),
        (((4, 3), (5, 3), (5, 3), (1, 5)), r"logits had shape \[1, 5\]"),
    ],
)
def test_shapes_that_do_not_fit(arguments: Sequence[Sequence[int]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        vae_ext.mixture_log_density(*(torch.zeros(tuple(s)) for s in arguments))


# ---- Priors -------------------------------------------------------------------------------------


def test_samples_of_a_prior_have_its_law() -> None:
    torch.manual_seed(0)
    prior = vae_ext.nn.MixturePrior(3, 2)
    with torch.no_grad():
        prior.means.copy_(torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 6.0]]))
        prior.logvars.fill_(-2.0)
        prior.logits.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    z = prior.sample(20000)
    nearest = torch.cdist(z, prior.means.detach()).argmin(1)
    shares = torch.bincount(nearest, minlength=3) / len(z)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.02, rtol=0)
    spread = (z - prior.means.detach()[nearest]).std(0)
    torch.testing.assert_close(spread, torch.full((2,), math.exp(-1)), atol=0.02, rtol=0)
    assert not z.requires_grad
    assert prior.sample(0).shape == (0, 2)


def test_a_vamp_prior_learns_its_pseudo_inputs() -> None:
    """Gradients go to them and to the encoder, which stays the model's."""
    torch.manual_seed(0)
    encoder = torch.nn.Linear(6, 4)
    prior = vae_ext.nn.VampPrior(lambda x: encoder(x).chunk(2, 1), torch.rand(5, 6))
    assert [n for n, _ in prior.named_parameters()] == ["pseudo_inputs"]
    z = torch.randn(7, 2)
    prior(z).sum().backward()
    assert prior.pseudo_inputs.grad is not None
    assert prior.pseudo_inputs.grad.abs().max() > 0
    assert encoder.weight.grad is not None
    mu, logvar = encoder(prior.pseudo_inputs).chunk(2, 1)
    torch.testing.assert_close(prior(z), vae_ext.mixture_log_density(z, mu, logvar))


def test_a_module_that_encodes_is_no_part_of_the_prior() -> None:
    class Encoder(torch.nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mu, logvar = super().forward(x).chunk(2, 1)
            return mu, logvar

    prior = vae_ext.nn.VampPrior(Encoder(6, 4), torch.rand(5, 6), learned_weights=True)
    assert set(prior.state_dict()) == {"pseudo_inputs", "logits"}
    assert prior.sample(3).shape == (3, 2)
