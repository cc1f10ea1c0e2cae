"""torch's distributions of counts, with the kernels' log-probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributions
from torch.distributions import Distribution
from torch.distributions.utils import lazy_property, probs_to_logits

from .. import _checks as checks
from ..functional import negative_binomial_log_likelihood, poisson_log_likelihood

Value = float | Tensor


class Poisson(distributions.Poisson):
    """`torch.distributions.Poisson`, whose `log_prob` is :func:`vae_ext.poisson_log_likelihood`, in
    nats: right for large counts, one pass forward and one backward.

    Args:
        rate: at least 0, a tensor or a number; or instead of it
        log_rate: its logarithm, a tensor.
        validate_args: as torch's.

    Source: as that function.

    Raises:
        ValueError: neither rate nor log_rate, or both; with validate_args a rate below 0, and in
            `log_prob` what is no count.

    Shape:
        rate [*batch]; samples [*sample, *batch]; log_prob of the broadcast shape of value and rate.
    """

    def __init__(
        self,
        rate: Value | None = None,
        validate_args: bool | None = None,
        *,
        log_rate: Tensor | None = None,
    ) -> None:
        if (rate is None) == (log_rate is None):
            both = "neither rate nor log_rate was" if rate is None else "rate and log_rate were"
            raise ValueError(f"{both} given, expected one of them")
        self._log_rate = log_rate
        value = log_rate.exp() if log_rate is not None else rate
        assert value is not None
        super().__init__(value, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Poisson:
        new = type(self).__new__(type(self)) if _instance is None else _instance
        new._log_rate = None if self._log_rate is None else self._log_rate.expand(batch_shape)
        expanded: Poisson = super().expand(batch_shape, new)
        return expanded

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        if self._log_rate is not None:
            return poisson_log_likelihood(log_rate=self._log_rate, target=value, reduction="none")
        return poisson_log_likelihood(self.rate, value, reduction="none")


class NegativeBinomial(distributions.NegativeBinomial):
    """`torch.distributions.NegativeBinomial`, also by its mean, whose `log_prob` is
    :func:`vae_ext.negative_binomial_log_likelihood`, in nats.

    Args:
        total_count: the dispersion θ, at least 0, a number or a tensor. One of fewer dimensions
            than the mean, such as [genes], is not expanded where the log-probability is computed.
        probs, logits: as torch's, log(μ/θ) being the logits; or instead of them
        mean: μ, at least 0, a tensor.
        validate_args: as torch's.

    Source: as that function.

    Raises:
        ValueError: not exactly one of probs, logits and mean; with validate_args a parameter out of
            its range, and in `log_prob` what is no count.

    Shape:
        the parameters broadcast to [*batch]; samples [*sample, *batch]; log_prob of the broadcast
        shape of value and [*batch].
    """

    def __init__(
        self,
        total_count: Value,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
        *,
        mean: Tensor | None = None,
    ) -> None:
        given = {"probs": probs, "logits": logits, "mean": mean}
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1:
            raise ValueError(
                f"{' and '.join(names) or 'none'} was given, expected one of probs, logits and mean"
            )
        self._dispersion, self._mean = total_count, mean
        if mean is None:
            super().__init__(total_count, probs, logits, validate_args)
            return
        checks.tensor("mean", mean)
        if not isinstance(total_count, Tensor):
            total_count = torch.full_like(mean, total_count)
        shape = checks.broadcast(total_count=total_count, mean=mean)
        self.total_count, self._param = total_count.expand(shape), mean.expand(shape)
        validate = self._validate_args if validate_args is None else validate_args
        if validate and not bool((mean >= 0).all()):
            raise ValueError(f"mean had a minimum of {mean.min().item()}, expected at least 0")
        # Its logits are computed when somebody asks for them.
        Distribution.__init__(self, self._param.shape, validate_args=validate_args)

    @lazy_property
    def logits(self) -> Tensor:
        if self._mean is None:
            logits: Tensor = probs_to_logits(self.probs, is_binary=True)
            return logits
        return torch.log(self._param) - torch.log(self.total_count)

    @property
    def mean(self) -> Tensor:
        if self._mean is not None:
            return self._param
        mean: Tensor = super().mean
        return mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> NegativeBinomial:
        new = type(self).__new__(type(self)) if _instance is None else _instance
        new._dispersion, new._mean = self._dispersion, self._mean
        if self._mean is None:
            expanded: NegativeBinomial = super().expand(batch_shape, new)
            return expanded
        new._mean = new._param = self._param.expand(batch_shape)
        new.total_count = self.total_count.expand(batch_shape)
        Distribution.__init__(new, torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        dispersion = self._dispersion
        if self._mean is not None:
            return negative_binomial_log_likelihood(self._mean, value, dispersion, reduction="none")
        return negative_binomial_log_likelihood(
            logits=self.logits, target=value, total_count=dispersion, reduction="none"
        )
