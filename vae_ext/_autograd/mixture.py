"""The torch.autograd Function of a mixture's log-density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._native.ops import call
from .function import OUTPUT_MASKS, Found, Maybe, NativeFunction, only_needed


class MixtureLogDensity(NativeFunction):
    """z, means, logvars, log_weights; no options. Beside its inputs it keeps the log-density in
    float64: what a component weighs is its exponential, whose digits would be lost."""

    name = "mixture_log_density"
    n_tensors = 4

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        *tensors, _ = args
        value, log_sum = call(MixtureLogDensity.op, *tensors)
        ctx.save_for_backward(*tensors, log_sum)
        ctx.options = ()
        ctx.mark_non_differentiable(log_sum)
        return value, log_sum

    @staticmethod
    def inputs(ctx: Any, grads: Sequence[Maybe]) -> Sequence[Maybe]:  # noqa: ARG004
        saved: tuple[Maybe, ...] = ctx.saved_tensors
        return saved[:4]

    @staticmethod
    def gradients(ctx: Any, needed: tuple[bool, ...], *grads: Maybe) -> Found:
        grad, _ = grads
        *tensors, log_sum = ctx.saved_tensors
        mask = OUTPUT_MASKS[needed]
        found = call(MixtureLogDensity.backward_op, grad, log_sum, *tensors, mask)
        return only_needed(found, needed)
