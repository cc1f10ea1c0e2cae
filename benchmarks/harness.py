"""Interleaved timing: every contender once per round, in blocks long enough for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Milliseconds per step."""

    p20: float
    p50: float
    p80: float


def time_block(step: Step, length: int, device: torch.device) -> float:
    """Milliseconds per step of a block of steps: wall clock, or CUDA events around it."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(length):
            step()
        return (time.perf_counter() - start) / length * 1e3
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(length):
        step()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / length


def block_length(step: Step, seconds: float, device: torch.device) -> int:
    """How many steps fill a block, measured after the step is warm."""
    for _ in range(3):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return max(1, int(1e3 * seconds / max(time_block(step, 1, device), 1e-6)))


def interleave(
    steps: dict[str, Step], rounds: int, device: torch.device, block_seconds: float = 0.02
) -> Iterator[dict[str, float]]:
    """Milliseconds per step of every contender, round by round.

    All run in turn within each round, so that what else the machine does falls on all alike.
    """
    lengths = {name: block_length(step, block_seconds, device) for name, step in steps.items()}
    for _ in range(rounds):
        yield {name: time_block(step, lengths[name], device) for name, step in steps.items()}


def summarize(samples: list[dict[str, float]]) -> dict[str, Timing]:
    return {
        name: Timing(*(float(q) for q in np.percentile([s[name] for s in samples], (20, 50, 80))))
        for name in samples[0]
    }


class NoLoss(torch.autograd.Function):
    """0, with gradients that are there."""

    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return torch.zeros_like(parameters[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        return tuple(grad.new_full(p.shape, 1e-3) for p in ctx.saved_tensors)
