"""The device that the tests run on: `pytest --device cuda` makes it the default of all tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# The files of tests/ that hold every kernel to account, whichever it is: the CPU's, and CUDA's on a
# card, compiled for the host, or emulated.
KERNELS = [
    "parity",
    "layouts",
    "gradients",
    "edges",
    "noise",
    "elbo",
    "memory",
    "ops",
    "properties",
    "draw",
    "distributions",
    "weights",
    "scales",
    "row_gradients",
    "region",
    "reduction_count",
    "groups",
    "pixels",
    "mixtures",
    "total_correlation",
]

# Whether the kernels are a card's machine code, on one or emulated, for which the contract has
# limits of its own: conftest.py says so.
machine_code = False
# Whether the kernels are those of CUDA: there too, or compiled for the host.
cuda_kernels = False


def assert_same_sum(got: Tensor, want: Tensor) -> None:
    """The same bits; of CUDA's kernels, which add groups of elements as floats, nearly so: which
    elements are a group depends on the layout."""
    if cuda_kernels and got.dtype != torch.float64:
        torch.testing.assert_close(
            got, want, rtol=1e-6, atol=1e-6 * float(want.detach().abs().max())
        )
    else:
        assert torch.equal(got, want)


def device() -> torch.device:
    return torch.empty(0).device


def generator() -> torch.Generator:
    return torch.Generator(device())


def get_rng_state() -> Tensor:
    return torch.cuda.get_rng_state() if device().type == "cuda" else torch.get_rng_state()


def set_rng_state(state: Tensor) -> None:
    (torch.cuda if device().type == "cuda" else torch).set_rng_state(state)


def allocated_by(function: Callable[[], object]) -> int:
    """Bytes that a call allocates; on CUDA, those that are alive at once."""
    if device().type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = function()  # alive until the peak is read
        peak = torch.cuda.max_memory_allocated()
        del result
        return peak - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        function()
    return sum(max(event.self_cpu_memory_usage, 0) for event in prof.key_averages())
