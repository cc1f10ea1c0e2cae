"""The noise contract: a pure function of (seed, stream, element), and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import vae_ext
from tests.devices import device, generator, get_rng_state, set_rng_state
from tests.layouts import LAYOUTS
from vae_ext._reference import philox

KNOWN = [  # Random123's known answers: counter, key, words
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]
) -> None:
    from vae_ext import _C

    assert tuple(_C.philox4x32_10(list(counter), list(key))) == words
    as_tensors = [philox.as_word(torch.tensor([c])) for c in (*counter, *key)]
    reference = philox.philox4x32_10(tuple(as_tensors[:4]), (as_tensors[4], as_tensors[5]))
    assert tuple(int(philox.as_numbers(w)) for w in reference) == words


def test_known_answers_through_the_public_stream() -> None:
    # Counter (0, 0, low stream, high stream), key (low seed, high seed).
    assert vae_ext.testing.philox_words(4, 0).tolist() == list(KNOWN[0][2])


SEEDS = [(0, 0), (1, 0), (-1, 3), (2**64 - 1, 2**63), (-(2**63), -1), (0x0123456789ABCDEF, 5)]


@pytest.mark.parametrize(("seed", "stream"), SEEDS)
def test_words_at_every_level(seed: int, stream: int, simd: str) -> None:
    words = vae_ext.testing.philox_words(5003, seed, stream)
    assert words.dtype == torch.int64
    signed = [v - 2**64 if v >= 2**63 else v for v in (seed, stream)]
    assert torch.equal(words, philox.words(5003, *signed, torch.device("cpu")))
    assert torch.equal(vae_ext.testing.philox_words(1, seed, stream), words[:1])
    assert vae_ext.testing.philox_words(0, seed, stream).shape == (0,)


def test_words_beyond_32_bits_of_blocks(simd: str) -> None:
    """Where the counter's low half wraps, at element 2^34, and beyond."""
    from vae_ext import _C

    seed, stream = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for start in ((1 << 34) - 130, (1 << 34) - 1, 1 << 34, (1 << 60) + 5):
        want = []
        for block in range(start // 4, start // 4 + 60):
            counter = [block & 0xFFFFFFFF, block >> 32, stream & 0xFFFFFFFF, stream >> 32]
            want += _C.philox4x32_10(counter, key)
        assert _C.philox_words_at(seed, stream, start, 200) == want[start % 4 :][:200]


def test_two_complements_name_the_same_seed() -> None:
    assert torch.equal(
        vae_ext.testing.philox_words(8, -1), vae_ext.testing.philox_words(8, 2**64 - 1)
    )


TOLERANCE = {
    torch.float64: 1e-14,
    torch.float32: 1e-6,
    torch.float16: 2.0**-9,  # half an ulp at 5
    torch.bfloat16: 2.0**-6,
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_normals_at_every_level(dtype: torch.dtype, simd: str) -> None:
    for seed in (0, 11, 2**63):
        eps = vae_ext.standard_normal(100_003, seed=seed, stream=2, dtype=dtype)
        signed = seed - 2**64 if seed >= 2**63 else seed
        exact = philox.standard_normal((100_003,), signed, 2, device())
        assert eps.dtype == dtype
        assert float((eps.double() - exact).abs().max()) <= TOLERANCE[dtype]


def test_extreme_words() -> None:
    """u next to 0 and to 1, and angles at the seams of the quadrants, straight from the header."""
    # Searching a stream for such words would take 2^32 draws; the reference is exact, so the
    # largest and smallest radii among 2^24 show the tails.
    n = 1 << 24
    eps = vae_ext.standard_normal(n, seed=1)
    words = vae_ext.testing.philox_words(n, 1)
    even = words[0::2]
    for index in (int(even.argmax()), int(even.argmin())):
        u = (int(even[index]) + 0.5) * 2.0**-32
        radius = math.sqrt(-2 * math.log(u))
        got = float(torch.hypot(eps[2 * index].double(), eps[2 * index + 1].double()))
        assert abs(got - radius) <= 1.5e-6
    assert float(eps.abs().max()) < 6.8


def test_moments() -> None:
    eps = vae_ext.standard_normal(1 << 22, seed=3).double()
    n = eps.numel()
    assert abs(float(eps.mean())) < 5 / math.sqrt(n)
    assert abs(float(eps.square().mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((eps**3).mean())) < 5 * math.sqrt(15 / n)
    assert abs(float((eps**4).mean()) - 3) < 5 * math.sqrt(96 / n)
    for lag in (1, 2, 3, 4, 5, 8):
        assert abs(float((eps[lag:] * eps[:-lag]).mean())) < 5 / math.sqrt(n)


def test_sampling_adds_this_noise() -> None:
    zero = torch.zeros(3, 1001)
    eps = vae_ext.standard_normal(3, 1001, seed=9, stream=4)
    assert torch.equal(vae_ext.reparameterize(zero, zero, seed=9, stream=4), eps)
    assert torch.equal(vae_ext.reparameterize_with_kl(zero, zero, seed=9, stream=4)[0], eps)
    assert torch.equal(vae_ext.standard_normal((3, 1001), seed=9, stream=4), eps)
    mu, logvar = torch.randn(3, 1001), torch.randn(3, 1001)
    z = vae_ext.reparameterize(mu, logvar, seed=9, stream=4)
    given = vae_ext.reparameterize(mu, logvar, noise=eps)
    assert torch.equal(z, given)
    torch.testing.assert_close(z, mu + torch.exp(0.5 * logvar) * eps)


def test_element_does_not_depend_on_the_rest() -> None:
    """Not on the size, the samples drawn before it, the dtype or where a call begins."""
    flat = vae_ext.standard_normal(24_000, seed=5)
    assert torch.equal(vae_ext.standard_normal(2, 3, 4000, seed=5).reshape(-1), flat)
    assert torch.equal(vae_ext.standard_normal(999, seed=5), flat[:999])
    zero = torch.zeros(4000)
    samples = vae_ext.reparameterize(zero, zero, seed=5, n_samples=6)
    assert torch.equal(samples.reshape(-1), flat)
    half = vae_ext.standard_normal(24_000, seed=5, dtype=torch.bfloat16)
    assert torch.equal(half, flat.bfloat16())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_noise_follows_the_logical_order(layout: object) -> None:
    zero = layout(torch.zeros(2, 4, 3, 5))  # type: ignore[operator]
    eps = vae_ext.standard_normal(2, 4, 3, 5, seed=2)
    assert torch.equal(vae_ext.reparameterize(zero, zero, seed=2), eps)


def test_seeds_and_streams_differ() -> None:
    draws = [
        vae_ext.standard_normal(4096, seed=seed, stream=stream)
        for seed in (0, 1, 2, 2**32, 2**33)
        for stream in (0, 1, 2**32)
    ]
    correlation = torch.corrcoef(torch.stack(draws))
    off = correlation - torch.eye(len(draws))
    assert float(off.abs().max()) < 6 / math.sqrt(4096)


def test_seed_tensor_is_the_same_as_its_number() -> None:
    seed = torch.tensor(77)
    assert torch.equal(vae_ext.standard_normal(50, seed=seed), vae_ext.standard_normal(50, seed=77))


def test_torch_governs_the_default() -> None:
    mu, logvar = torch.randn(4, 300), torch.randn(4, 300)

    def draw() -> torch.Tensor:
        return vae_ext.reparameterize(mu, logvar)

    torch.manual_seed(1)
    first, second = draw(), draw()
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(draw(), first)
    state = get_rng_state()
    third = draw()
    set_rng_state(state)
    assert torch.equal(draw(), third)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(draw(), first)


def test_generator() -> None:
    mu, logvar = torch.randn(4, 300), torch.randn(4, 300)
    g = generator().manual_seed(8)
    state = get_rng_state()
    first = vae_ext.reparameterize(mu, logvar, generator=g)
    second = vae_ext.reparameterize(mu, logvar, generator=g)
    assert not torch.equal(first, second)
    assert torch.equal(vae_ext.reparameterize(mu, logvar, generator=g.manual_seed(8)), first)
    assert torch.equal(get_rng_state(), state)  # the global one was left alone
    torch.manual_seed(8)  # one engine, one seed: one noise
    assert torch.equal(vae_ext.reparameterize(mu, logvar), first)


def test_gradient_uses_the_noise_of_the_forward_pass() -> None:
    mu = torch.zeros(5, 1000, requires_grad=True)
    logvar = torch.zeros(5, 1000, requires_grad=True)
    z = vae_ext.reparameterize(mu, logvar)
    vae_ext.reparameterize(mu, logvar)  # another call in between
    (grad,) = torch.autograd.grad(z.sum(), logvar)
    assert torch.equal(grad, 0.5 * z.detach())  # dz/dlogvar = eps / 2 at sigma = 1
    samples = vae_ext.reparameterize(mu, logvar, n_samples=3)
    (grad,) = torch.autograd.grad(samples.sum(), logvar)
    torch.testing.assert_close(grad, 0.5 * samples.detach().sum(0), rtol=1e-6, atol=1e-6)


def test_checkpointing_draws_the_same_noise_again() -> None:
    from torch.utils.checkpoint import checkpoint

    mu = torch.randn(4, 100, requires_grad=True)
    logvar = torch.randn(4, 100, requires_grad=True)
    results = []
    for wrapped in (False, True):
        torch.manual_seed(2)
        args = (vae_ext.reparameterize, mu, logvar)
        z = (
            checkpoint(*args, use_reentrant=False)
            if wrapped
            else vae_ext.reparameterize(mu, logvar)
        )
        results.append(torch.autograd.grad((z * z).sum(), logvar)[0])
    assert torch.equal(*results)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_refuses_a_generator(reentrant: bool) -> None:
    """torch does not restore it, and so the gradient would be of other noise than the value."""
    from torch.utils.checkpoint import checkpoint

    own = generator().manual_seed(1)
    mu = torch.randn(4, 100, requires_grad=True)
    draws: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda x: vae_ext.reparameterize(x, x, generator=own),
        lambda x: vae_ext.reparameterize_with_kl(x, x, generator=own)[0],
        lambda x: vae_ext.reparameterize(x, std=x.exp(), generator=own),
        lambda x: vae_ext.estimators.draw(x, x, 2, generator=own).z,
        lambda x: vae_ext.distributions.DiagonalGaussian(x, x).rsample(generator=own),
        lambda x: vae_ext.nn.GaussianLatent()(x, x, generator=own)[0],
    ]
    for draw in draws:
        draw(mu).sum().backward()  # elsewhere it is what it was
        with pytest.raises(
            ValueError, match=r"generator was given within torch\.utils\.checkpoint"
        ):
            checkpoint(draw, mu, use_reentrant=reentrant).sum().backward()


def calls() -> dict[str, Callable[..., torch.Tensor]]:
    """The ways in which a sample is drawn; each returns its noise."""
    from torch.utils.checkpoint import checkpoint

    zero = torch.zeros(500)
    leaf = torch.zeros(500, requires_grad=True)

    def eager(**options: Any) -> torch.Tensor:
        return vae_ext.reparameterize(zero, zero, **options)

    def with_kl(**options: Any) -> torch.Tensor:
        return vae_ext.reparameterize_with_kl(zero, zero, **options)[0]

    def of_a_leaf(**options: Any) -> torch.Tensor:
        return vae_ext.reparameterize(leaf, leaf, **options).detach()

    def checkpointed(**options: Any) -> torch.Tensor:
        # Recomputed in backward: at sigma = 1 the gradient of logvar is half of the noise.
        out = checkpoint(vae_ext.reparameterize, zero, leaf, use_reentrant=False, **options)
        return 2 * torch.autograd.grad(out.sum(), leaf)[0]

    def samples(**options: Any) -> torch.Tensor:
        return vae_ext.reparameterize(zero, zero, n_samples=2, **options)[0]

    return {
        "eager": eager,
        "with_kl": with_kl,
        "of_a_leaf": of_a_leaf,
        "compiled": torch.compile(eager, backend="aot_eager", fullgraph=True),
        "compiled_with_kl": torch.compile(with_kl, backend="aot_eager", fullgraph=True),
        "checkpointed": checkpointed,
        "samples": samples,
    }


def test_two_calls_never_share_noise() -> None:
    found = calls()
    torch.manual_seed(3)
    draws = [function() for _ in range(3) for function in found.values()]
    g = generator().manual_seed(4)
    eager = {n: f for n, f in found.items() if not n.startswith("compiled")}
    draws += [f(generator=g) for n, f in eager.items() if n != "checkpointed"]
    draws += [found["eager"](seed=5, stream=s) for s in range(3)]
    draws += [found["eager"](seed=s) for s in range(6, 9)]
    # Not as a whole, and not shifted: hardly any value occurs twice.
    values = torch.cat(draws)
    assert values.unique().numel() > values.numel() - 50


def test_the_same_seed_gives_the_same_noise_everywhere() -> None:
    want = vae_ext.standard_normal(500, seed=12)
    for name, function in calls().items():
        assert torch.equal(function(seed=12), want), name
    torch.manual_seed(13)
    want = vae_ext.reparameterize(torch.zeros(500), torch.zeros(500))
    for name, function in calls().items():
        torch.manual_seed(13)
        assert torch.equal(function(), want), name
