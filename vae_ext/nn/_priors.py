"""Priors that are mixtures of diagonal Gaussians, as modules: learned, or of pseudo-inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.fx
from torch import Tensor, nn

from .. import _checks as checks
from .._reference.numerics import cut
from ..functional import mixture_log_density, reparameterize
from ._options import options

__all__ = ["MixturePrior", "VampPrior"]

# torch.fx.symbolic_trace goes into modules; this is a leaf there.
torch.fx.wrap("mixture_log_density")

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]


class Mixture(nn.Module):
    """What both priors do with the components that a subclass has."""

    logits: Tensor | None

    def components(self) -> tuple[Tensor, Tensor]:
        """The means and log-variances, [components, *event] each."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """log p(z) of z [..., *event], nats, [...]."""
        return mixture_log_density(z, *self.components(), self.logits)

    def log_prob(self, z: Tensor) -> Tensor:
        """The same, by the name that distributions have for it: a `log_prior` of the estimators."""
        found: Tensor = self(z)
        return found

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """z of `n` events, [n, *event], without a gradient; from torch's default generator, or
        `generator`."""
        if checks.integer("n", n) < 0:
            raise ValueError(f"n was {n}, expected 0 or more")
        with torch.no_grad():
            means, logvars = self.components()
            wide = torch.promote_types(means.dtype, torch.float32)
            if self.logits is None:
                weights = means.new_ones(means.shape[0], dtype=wide)
            else:
                weights = self.logits.to(wide).softmax(0)
            shape = means.shape[1:]
            if n == 0:
                return means.new_empty(0, *shape)
            chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
            logvars = logvars.expand(means.shape)
            return reparameterize(means[chosen], logvars[chosen], generator=generator)


class MixturePrior(Mixture):
    """log p(z) under a learned mixture of diagonal Gaussians (:func:`vae_ext.mixture_log_density`).

    Args:
        n_components: of the mixture.
        event_shape: of one latent: an int, or (C, H, W).
        learned_weights: whether the components' weights are learned, too; else they are equal.
        spread: the standard deviation of the means at first, which must differ for the components
            to go different ways. Their log-variances begin at 0.

    Source: Tomczak and Welling, "VAE with a VampPrior", AISTATS 2018, section 5, where it is "MoG".

    Raises:
        TypeError, ValueError: no components, or a size or spread that is negative.

    Shape:
        z [..., *event] → [...], nats.
    """

    def __init__(
        self,
        n_components: int,
        event_shape: int | Sequence[int],
        *,
        learned_weights: bool = True,
        spread: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if checks.integer("n_components", n_components) < 1:
            raise ValueError(f"n_components was {n_components}, expected at least 1")
        if not checks.number("spread", spread) >= 0:
            raise ValueError(f"spread was {spread}, expected 0 or more")
        given = event_shape if isinstance(event_shape, Sequence) else (event_shape,)
        shape = (n_components, *checks.size("event_shape", given))
        self.spread = spread
        self.means = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.logvars = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        logits = torch.empty(n_components, device=device, dtype=dtype)
        self.register_parameter("logits", nn.Parameter(logits) if learned_weights else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.means, std=self.spread)
        nn.init.zeros_(self.logvars)
        if self.logits is not None:
            nn.init.zeros_(self.logits)

    def components(self) -> tuple[Tensor, Tensor]:
        return self.means, self.logvars

    def extra_repr(self) -> str:
        return options(
            n_components=self.means.shape[0],
            event_shape=tuple(self.means.shape[1:]),
            learned_weights=self.logits is not None,
        )


class VampPrior(Mixture):
    """log p(z) under the mixture of what the encoder makes of learned pseudo-inputs.

    Args:
        encoder: from inputs [components, ...] to mu and logvar. It belongs to the model, whose
            parameters it has, and is no submodule of this.
        pseudo_inputs: [components, ...], where they begin, such as a few data points; they are a
            parameter.
        bounds: they are kept between these on their way to the encoder, as data are that lie in
            (0, 1); None: not.
        learned_weights: whether the components' weights are learned, too; else they are equal.

    Source: Tomczak and Welling, "VAE with a VampPrior", AISTATS 2018, (9) and (10).

    Raises:
        TypeError: an encoder that is no function, or a type that is not supported.
        ValueError: no pseudo-inputs, or bounds that are not increasing.

    Shape:
        z [..., *event] → [...], nats.
    """

    def __init__(
        self,
        encoder: Encoder,
        pseudo_inputs: Tensor,
        *,
        bounds: tuple[float, float] | None = None,
        learned_weights: bool = False,
    ) -> None:
        super().__init__()
        if not callable(encoder):
            raise TypeError(
                f"encoder was a {type(encoder).__name__}, expected a function from inputs to mu "
                "and logvar"
            )
        checks.tensor("pseudo_inputs", pseudo_inputs)
        if pseudo_inputs.ndim < 1 or pseudo_inputs.shape[0] == 0:
            raise ValueError(
                f"pseudo_inputs had shape {checks.shape_text(pseudo_inputs.shape)}, expected "
                "[components, ...], at least one"
            )
        self.bounds = None if bounds is None else checks.bounds(bounds, False)
        self._encoder = (encoder,)  # in a tuple a module is no submodule
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())
        logits = pseudo_inputs.new_zeros(pseudo_inputs.shape[0])
        self.register_parameter("logits", nn.Parameter(logits) if learned_weights else None)

    def components(self) -> tuple[Tensor, Tensor]:
        x: Tensor = self.pseudo_inputs
        if self.bounds is not None:
            x = cut(x, *self.bounds)
        (encoder,) = self._encoder
        return encoder(x)

    def extra_repr(self) -> str:
        return options(
            pseudo_inputs=tuple(self.pseudo_inputs.shape),
            bounds=self.bounds,
            learned_weights=self.logits is not None,
        )
