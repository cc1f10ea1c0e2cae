"""Interleaved timing: every contender once per round, in blocks long enough for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Milliseconds per step."""

    p20: float
    p50: float
    p80: float


def block_length(step: Step, seconds: float) -> int:
    """How many steps fill a block, measured after the step is warm."""
    for _ in range(3):
        step()
    start = time.perf_counter()
    step()
    return max(1, int(seconds / (time.perf_counter() - start)))


def interleave(
    steps: dict[str, Step], rounds: int, block_seconds: float = 0.005
) -> Iterator[dict[str, float]]:
    """Milliseconds per step of every contender, round by round.

    All run in turn within each round, so that what else the machine does falls on all alike.
    """
    lengths = {name: block_length(step, block_seconds) for name, step in steps.items()}
    for _ in range(rounds):
        times = {}
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(lengths[name]):
                step()
            times[name] = (time.perf_counter() - start) / lengths[name] * 1e3
        yield times


def summarize(samples: list[dict[str, float]]) -> dict[str, Timing]:
    return {
        name: Timing(*(float(q) for q in np.percentile([s[name] for s in samples], (20, 50, 80))))
        for name in samples[0]
    }
