"""Samples of pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks as checks
from ._groups import dimension, levels_of, mixtures_of

__all__ = ["sample_discretized_logistic_mixture"]


def uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """In the shape of a float64 tensor, within (0, 1), neither end included."""
    if generator is None:  # any mention of it would tie a compiled program to one shape
        found = torch.rand_like(like)
    else:
        found = torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    return found.clamp(2.0**-54, 1 - 2.0**-53)


def sample_discretized_logistic_mixture(
    parameters: Tensor,
    *,
    channels: int = 3,
    dim: int = 1,
    levels: int = 256,
    min_log_scale: float = -7.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pixels as :func:`discretized_logistic_mixture_log_likelihood` gives them their probabilities:
    a component by its weight, and of its logistic densities a value each, put in its bin; the mean
    of a channel is moved by the bins of those before it.

    Source: Salimans et al., "PixelCNN++", ICLR 2017, section 2.

    Args:
        parameters: [batch, 10 M, ...] for 3 channels, [batch, 3 M, ...] for 1.
        channels: 3 or 1, which the parameters alone do not tell.
        dim: their dimension, 1, or −1 where it is the last.
        levels, min_log_scale: as for the likelihood.
        generator: torch's own by default.

    Returns:
        The middles of the bins, in [−1, 1], [batch, channels, ...] in the dtype of the parameters;
        of bytes ((x + 1) * 127.5).round(). Without a gradient.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: a number of parameters that does not fit, `dim` or `levels` out of range.
    """
    checks.tensor("parameters", parameters)
    dim = dimension("parameters", parameters, dim)
    mixtures = mixtures_of(parameters, channels, dim)
    levels = levels_of(levels)
    least = checks.number("min_log_scale", min_log_scale)
    kinds = 2 if channels == 1 else 3
    with torch.no_grad():
        wide = parameters.movedim(dim, 0).double()
        logits, rest = wide[:mixtures], wide[mixtures:]
        # The largest of the logits with Gumbel noise is distributed as they say.
        noise = -torch.log(-torch.log(uniform(logits, generator)))
        chosen = (logits + noise).argmax(0)
        of_kind = rest.reshape(channels, kinds, mixtures, *wide.shape[1:])
        index = chosen.expand(channels, kinds, 1, *chosen.shape)
        of_component = of_kind.gather(2, index)[:, :, 0]
        pixels: list[Tensor] = []
        for c in range(channels):
            mean, log_scale = of_component[c, 0], of_component[c, 1].clamp(min=least)
            if c > 0:  # channel 0 has the coefficient of 0 in 1, 1 that of 0 in 2, 2 of 1 in 2
                mean = mean + torch.tanh(of_component[c - 1, 2]) * pixels[0]
            if c > 1:
                mean = mean + torch.tanh(of_component[2, 2]) * pixels[1]
            u = uniform(mean, generator)
            value = mean + torch.exp(log_scale) * (torch.log(u) - torch.log1p(-u))
            bins = ((value + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1)
            pixels.append(bins * (2 / (levels - 1)) - 1)
        return torch.stack(pixels, dim).to(parameters.dtype)
