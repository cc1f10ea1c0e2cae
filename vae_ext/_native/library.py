"""Loads the native libraries; without them the reference serves, with one warning that says why.

`_C` holds the ops and the CPU kernels. `_cuda` holds the CUDA kernels and is loaded only where
torch has CUDA, whose symbols it needs.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import warnings

import torch


def level_of_caller() -> int:
    """The `stacklevel` of a warning that is to point at the code outside this package, counted from
    the function that calls this. As warnings do, it leaves the import's own frames out."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        if not frame.f_code.co_filename.startswith("<frozen importlib"):
            if frame.f_globals.get("__name__", "").partition(".")[0] != "vae_ext":
                break
            level += 1
        frame = frame.f_back
    return level


try:
    import vae_ext._C as _C  # registers torch.ops.vae_ext.*
except ImportError as error:
    available = False
    unavailable_reason = str(error)
    warnings.warn(
        f"vae_ext runs without its native library: {unavailable_reason}. Every function works, "
        "through plain PyTorch and therefore slower. To fix it, install a C++ compiler "
        "(g++ 11 or newer) and run: pip install --no-build-isolation --force-reinstall --no-deps "
        "vae_ext (in a source checkout: pip install --no-build-isolation -e .), with "
        "VAE_EXT_NATIVE unset.",
        RuntimeWarning,
        stacklevel=level_of_caller(),
    )
else:
    available = True
    unavailable_reason = ""
    compiler = _C.compiler
    # 63 random bits from torch's default CPU generator, as `seeds.new_seed_tensor` draws.
    new_cpu_seed = _C.new_cpu_seed


def load_cuda() -> str:
    """Registers the CUDA kernels; returns the reason if that is not possible."""
    if not available:
        return "the native library is missing"
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    library = importlib.util.find_spec("vae_ext._cuda")
    if library is None or library.origin is None:
        return "it was built without nvcc, the CUDA compiler"
    try:
        torch.ops.load_library(library.origin)
    except OSError as error:
        return str(error)
    return ""


# Empty where the CUDA kernels serve CUDA tensors.
cuda_unavailable_reason = load_cuda()
cuda_available = not cuda_unavailable_reason


@functools.cache
def warn_of_missing_cuda() -> None:
    """Warns once; silent slowness would be worse."""
    warnings.warn(
        f"vae_ext has no CUDA kernels here: {cuda_unavailable_reason}. CUDA tensors go through "
        "plain PyTorch, which is slower. To fix it, install a CUDA toolkit of torch's version and "
        "run: VAE_EXT_CUDA=1 pip install --no-build-isolation --force-reinstall --no-deps vae_ext "
        "(in a source checkout: VAE_EXT_CUDA=1 pip install --no-build-isolation -e .).",
        RuntimeWarning,
        stacklevel=level_of_caller(),
    )


def simd_levels() -> list[str]:
    """Instruction sets that were compiled in and that this processor runs, best first."""
    return list(_C.simd_levels()) if available else []


def simd_level() -> str:
    """The instruction set in use: "avx512", "avx2" or "baseline"; "" without native code."""
    return str(_C.simd_level()) if available else ""


def set_simd_level(level: str) -> None:
    """Force an instruction set, as the environment variable VAE_EXT_SIMD does at start."""
    if level not in simd_levels():
        raise ValueError(f"level was {level!r}, expected one of {simd_levels()}")
    _C.set_simd_level(level)
