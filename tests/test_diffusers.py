"""The drop-in for diffusers, against the real package."""

from __future__ import annotations

import contextlib
import importlib
import sys

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders import vae
from torch import Tensor
from torch.autograd import grad

from vae_ext.integrations.diffusers import (
    BugForBugDistribution,
    DiagonalGaussianDistribution,
    FusedNoiseDistribution,
    patch,
)

Original = vae.DiagonalGaussianDistribution
TORCH = tuple(int(n) for n in torch.__version__.split(".")[:2])
CLASSES = [DiagonalGaussianDistribution, BugForBugDistribution]


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=3,
        sample_size=16,
    )


def train(steps: int = 8) -> tuple[list[float], list[Tensor], type]:
    """Losses, the weights at the end, and the class of the latents."""
    model = autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = torch.rand(4, 3, 16, 16)
    losses = []
    for _ in range(steps):
        posterior = model.encode(images).latent_dist
        recon = model.decode(posterior.sample()).sample
        loss = (recon - images).square().mean() + 1e-3 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach() for p in model.parameters()], type(posterior)


@pytest.mark.parametrize("distribution", CLASSES, ids=lambda c: c.__name__)
def test_training_gives_the_same_numbers(distribution: type) -> None:
    losses, weights, original = train()
    with patch(distribution):
        ours, our_weights, patched = train()
    assert (original, patched) == (Original, distribution)
    assert losses[-1] < losses[0]
    torch.testing.assert_close(ours, losses, rtol=1e-4, atol=1e-5)
    for a, b in zip(our_weights, weights, strict=True):  # Adam divides by small gradients
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)


def test_fused_noise() -> None:
    with patch(FusedNoiseDistribution):
        losses, _, patched = train()
        again, _, _ = train()
    assert patched is FusedNoiseDistribution
    assert losses == again  # torch.manual_seed governs it
    assert losses[-1] < losses[0]
    parameters = torch.randn(2, 6, 4, 4)
    ours, theirs = FusedNoiseDistribution(parameters), Original(parameters)
    lists = [[torch.Generator().manual_seed(i) for i in (1, 2)] for _ in range(2)]
    torch.testing.assert_close(ours.sample(lists[0]), theirs.sample(lists[1]))
    one, two = (ours.sample(torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, theirs.sample(torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("distribution", CLASSES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("many", [False, True], ids=["one_generator", "a_list"])
def test_values_and_gradients(distribution: type, many: bool) -> None:
    parameters = (4 * torch.randn(2, 6, 4, 5)).requires_grad_()
    parameters.data[0, 3, 0] = torch.tensor([-40.0, -29.9, 19.9, 30.0, 0.0])
    ours, theirs = distribution(parameters), Original(parameters)
    for name in ("mean", "logvar", "std", "var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    assert torch.equal(ours.mode(), theirs.mode())
    other = torch.randn(2, 6, 4, 5)
    x = torch.randn(2, 3, 4, 5)

    def generator() -> torch.Generator | list[torch.Generator]:
        found = [torch.Generator().manual_seed(i) for i in (1, 2)]
        return found if many else found[0]

    for a, b in (
        (ours.sample(generator()), theirs.sample(generator())),
        (ours.kl(), theirs.kl()),
        (ours.kl(distribution(other)), theirs.kl(Original(other))),
        (ours.kl(Original(other)), theirs.kl(Original(other))),
        (ours.nll(x), theirs.nll(x)),
        (ours.nll(x, dims=[1, 3]), theirs.nll(x, dims=[1, 3])),
        (ours.nll(x, dims=[2]), theirs.nll(x, dims=[2])),
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
        incoming = torch.randn_like(a)
        [got] = grad(a, parameters, incoming, retain_graph=True)
        [want] = grad(b, parameters, incoming, retain_graph=True)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("distribution", CLASSES, ids=lambda c: c.__name__)
def test_gradient_on_a_bound(distribution: type) -> None:
    """It passes, as it did in diffusers until torch changed the derivative of its clamp."""
    parameters = torch.zeros(1, 4, 1, 1)
    parameters[0, 2:, 0, 0] = torch.tensor([-30.0, 20.0])
    found = []
    for kind in (distribution, Original):
        leaf = parameters.clone().requires_grad_()
        torch.manual_seed(1)
        found.append(grad(kind(leaf).sample().sum(), leaf)[0][0, 2:, 0, 0])
    ours, theirs = found
    assert bool((ours != 0).all())
    if TORCH >= (2, 14):
        assert torch.equal(theirs, torch.zeros(2))
    else:
        torch.testing.assert_close(ours, theirs)


def test_documented_differences() -> None:
    """Where diffusers is not right, and BugForBugDistribution neither."""
    video = torch.randn(2, 6, 3, 4, 5)
    frames = torch.randn(2, 3, 3, 4, 5)
    for wrong in (Original(video), BugForBugDistribution(video)):
        assert wrong.kl().shape == wrong.nll(frames).shape == (2, 5)
    ours = DiagonalGaussianDistribution(video)
    mean, logvar = video.chunk(2, 1)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3, 4))
    torch.testing.assert_close(ours.kl(), kl)
    assert ours.nll(frames).shape == ours.kl(ours).shape == (2,)
    assert torch.equal(ours.kl(ours), torch.zeros(2))

    half = torch.full((2, 2, 4, 4), 20.0, dtype=torch.float16)
    for wrong in (Original(half), BugForBugDistribution(half)):
        assert wrong.kl().isinf().all()
        assert wrong.kl().dtype == torch.float16
    kl = DiagonalGaussianDistribution(half).kl()
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl.double(), DiagonalGaussianDistribution(half.double()).kl())

    fixed = torch.randn(2, 6, 4, 4, device=video.device)
    for wrong in (Original(fixed, deterministic=True), BugForBugDistribution(fixed, True)):
        assert wrong.kl().shape == (1,)
        assert wrong.kl().device.type == "cpu"
    ours = DiagonalGaussianDistribution(fixed, deterministic=True)
    assert torch.equal(ours.kl(), torch.zeros(2, device=video.device))
    assert torch.equal(ours.nll(ours.mean), torch.zeros(2, device=video.device))
    assert DiagonalGaussianDistribution(fixed).kl(ours).isposinf().all()
    assert Original(fixed).kl(Original(fixed, deterministic=True)).isnan().all()


@pytest.mark.parametrize("distribution", CLASSES, ids=lambda c: c.__name__)
def test_deterministic_samples(distribution: type) -> None:
    parameters = torch.randn(2, 6, 4, 4)
    ours, theirs = distribution(parameters, True), Original(parameters, True)
    after = []
    for d in (ours, theirs):
        torch.manual_seed(3)
        assert torch.equal(d.sample(), d.mean)
        after.append(torch.randn(2))
    assert torch.equal(*after)
    assert torch.equal(ours.std, theirs.std)
    assert torch.equal(ours.var, theirs.var)


def test_patch_is_undone() -> None:
    """In every module, those too that are loaded while it is on."""
    later = "diffusers.models.autoencoders.autoencoder_kl_temporal_decoder"
    sys.modules.pop(later, None)
    kl = importlib.import_module("diffusers.models.autoencoders.autoencoder_kl")
    with patch():
        assert vae.DiagonalGaussianDistribution is DiagonalGaussianDistribution
        module = importlib.import_module(later)
        assert module.DiagonalGaussianDistribution is DiagonalGaussianDistribution
        with patch(BugForBugDistribution), patch(BugForBugDistribution):
            assert kl.DiagonalGaussianDistribution is BugForBugDistribution
        assert kl.DiagonalGaussianDistribution is DiagonalGaussianDistribution
        posterior = autoencoder().encode(torch.rand(1, 3, 16, 16)).latent_dist
    for place in (vae, kl, module):
        assert place.DiagonalGaussianDistribution is Original
    assert isinstance(posterior, Original)
    assert posterior.kl().shape == (1,)  # what was made under the patch stays whole

    for_good = patch()
    assert kl.DiagonalGaussianDistribution is DiagonalGaussianDistribution
    for_good.close()
    assert kl.DiagonalGaussianDistribution is Original
    with contextlib.suppress(RuntimeError), patch():
        raise RuntimeError
    assert kl.DiagonalGaussianDistribution is Original


ATTRIBUTES = {
    "std": lambda d: d.std * 0.1,
    "mean": lambda d: d.mean * 0 + 2,
    "var": lambda d: d.var * 2,
    "logvar": lambda d: d.logvar + 1,
}


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("distribution", [*CLASSES, FusedNoiseDistribution])
def test_assigned_attributes_count(name: str, distribution: type) -> None:
    """They are plain attributes in diffusers, which code scales before it samples."""
    parameters, x = torch.randn(2, 6, 4, 4), torch.randn(2, 3, 4, 4)
    other = Original(torch.randn(2, 6, 4, 4))
    found = []
    for kind in (distribution, Original):
        d = kind(parameters)
        setattr(d, name, ATTRIBUTES[name](d))
        torch.manual_seed(1)
        values = [d.mode(), d.kl(), d.kl(other), d.nll(x), d.nll(x, dims=1), d.nll(x, dims=[2, 3])]
        if distribution is not FusedNoiseDistribution or name in ("std", "mean"):
            values.append(d.sample())
        found.append(values)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_patches_end_in_any_order() -> None:
    first, second = patch(), patch(BugForBugDistribution)
    first.close()
    assert vae.DiagonalGaussianDistribution is BugForBugDistribution
    second.close()
    assert vae.DiagonalGaussianDistribution is Original
    first, second = patch(), patch(BugForBugDistribution)
    second.close()
    assert vae.DiagonalGaussianDistribution is DiagonalGaussianDistribution
    first.close()
    first.close()  # once is enough
    assert vae.DiagonalGaussianDistribution is Original


def test_compiled() -> None:
    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(parameters: Tensor) -> Tensor:
        posterior = vae.DiagonalGaussianDistribution(parameters)
        return posterior.kl().mean() + posterior.sample().square().mean() + posterior.std.mean()

    parameters = torch.randn(2, 6, 4, 4, requires_grad=True)
    with patch():
        torch.manual_seed(1)
        want = loss._torchdynamo_orig_callable(parameters)
        torch.manual_seed(1)
        got = loss(parameters)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(grad(got, parameters), grad(want, parameters))


def test_errors() -> None:
    with pytest.raises(ValueError, match="moments had shape"):
        DiagonalGaussianDistribution(torch.zeros(2, 5, 4, 4))
    with pytest.raises(TypeError, match="expected a class derived from BugForBugDistribution"):
        patch(Original)
