"""Builds the native libraries: vae_ext._C, with the ops and the CPU kernels, vae_ext._cuda, and
vae_ext._node_<version>, with the ops' autograd nodes for the torch that is here.
Everything else about the package is in pyproject.toml.

Environment:
    VAE_EXT_NATIVE=0|1|node  the Python code alone (the pure-PyTorch reference serves) | all that
                             follows (default) | the autograd nodes alone, for one more torch
    VAE_EXT_CUDA=auto|0|1    CUDA kernels: where nvcc and torch have the same CUDA version
                             (default) | never | required
    VAE_EXT_CUDA_ARCHS=...   their architectures, as TORCH_CUDA_ARCH_LIST takes them (which is read
                             too); default: those of the cards present, else 7.5, 8.0, 9.0 and PTX
    VAE_EXT_NODE=auto|0|1    the autograd nodes: if they can be built (default) | never | required;
                             without them Python's Functions serve, slower for small tensors
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
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "vae_ext/_version.py").read_text()).group(1)


def flag(name: str) -> bool:
    value = os.environ.get(name, "").lower()
    if value not in ("", "0", "1"):
        sys.exit(f"vae_ext: {name} was {value!r}, expected 0 or 1")
    return value == "1"


def cuda_tools() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_cuda", ROOT / "csrc/compile_cuda.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nvcc_for_torch(tools: ModuleType) -> tuple[Path | None, str]:
    """nvcc, or why the CUDA kernels are not built."""
    import torch

    nvcc = tools.find_nvcc()
    if nvcc is None:
        return None, "no nvcc on the PATH, in CUDA_HOME or in NVIDIA's Python packages"
    major, minor = tools.nvcc_version(nvcc)
    # Forced, it is built for whichever torch will load it.
    if os.environ.get("VAE_EXT_CUDA") != "1":
        if torch.version.cuda is None:
            return None, "this torch is built without CUDA"
        if int(torch.version.cuda.split(".")[0]) != major:
            return None, f"nvcc is of CUDA {major}.{minor}, torch of CUDA {torch.version.cuda}"
    return nvcc, ""


def cuda_archs(tools: ModuleType) -> str:
    import torch

    given = os.environ.get("VAE_EXT_CUDA_ARCHS") or os.environ.get("TORCH_CUDA_ARCH_LIST")
    if given:
        return given
    if torch.cuda.is_available():
        cards = range(torch.cuda.device_count())
        return ";".join(
            sorted({"{}.{}".format(*torch.cuda.get_device_capability(i)) for i in cards})
        )
    return tools.DEFAULT_ARCHS


def common_flags() -> list[str]:
    flags = [
        "-std=c++20",
        "-Wall",
        "-Wextra",
        # torch's headers have unused parameters.
        "-Wno-unused-parameter",
        "-fvisibility=hidden",
    ]
    if flag("VAE_EXT_SANITIZE"):
        return [*flags, "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    if flag("VAE_EXT_DEBUG"):
        return [*flags, "-O0", "-g"]
    return [*flags, "-O3", "-g0"]


def compile_flags() -> list[str]:
    return [
        *common_flags(),
        # Let comparisons and square roots vectorize. Nothing here reads errno or traps; NaN, inf
        # and the order of operations keep their meaning.
        "-fno-math-errno",
        "-fno-trapping-math",
        "-DTORCH_TARGET_VERSION=0x020a000000000000ULL",
        f'-DVAE_EXT_VERSION="{VERSION}"',
    ]


def choice(name: str, choices: tuple[str, ...] = ("auto", "0", "1")) -> str:
    """Of these, the first where nothing is said."""
    value = os.environ.get(name, choices[0]).lower()
    if value not in choices:
        sys.exit(f"vae_ext: {name} was {value!r}, expected one of {', '.join(choices)}")
    return value


def node_name() -> str:
    """Its torch's version in its name, so that no other ever loads it (vae_ext/_native/node.py)."""
    if importlib.util.find_spec("torch") is None:
        return "vae_ext._node"
    import torch

    return "vae_ext._node_" + re.sub(r"\W", "_", torch.__version__)


def extensions() -> list[Extension]:
    native = choice("VAE_EXT_NATIVE", ("1", "0", "node"))
    if native == "0":
        return []
    link = ["-fsanitize=address,undefined"] if flag("VAE_EXT_SANITIZE") else []
    wanted = choice("VAE_EXT_NODE")
    node = [str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/node/*.cpp")]
    nodes = Extension(node_name(), node, extra_link_args=link, optional=wanted == "auto")
    if native == "node":
        return [nodes]
    sources = sorted(
        str(p.relative_to(ROOT)) for room in ("ops", "cpu") for p in ROOT.glob(f"csrc/{room}/*.cpp")
    )
    headers = sorted(
        str(p.relative_to(ROOT))
        for suffix in ("h", "inl", "def")
        for p in ROOT.glob(f"csrc/**/*.{suffix}")
    )
    found = [Extension("vae_ext._C", sources, depends=headers, extra_link_args=link)]
    if wanted != "0":
        found.append(nodes)
    wanted = choice("VAE_EXT_CUDA")
    if wanted != "0":
        kernels = [str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("csrc/cuda/*.cu"))]
        found.append(Extension("vae_ext._cuda", kernels, optional=wanted == "auto"))
    return found


class MissingTorch(build_ext):
    def run(self) -> None:
        if self.extensions:
            sys.exit(
                "vae_ext: building the native library needs torch >= 2.10, which is not installed "
                "here. Install it first, or build without --no-build-isolation, or set "
                "VAE_EXT_NATIVE=0 for the Python code alone."
            )


def build_command() -> type[build_ext]:
    # Metadata and source distributions need no torch, and a build without it gets a clear message.
    if importlib.util.find_spec("torch") is None:
        return MissingTorch
    from torch.utils.cpp_extension import BuildExtension, include_paths, library_paths

    class BuildNative(BuildExtension):
        def build_extensions(self) -> None:
            import pybind11

            found = {e.name.removeprefix("vae_ext.").partition("_")[2]: e for e in self.extensions}
            for extension in self.extensions:
                extension.include_dirs = [pybind11.get_include(), *include_paths()]
                extension.library_dirs = library_paths()
                # Only the stable C interface of these is used: no symbol changes between releases.
                extension.libraries = ["c10", "torch", "torch_cpu"]
                extension.extra_compile_args = compile_flags()
            self.extensions = [found["C"]] if "C" in found else []
            super().build_extensions()
            for name, extension in found.items():
                if name.startswith("node"):
                    self.build_node(extension)
            if "cuda" in found:
                self.build_cuda(found["cuda"])

        def build_node(self, extension: Extension) -> None:
            extension.libraries = [*extension.libraries, "torch_python"]
            extension.extra_compile_args = common_flags()
            built, self.extensions = self.extensions, [extension]
            try:
                super().build_extensions()
            except (BaseError, RuntimeError) as error:
                if not extension.optional:
                    raise
                print(
                    f"vae_ext: no autograd nodes are built, without which small tensors take "
                    f"longer: {error}",
                    flush=True,
                )
                self.extensions = []
            self.extensions = built + self.extensions

        def build_cuda(self, extension: Extension) -> None:
            tools = cuda_tools()
            nvcc, cause = nvcc_for_torch(tools)
            if nvcc is None:
                if not extension.optional:
                    sys.exit(f"vae_ext: VAE_EXT_CUDA=1, but {cause}")
                print(f"vae_ext: no CUDA kernels are built: {cause}", flush=True)
                return
            archs = cuda_archs(tools)
            print(f"vae_ext: CUDA kernels for {archs}, by {nvcc}", flush=True)
            try:
                objects = tools.compile_objects(
                    nvcc, tools.parse_archs(archs), Path(self.build_temp) / "cuda"
                )
                tools.link(nvcc, objects, Path(self.get_ext_fullpath(extension.name)))
            except tools.CompileError as error:
                sys.exit(f"vae_ext: {error}. VAE_EXT_CUDA=0 builds without the CUDA kernels.")
            self.extensions.append(extension)

    return BuildNative


setup(ext_modules=extensions(), cmdclass={"build_ext": build_command()})
