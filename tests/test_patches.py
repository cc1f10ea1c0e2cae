"""Patches of torch.distributions and of copies of CompVis' class, which stands below as it is
there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, LogNormal, Normal, kl_divergence
from torch.distributions.kl import _KL_REGISTRY

from vae_ext.integrations import compvis, torch_distributions


class DiagonalGaussianDistribution:
    """ldm/modules/distributions/distributions.py of CompVis/latent-diffusion."""

    def __init__(self, parameters: Tensor, deterministic: bool = False) -> None:
        self.parameters = parameters
        self.mean, self.logvar = torch.chunk(parameters, 2, dim=1)
        self.logvar = torch.clamp(self.logvar, -30.0, 20.0)
        self.deterministic = deterministic
        self.std = torch.exp(0.5 * self.logvar)
        self.var = torch.exp(self.logvar)
        if self.deterministic:
            self.var = self.std = torch.zeros_like(self.mean).to(device=self.parameters.device)

    def sample(self) -> Tensor:
        return self.mean + self.std * torch.randn(self.mean.shape).to(device=self.parameters.device)

    def kl(self, other: Any = None) -> Tensor:
        if self.deterministic:
            return torch.Tensor([0.0])
        if other is None:
            return 0.5 * torch.sum(
                torch.pow(self.mean, 2) + self.var - 1.0 - self.logvar, dim=[1, 2, 3]
            )
        return 0.5 * torch.sum(
            torch.pow(self.mean - other.mean, 2) / other.var
            + self.var / other.var
            - 1.0
            - self.logvar
            + other.logvar,
            dim=[1, 2, 3],
        )

    def nll(self, sample: Tensor, dims: Any = (1, 2, 3)) -> Tensor:
        if self.deterministic:
            return torch.Tensor([0.0])
        logtwopi = np.log(2.0 * np.pi)
        return 0.5 * torch.sum(
            logtwopi + self.logvar + torch.pow(sample - self.mean, 2) / self.var, dim=list(dims)
        )

    def mode(self) -> Tensor:
        return self.mean


class NarrowBounds(DiagonalGaussianDistribution):
    """A copy with bounds, and noise, of its own."""

    def __init__(self, parameters: Tensor, deterministic: bool = False) -> None:
        super().__init__(parameters, deterministic)
        if not deterministic:
            self.logvar = torch.clamp(self.logvar, -1.0, 0.5)
            self.std, self.var = torch.exp(0.5 * self.logvar), torch.exp(self.logvar)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:  # type: ignore[override]
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.std * noise


class MeanOfDimensions(DiagonalGaussianDistribution):
    """One that means something else by its KL."""

    def kl(self, other: Any = None) -> Tensor:
        return super().kl(other) / self.mean[0].numel()


Original = DiagonalGaussianDistribution


@pytest.fixture
def package() -> Iterator[tuple[ModuleType, ModuleType]]:
    """ldm, with the class in one module and its user in another."""
    names = ("ldm", "ldm.distributions", "ldm.autoencoder")
    made = [ModuleType(name) for name in names]
    sys.modules.update(zip(names, made, strict=True))
    for module in made[1:]:
        module.DiagonalGaussianDistribution = Original  # type: ignore[attr-defined]
    yield made[1], made[2]
    for name in names:
        del sys.modules[name]


def losses(cls: Any, parameters: Tensor) -> list[Tensor]:
    torch.manual_seed(3)
    p = cls(parameters)
    z = p.sample()
    return [z, p.kl(), p.kl(cls(parameters.flip(0))), p.nll(z.detach() + 1), p.std, p.mode()]


def test_a_copy_gives_what_it_gave(package: tuple[ModuleType, ModuleType]) -> None:
    distributions, autoencoder = package
    parameters = torch.randn(3, 6, 4, 5, dtype=torch.float32)
    parameters[0, 3:5] = torch.tensor([100.0, -100.0]).view(2, 1, 1)  # beyond the bounds
    with compvis.patch("ldm.distributions"):
        ours = autoencoder.DiagonalGaussianDistribution
        assert ours is distributions.DiagonalGaussianDistribution is not Original
        assert issubclass(ours, Original)
        assert ours.__name__ == "DiagonalGaussianDistribution"
    assert autoencoder.DiagonalGaussianDistribution is Original
    for shape in ((3, 6, 4, 5), (1, 2, 1, 1)):
        tensors = [parameters[: shape[0], : shape[1], : shape[2], : shape[3]].clone()]
        tensors.append(tensors[0].contiguous(memory_format=torch.channels_last))
        for t in tensors:
            want, got = (losses(c, t.requires_grad_()) for c in (Original, ours))
            torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)
            scale = 1 / want[1].detach().abs().max()
            found = [torch.autograd.grad((r[0].sum() + scale * r[1].sum()), t) for r in (got, want)]
            torch.testing.assert_close(*found, rtol=2e-5, atol=2e-5)
    still = ours(parameters, deterministic=True)
    assert torch.equal(still.sample(), still.mean)
    assert torch.equal(still.kl(), torch.zeros(3))
    half = ours(parameters.bfloat16())
    assert half.sample().dtype == Original(parameters.bfloat16()).sample().dtype


def test_a_copy_keeps_its_bounds_and_noise(package: tuple[ModuleType, ModuleType]) -> None:
    distributions, _ = package
    distributions.DiagonalGaussianDistribution = NarrowBounds  # type: ignore[attr-defined]
    parameters = 2 * torch.randn(3, 6, 4, 5).contiguous(memory_format=torch.channels_last)
    with compvis.patch(distributions):
        ours = distributions.DiagonalGaussianDistribution
        assert ours.bounds == (-1.0, 0.5)
    torch.testing.assert_close(losses(ours, parameters), losses(NarrowBounds, parameters))
    a, b = (
        c(parameters).sample(generator=torch.Generator().manual_seed(5))
        for c in (ours, NarrowBounds)
    )
    torch.testing.assert_close(a, b)


def test_what_is_no_copy_stays(package: tuple[ModuleType, ModuleType]) -> None:
    distributions, autoencoder = package
    distributions.Other = MeanOfDimensions  # type: ignore[attr-defined]
    message = r"MeanOfDimensions gives something else than CompVis' class, and stays"
    with pytest.warns(UserWarning, match=message):
        patch = compvis.patch("ldm")
    with patch:
        assert distributions.Other is MeanOfDimensions
        assert autoencoder.DiagonalGaussianDistribution is not Original
    for module in package:
        module.DiagonalGaussianDistribution = MeanOfDimensions  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"expected one with a copy of .*something else"):
        compvis.patch("ldm")
    with pytest.raises(ValueError, match="module was json, expected one with a copy"):
        compvis.patch("json")
    with pytest.raises(TypeError, match="module was 3, expected a module or its name"):
        compvis.patch(3)  # type: ignore[arg-type]


# ---- torch.distributions -------------------------------------------------------------------------


def normals(dtype: torch.dtype = torch.float32) -> tuple[Normal, Normal, Tensor]:
    generator = torch.Generator().manual_seed(0)
    m, s, p, q, x = (torch.randn(4, 5, dtype=dtype, generator=generator) for _ in range(5))
    leaves = [
        t.requires_grad_() for t in (m, s.detach().exp(), p[:1].detach(), q[0].exp().detach())
    ]
    return Normal(*leaves[:2]), Normal(*leaves[2:]), x.requires_grad_()


def everything() -> list[Tensor]:
    p, q, x = normals()
    results = [
        kl_divergence(p, q),
        kl_divergence(Independent(p, 1), Independent(q.expand((4, 5)), 1)),
        p.log_prob(x),
        q.log_prob(x),
        Independent(p, 1).log_prob(x),
        LogNormal(p.loc, p.scale).log_prob(x.exp()),
        Normal(0.0, 1.0).log_prob(x),
    ]
    leaves = [p.loc, p.scale, q.loc, q.scale, x]
    return [*results, *torch.autograd.grad(sum(r.sum() for r in results), leaves)]  # type: ignore[arg-type]


def test_normals_give_what_they_gave() -> None:
    want = everything()
    with torch_distributions.patch():
        p, q, x = normals()
        for value in (kl_divergence(p, q), p.log_prob(x)):
            assert value.grad_fn is not None
            name = value.grad_fn.name().lower()
            assert "gaussiankl" in name or "gaussianloglikelihood" in name
        got = everything()
        compiled = torch.compile(lambda m, s, x: Normal(m, s).log_prob(x), backend="aot_eager")
        torch.testing.assert_close(compiled(p.loc, p.scale, x), want[2])
    torch.testing.assert_close(got, want)
    assert [t.shape for t in got] == [t.shape for t in want]


def test_normals_keep_their_digits() -> None:
    scale = 1 + torch.linspace(1e-4, 1e-3, 50)
    p, q = Normal(torch.full((50,), 1e-4), scale), Normal(0.0, torch.ones(1))
    exact = kl_divergence(Normal(p.loc.double(), scale.double()), Normal(0.0, q.scale.double()))
    assert float((kl_divergence(p, q) / exact - 1).abs().max()) > 0.1
    with torch_distributions.patch():
        torch.testing.assert_close(kl_divergence(p, q).double(), exact, rtol=5e-7, atol=0)


def test_normals_are_torchs_again() -> None:
    pair, method = _KL_REGISTRY[Normal, Normal], Normal.log_prob
    first, second = torch_distributions.patch(), torch_distributions.patch()
    assert _KL_REGISTRY[Normal, Normal] is not pair
    first.close()
    assert Normal.log_prob is not method
    second.close()
    assert _KL_REGISTRY[Normal, Normal] is pair
    assert Normal.log_prob is method
    with torch_distributions.patch():
        value = Normal(torch.zeros(3), torch.ones(3))
        assert torch.equal(value.log_prob(torch.arange(3)), value.log_prob(torch.arange(3.0)))
        with pytest.raises(ValueError, match="within the support"):
            Normal(0.0, 1.0, validate_args=True).log_prob(torch.full((3,), torch.nan))
