"""The diagonal Gaussian as a torch.distributions.Distribution, computed by the kernels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from .. import _checks as checks
from .. import _sample_checks as sample_checks
from .._latent import NO_KL, Bounds, Parameters, sample_and_kl, wide_logvar
from .._native.seeds import Drawing
from .._reference import KL, Z, numerics
from .._reference.formulas import LOGVAR, SCALES, STD
from .._region import Region
from ..functional import gaussian_kl, gaussian_log_likelihood
from ..functional._reduction import Reduction
from ..functional._scale import scale_of

__all__ = ["DiagonalGaussian"]


def spread(parameter: Tensor, shape: Sequence[int]) -> Tensor:
    """Broadcast. In half precision by way of float32, in which its gradient is then summed: of a
    mean over millions of elements there is nothing left in float16."""
    if parameter.shape == shape:
        return parameter
    return parameter.to(numerics.arithmetic_dtype(parameter)).expand(*shape)


class DiagonalGaussian(Distribution):
    """N(mu, diag(exp(logvar))), the last `event_dims` dimensions being one event.

    Samples mu + σ ε and the KL to N(0, I), (4.5), come from one kernel, bounds on logvar and all;
    everything else is composed of the public functions. All in nats.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; Vahdat and Kautz,
    "NVAE: a deep hierarchical variational autoencoder", NeurIPS 2020, for the soft bounds.

    Args:
        mu: the means.
        logvar: the log-variances, of a shape that broadcasts with mu's; or instead of them one of
        log_std: the logarithms of the standard deviations,
        std: the standard deviations, all positive (NaN gradients come from one that is 0).
        event_dims: trailing dimensions of one event; None: all but the first.
        bounds: (low, high), between which logvar is kept. Its gradient is 0 outside, or with `soft`
            that of middle + half·tanh((logvar − middle)/half).
        validate_args: NaN among the parameters raises; None: torch's default, which is on.

    Raises:
        TypeError, ValueError: as the functions; no scale or more than one; bounds that are not two
            ascending numbers.

    Shape:
        mu, logvar [*batch, *event]; samples [*sample, *batch, *event], in the dtype that mu and the
        scale promote to; log_prob, entropy and kl [*batch], of half precision in float32.
    """

    arg_constraints = {"mu": constraints.real, "logvar": constraints.real}  # noqa: RUF012
    has_rsample = True

    def __init__(
        self,
        mu: Tensor,
        logvar: Tensor | None = None,
        *,
        log_std: Tensor | None = None,
        std: Tensor | None = None,
        event_dims: int | None = None,
        bounds: Bounds | None = None,
        soft: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        try:
            form, name, scale = scale_of(logvar, log_std, std)
        except TypeError as error:
            raise ValueError(str(error)) from None
        shape = checks.pair("mu", mu, name, scale)
        dims = checks.event_dims(event_dims, len(shape))
        if form == STD:
            validate = self._validate_args if validate_args is None else validate_args
            if validate and not bool((scale > 0).all()):
                raise ValueError(f"std had a minimum of {scale.min().item()}, expected all > 0")
        q = Parameters(spread(mu, shape), spread(scale, shape), form)
        if bounds is not None and form != LOGVAR:  # bounds are a logvar's
            q = q._replace(scale=wide_logvar(q), form=LOGVAR)
        self._set(q, dims, bounds, soft)
        self.dtype = numerics.result_dtype(mu, scale)
        self._check_arguments(*self._shapes(shape, dims), validate_args)

    @classmethod
    def from_moments(
        cls,
        moments: Tensor,
        dim: int = 1,
        *,
        event_dims: int | None = None,
        bounds: Bounds | None = None,
        soft: bool = False,
        validate_args: bool | None = None,
    ) -> DiagonalGaussian:
        """mu and logvar as the halves of one tensor along `dim`, read in place.

        The gradient of a sample and of :meth:`kl` comes back as one tensor, with no concatenation.
        """
        checks.tensor("moments", moments)
        dim = checks.integer("dim", dim)
        if not -moments.ndim <= dim < moments.ndim:
            raise ValueError(f"dim was {dim}, expected one of {moments.ndim} dimensions")
        dim %= moments.ndim
        if moments.shape[dim] % 2:
            raise ValueError(
                f"moments had shape {checks.shape_text(moments.shape)}, expected an even size of "
                f"dimension {dim}"
            )
        mu, logvar = moments.chunk(2, dim)
        self = cls.__new__(cls)
        dims = checks.event_dims(event_dims, moments.ndim)
        self._set(Parameters(mu, logvar, moments=moments, dim=dim), dims, bounds, soft)
        self._check_arguments(*cls._shapes(mu.shape, dims), validate_args)
        return self

    def _set(self, q: Parameters, event_dims: int, bounds: Bounds | None, soft: bool) -> None:
        if bounds is not None:
            bounds = checks.bounds(bounds, soft)
        self._q = q._replace(bounds=bounds, soft=soft)
        self.mu = q.mu
        self.dtype = numerics.result_dtype(q.mu, q.scale)
        self.event_dims, self.bounds, self.soft = event_dims, bounds, soft

    def _check_arguments(
        self, batch_shape: torch.Size, event_shape: torch.Size, validate_args: bool | None
    ) -> None:
        """torch's own start of a distribution. Its checks keep nothing for a backward pass; without
        them the grad mode stays as it is, which an exported program would have to note."""
        validate = self._validate_args if validate_args is None else validate_args
        with torch.no_grad() if validate else contextlib.nullcontext():
            Distribution.__init__(self, batch_shape, event_shape, validate_args=validate_args)

    @staticmethod
    def _shapes(shape: Sequence[int], event_dims: int) -> tuple[torch.Size, torch.Size]:
        split = len(shape) - event_dims
        return torch.Size(shape[:split]), torch.Size(shape[split:])

    def __repr__(self) -> str:
        return (
            f"DiagonalGaussian(batch_shape={tuple(self.batch_shape)}, "
            f"event_shape={tuple(self.event_shape)}, bounds={self.bounds}, soft={self.soft})"
        )

    @property
    def support(self) -> Any:
        return constraints.independent(constraints.real, self.event_dims)

    @property
    def logvar(self) -> Tensor:
        """The log-variances, within their bounds."""
        if self._q.bounds is None and self._q.form == LOGVAR:
            return self._q.scale
        logvar = wide_logvar(self._q)
        # In half precision a logarithm has lost what its standard deviation had.
        return logvar if self._q.form == STD else logvar.to(self._q.scale.dtype)

    def _scale(self) -> dict[str, Tensor]:
        """In the form that it came in, or the log-variance within its bounds."""
        if self._q.bounds is None:
            return {SCALES[self._q.form]: self._q.scale}
        return {"logvar": self.logvar}

    @property
    def mean(self) -> Tensor:
        return self.mu.to(self.dtype)

    mode = mean

    @property
    def stddev(self) -> Tensor:
        if self._q.form == STD:
            return self._q.scale.to(self.dtype)
        return torch.exp(0.5 * self.logvar).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        if self._q.form == STD:
            return self._q.scale.square().to(self.dtype)
        return torch.exp(self.logvar).to(self.dtype)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagonalGaussian:
        shape = torch.Size(batch_shape) + self.event_shape
        new: DiagonalGaussian = type(self).__new__(type(self))
        q = self._q._replace(
            mu=spread(self.mu, shape), scale=spread(self._q.scale, shape), moments=None
        )
        new._set(q, self.event_dims, self.bounds, self.soft)
        new.dtype = self.dtype
        Distribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _asked(self, weights: Tensor | None, reduction: str, count: int | None) -> Reduction:
        return Reduction(weights, self.event_dims, reduction, count)

    def _latent(
        self, outputs: int, asked: Reduction | None = None, drawing: Drawing | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        of_kl = asked.arguments("mu", self.mu, self.mu.shape) if asked else NO_KL
        z, kl = sample_and_kl(self._q, outputs, drawing, of_kl)
        # Elementwise results are in the arguments' dtype, than which a log-variance that was made
        # from a standard deviation of half precision is wider.
        if z is not None:
            z = z.to(self.dtype)
        if kl is not None and asked is not None and asked.reduction == "none":
            kl = kl.to(self.dtype)
        return z, kl

    def rsample(
        self,
        sample_shape: Any = torch.Size(),  # noqa: B008  (torch's own signature)
        *,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        stream: int = 0,
        region: Region | None = None,
    ) -> Tensor:
        """z = mu + σ ε, [*sample_shape, *batch_shape, *event_shape]; noise arguments as in
        :func:`vae_ext.reparameterize`."""
        shape = self._extended_shape(torch.Size(sample_shape))
        n = math.prod(sample_shape)
        if n == 0:
            return self.mu.new_empty(shape)
        if noise is not None and len(sample_shape):
            sample_checks.noise(noise, shape)
            noise = noise.reshape(n, *self.mu.shape)
        many = n if len(sample_shape) else None
        z, _ = self._latent(Z, drawing=Drawing(many, seed, generator, noise, stream, region))
        assert z is not None
        return z.reshape(shape)

    def sample(self, sample_shape: Any = torch.Size(), **noise: Any) -> Tensor:  # noqa: B008
        """:meth:`rsample`, whose arguments it has, without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, **noise)

    def rsample_with_kl(
        self,
        *,
        n_samples: int | None = None,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        stream: int = 0,
        region: Region | None = None,
        weights: Tensor | None = None,
        reduction: str = "event",
        count: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A sample and KL(self ‖ N(0, I)), [*batch], in one pass; arguments as in
        :func:`vae_ext.reparameterize_with_kl`."""
        drawing = Drawing(n_samples, seed, generator, noise, stream, region)
        if weights is not None:
            z, _ = self._latent(Z, drawing=drawing)
            assert z is not None
            return z, self.kl(weights=weights, reduction=reduction, count=count)
        z, kl = self._latent(Z | KL, self._asked(None, reduction, count), drawing)
        assert z is not None
        assert kl is not None
        return z, kl

    def kl(
        self,
        *,
        weights: Tensor | None = None,
        reduction: str = "event",
        count: int | None = None,
    ) -> Tensor:
        """KL(self ‖ N(0, I)), [*batch], arguments as in :func:`vae_ext.gaussian_kl`; to others:
        ``torch.distributions.kl_divergence``."""
        asked = self._asked(weights, reduction, count)
        if weights is not None:
            scale: dict[str, Any] = self._scale()
            return gaussian_kl(self.mu, **scale, **asked.keywords)
        _, kl = self._latent(KL, asked)
        assert kl is not None
        return kl

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        scale: dict[str, Any] = self._scale()
        return gaussian_log_likelihood(self.mu, value, **scale, event_dims=self.event_dims)

    def entropy(self) -> Tensor:
        wide = self.logvar.to(numerics.arithmetic_dtype(self._q.scale))
        terms = 0.5 * (1 + math.log(2 * math.pi) + wide)
        return numerics.reduce(terms, self.event_dims, "event", wide.dtype)
