"""Loads the native library; without it the reference serves, with one warning that says why."""

from __future__ import annotations

import warnings

try:
    import vae_ext._C as _C  # registers torch.ops.vae_ext.*
except ImportError as error:
    available = False
    cause = str(error)
    warnings.warn(
        f"vae_ext runs without its native library: {cause}. Every function works, through plain "
        "PyTorch and therefore slower. To mend it, install a C++ compiler (g++ 11 or newer) and "
        "run: pip install --no-build-isolation --force-reinstall --no-deps vae_ext "
        "(in a source checkout: pip install --no-build-isolation -e .), with VAE_EXT_NATIVE unset.",
        RuntimeWarning,
        stacklevel=3,
    )
else:
    available = True
    cause = ""
    # 63 random bits from torch's default CPU generator, the same that `seeds.draw` takes.
    draw_cpu_seed = _C.draw_cpu_seed


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
