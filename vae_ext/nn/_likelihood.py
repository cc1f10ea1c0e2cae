"""What the losses have in common: parameters of a likelihood, and its negative logarithm."""

from __future__ import annotations

import torch
import torch.fx
from torch import Tensor, nn

from .. import _checks as checks
from .._formulas import LIKELIHOODS, Likelihood
from ..functional._likelihoods import form_with, log_likelihood
from ..functional._reduction import Reduction
from ._options import options

Value = float | Tensor


def nll(
    likelihood: str,
    form: int,
    prediction: Tensor,
    target: Tensor,
    parameters: tuple[Value, ...],
    weights: Tensor | None,
    event_dims: int | None,
    reduction: str,
    count: int | None,
) -> Tensor:
    """Prediction and target of one shape, as torch's losses: [B, 1] against [B] would be [B, B]."""
    entry = LIKELIHOODS[likelihood]
    name = entry.forms[form].prediction
    checks.pair(name, prediction, "target", target, entry.target_dtypes)
    checks.same_shape(name, prediction, "target", target)
    asked = Reduction(weights, event_dims, reduction, count)
    return -log_likelihood(entry, prediction, target, parameters, asked, form)


# torch.fx.symbolic_trace goes into modules; these are its leaves there.
torch.fx.wrap("nll")


class WithParameters(nn.Module):
    """A module with parameters of a likelihood: numbers, tensors or parameters of the module.

    A tensor is a buffer, so that it is saved and moves with the module. A parameter that is learned
    has one element in one dimension: there are sharded trainers that refuse parameters without a
    dimension.
    """

    def __init__(self, likelihood: str, values: dict[str, Value], learned: bool) -> None:
        super().__init__()
        self._likelihood, self._names, self._learned = likelihood, tuple(values), learned
        self._start: dict[str, float] = {}
        for name, value in values.items():
            if learned:
                self._start[name] = float(checks.scalar(name, value))
                setattr(self, name, nn.Parameter(torch.empty(1)))
            elif isinstance(value, nn.Parameter) or not isinstance(value, Tensor):
                kept = value if isinstance(value, Tensor) else checks.number(name, value)
                setattr(self, name, kept)
            else:
                checks.tensor(name, value)
                self.register_buffer(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """What is learned as it was at first."""
        for name, start in self._start.items():
            nn.init.constant_(getattr(self, name), start)

    def _values(self) -> dict[str, Value]:
        return {name: getattr(self, name) for name in self._names}

    def _shown(self) -> dict[str, object]:
        """For `extra_repr`."""
        if self._learned:
            return {**self._start, LIKELIHOODS[self._likelihood].learned: True}
        return {
            name: tuple(value.shape) if isinstance(value, Tensor) else value
            for name, value in self._values().items()
        }


class NLL(WithParameters):
    """The negative log-likelihood of an entry of the table."""

    def __init__(
        self,
        entry: Likelihood,
        event_dims: int | None,
        reduction: str,
        learned: bool = False,
        **values: Value | None,
    ) -> None:
        given = {name: value for name, value in values.items() if value is not None}
        super().__init__(entry.name, given, learned)
        checks.reduction(reduction)
        self.event_dims, self.reduction = event_dims, reduction

    def _nll(
        self,
        predicted: Tensor,
        target: Tensor,
        weights: Tensor | None,
        count: int | None,
        prediction: str = "",
        **given: Value | None,
    ) -> Tensor:
        """With the parameters that are given, and the module's where they are None; in the form
        that these make, of the prediction of that name if one is given."""
        entry = LIKELIHOODS[self._likelihood]
        values = self._values()
        values.update((name, value) for name, value in given.items() if value is not None)
        form = form_with(entry, values, prediction)
        parameters = tuple(values[name] for name in entry.forms[form].parameters)
        return nll(
            self._likelihood,
            form,
            predicted,
            target,
            parameters,
            weights,
            self.event_dims,
            self.reduction,
            count,
        )

    def extra_repr(self) -> str:
        return options(**self._shown(), event_dims=self.event_dims, reduction=self.reduction)
