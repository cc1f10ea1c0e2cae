"""What is installed, whether it is right, and how fast: python -m vae_ext

Runs every function forward and backward on each device and compares it with the reference in
float64. Exits with 0 if all of it holds; if something is missing or wrong, with 1, saying how to
fix it.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time

import torch
from torch import Tensor

import vae_ext

from . import _ops
from ._native import library
from ._self_check import CHECKS, COLUMNS, ROWS, Check, Function

TOLERANCE = 1e-5  # of float32 results, relative to the largest


def inputs_of(check: Check, device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(ROWS, COLUMNS, generator=generator) for _ in range(check.inputs)]
    for i, make in enumerate(check.makes):
        tensors[i] = tensors[i] if make is None else make(tensors[i])
    return [t.to(device).requires_grad_(i != check.fixed) for i, t in enumerate(tensors)]


def forward_backward(function: Function, leaves: list[Tensor]) -> list[Tensor]:
    out = function(*leaves)
    wanted = [t for t in leaves if t.requires_grad]
    return [out.detach(), *torch.autograd.grad(out.sum(), wanted)]


def error(check: Check, device: torch.device) -> float:
    """The largest error of value and gradients, relative to the largest of each."""
    leaves = inputs_of(check, device)
    got = forward_backward(check.ours, leaves)
    exact = [t.detach().double().requires_grad_(t.requires_grad) for t in leaves]
    want = forward_backward(check.exact, exact)
    return max(
        float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(got, want, strict=True)
    )


def milliseconds(function: Function, leaves: list[Tensor], rounds: int = 15) -> float:
    def once() -> float:
        begin = time.perf_counter()
        forward_backward(function, leaves)
        if leaves[0].is_cuda:
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - begin)

    for _ in range(3):
        once()
    return statistics.median(once() for _ in range(rounds))


def check_device(device: torch.device) -> bool:
    kernels = library.available if device.type == "cpu" else library.cuda_available
    by = "native" if kernels else "the reference, in plain PyTorch"
    if device.type == "cpu" and kernels:
        by += f", {vae_ext.simd_level()}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        by += f", {torch.cuda.get_device_name(device)}"
    print(f"\n{device}: {by}")
    print(f"  {'':26} {'error':>8}  {'':5} {'ms':>8} {'eager':>8} {'ratio':>6}")
    holds = True
    for check in CHECKS:
        try:
            off = error(check, device)
        except Exception as failure:  # whatever it is, it belongs on the page
            print(f"  {check.name:26} {type(failure).__name__}: {failure}")
            holds = False
            continue
        good = off <= TOLERANCE  # NaN is not
        holds = holds and good
        leaves = inputs_of(check, device)
        ours, eager = (milliseconds(f, leaves) for f in (check.ours, check.eager))
        print(
            f"  {check.name:26} {off:8.1e}  {'ok' if good else 'WRONG':5} {ours:8.3f} "
            f"{eager:8.3f} {eager / ours:6.1f}"
        )
    return holds


def training_step() -> bool:
    """Fifty steps of a small model: its loss falls."""
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Linear(20, 8), torch.nn.Linear(4, 20)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
    x = (torch.rand(64, 20) < 0.3).float()
    losses = []
    for _ in range(50):
        mu, logvar = encoder(x).chunk(2, dim=1)
        loss = vae_ext.elbo_loss(decoder(vae_ext.reparameterize(mu, logvar)), x, mu, logvar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"\na small model, 50 steps: loss {losses[0]:.2f} to {losses[-1]:.2f} nats")
    return losses[-1] < losses[0]


def missing() -> list[str]:
    """What should be there and is not, and how to fix it."""
    found = []
    if not library.available:
        found.append(
            f"the native library: {library.unavailable_reason}\n"
            "    how to fix it: install a C++ compiler (g++ 11 or newer), then pip install "
            "--no-build-isolation --force-reinstall --no-deps vae_ext, "
            "with VAE_EXT_NATIVE unset"
        )
    if torch.cuda.is_available() and not library.cuda_available:
        found.append(
            f"the CUDA kernels: {library.cuda_unavailable_reason}\n"
            f"    how to fix it: put nvcc of CUDA {torch.version.cuda} on the PATH, then "
            "VAE_EXT_CUDA=1 pip install --no-build-isolation --force-reinstall --no-deps vae_ext"
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m vae_ext",
        description="What is installed, whether it is right, and how fast.",
    )
    parser.add_argument("--version", action="version", version=f"vae_ext {vae_ext.__version__}")
    parser.parse_args()
    print(f"vae_ext {vae_ext.__version__}, torch {torch.__version__}, ", end="")
    print(f"Python {platform.python_version()}, {platform.platform()}")
    if library.available:
        levels = ", ".join(vae_ext.simd_levels())
        print(f"native library: by g++ {library.compiler}; instruction sets {levels}")
        nodes = "in Python, since none were built for this torch"
        print(f"autograd nodes: {nodes if _ops.by_node is None else 'in C++'}")
    print(
        f"CUDA kernels: {'loaded' if library.cuda_available else library.cuda_unavailable_reason}"
    )
    devices = [torch.device("cpu")]
    devices += [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    results = [check_device(device) for device in devices] + [training_step()]
    holds = all(results)
    lacking = missing()
    for what in lacking:
        print(f"\nmissing: {what}")
    print("\nall of it holds" if holds and not lacking else "\nnot all of it holds")
    return 0 if holds and not lacking else 1


if __name__ == "__main__":
    sys.exit(main())
