"""Builds the native library vae_ext._C. Everything else about the package is in pyproject.toml.

Environment:
    VAE_EXT_NATIVE=0         install the Python code alone (the pure-PyTorch reference serves)
    VAE_EXT_CUDA=auto|0|1    CUDA kernels: where a compiler is found (default) | never | required
    VAE_EXT_CUDA_ARCHS=...   their architectures, as TORCH_CUDA_ARCH_LIST takes them
    VAE_EXT_DEBUG=1          no optimization, debug symbols, assertions
    VAE_EXT_SANITIZE=1       debug build under the address and undefined-behaviour sanitizers
    MAX_JOBS=n               compile at most n files at once
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "vae_ext/version.py").read_text()).group(1)


def flag(name: str) -> bool:
    value = os.environ.get(name, "").lower()
    if value not in ("", "0", "1"):
        sys.exit(f"vae_ext: {name} was {value!r}, expected 0 or 1")
    return value == "1"


def check_cuda_switch() -> None:
    """The CUDA kernels are not part of this version: say so to who requires them."""
    wanted = os.environ.get("VAE_EXT_CUDA", "auto").lower()
    if wanted not in ("auto", "0", "1"):
        sys.exit(f"vae_ext: VAE_EXT_CUDA was {wanted!r}, expected auto, 0 or 1")
    if wanted == "1":
        sys.exit("vae_ext: VAE_EXT_CUDA=1, but this version has no CUDA kernels yet")
    print("vae_ext: building the CPU kernels; CUDA tensors go through the reference", flush=True)


def compile_flags() -> list[str]:
    flags = [
        "-std=c++20",
        "-Wall",
        "-Wextra",
        # The stable-ABI headers have unused parameters.
        "-Wno-unused-parameter",
        "-fvisibility=hidden",
        # Let comparisons and square roots vectorize. Nothing here reads errno or traps; NaN, inf
        # and the order of operations keep their meaning.
        "-fno-math-errno",
        "-fno-trapping-math",
        "-DTORCH_TARGET_VERSION=0x020a000000000000ULL",
        f'-DVAE_EXT_VERSION="{VERSION}"',
    ]
    if flag("VAE_EXT_SANITIZE"):
        return [*flags, "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    if flag("VAE_EXT_DEBUG"):
        return [*flags, "-O0", "-g"]
    return [*flags, "-O3", "-g0"]


def extensions() -> list[Extension]:
    if os.environ.get("VAE_EXT_NATIVE", "1") == "0":
        return []
    sources = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/**/*.cpp"))
    headers = sorted(
        str(p.relative_to(ROOT))
        for suffix in ("h", "inl")
        for p in ROOT.glob(f"csrc/**/*.{suffix}")
    )
    link = ["-fsanitize=address,undefined"] if flag("VAE_EXT_SANITIZE") else []
    return [Extension("vae_ext._C", sources, depends=headers, extra_link_args=link)]


class MissingTorch(build_ext):
    def run(self) -> None:
        if self.extensions:
            sys.exit(
                "vae_ext: building the native library needs torch >= 2.10, which is not installed "
                "here. Install it first, or build without --no-build-isolation, or set "
                "VAE_EXT_NATIVE=0 for the Python code alone."
            )


def build_command() -> type[build_ext]:
    # Metadata and source distributions need no torch, and a build without it gets a clear word.
    if importlib.util.find_spec("torch") is None:
        return MissingTorch
    from torch.utils.cpp_extension import BuildExtension, include_paths, library_paths

    class BuildNative(BuildExtension):
        def build_extensions(self) -> None:
            import pybind11

            check_cuda_switch()
            for extension in self.extensions:
                extension.include_dirs = [pybind11.get_include(), *include_paths()]
                extension.library_dirs = library_paths()
                # Only the stable C interface of these is used: no symbol changes between releases.
                extension.libraries = ["c10", "torch", "torch_cpu"]
                extension.extra_compile_args = compile_flags()
            super().build_extensions()

    return BuildNative


setup(ext_modules=extensions(), cmdclass={"build_ext": build_command()})
