"""A sample and the KL divergence to N(0, I) of a diagonal Gaussian: its scale in any form, or
bounds on logvar; its parameters in one tensor or in two."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._native.dispatch import BY_OP, DIRECT, REFERENCE, changes, route, route_by_noise
from ._native.seeds import NO_NOISE, Drawing
from ._ops import run
from ._reference import Z
from ._reference.formulas import LOGVAR, logvar_of
from ._reference.numerics import arithmetic_dtype, as_tensor, bounded
from ._reference.ops import HARD, SOFT

Bounds = tuple[float, float]
NO_KL = (None, 0, 0)  # for who only wants z


class Parameters(NamedTuple):
    """mu and the scale in one of its forms, a logvar not yet within its bounds; `moments` if they
    are its halves along `dim`."""

    mu: Tensor
    scale: Tensor
    form: int = LOGVAR
    bounds: Bounds | None = None
    soft: bool = False
    moments: Tensor | None = None
    dim: int = 0


def wide_logvar(q: Parameters) -> Tensor:
    """logvar within its bounds, in the dtype that it is computed in."""
    wide = logvar_of(q.form, q.scale.to(arithmetic_dtype(q.scale)))
    if q.bounds is None:
        return wide
    low, high = (as_tensor(b, wide) if changes(b) else b for b in q.bounds)
    return bounded(wide, low, high, q.soft)


def sample_and_kl(
    q: Parameters,
    outputs: int,
    drawing: Drawing | None = None,
    of_kl: tuple[int | None, ...] = NO_KL,
) -> tuple[Tensor | None, Tensor | None]:
    """What `outputs` asks for: z, the KL, or both in one pass. `of_kl`: its count, event_dims and
    reduction, as the ops take them."""
    way = route(q.mu)
    noise, numbers = drawing.arguments(q.mu, way) if drawing and outputs & Z else NO_NOISE
    way = route_by_noise(way, noise[0])
    kind = 0 if q.bounds is None else SOFT if q.soft else HARD
    low, high = q.bounds or (0.0, 0.0)
    # Both in one tensor where its gradient may be wanted, which then comes back as one.
    packed = q.moments is not None and (
        way == BY_OP or (way == DIRECT and q.moments.requires_grad and torch.is_grad_enabled())
    )
    parameters = (q.moments, None) if packed else (q.mu, q.scale)
    if way != REFERENCE and (changes(low) or changes(high)):
        # As numbers the op would be compiled again for each.
        parameters, kind, low, high = (q.mu, wide_logvar(q)), 0, 0.0, 0.0
    tensors = (*parameters, *noise)
    bounds = (kind, low, high)
    options = (*numbers, q.form, *bounds, *of_kl, q.dim, outputs)
    z, kl = run(way, "latent", tensors, options)
    return z, kl
