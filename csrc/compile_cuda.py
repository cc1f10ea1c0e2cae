"""Compiles csrc/cuda for NVIDIA GPUs; no GPU is needed. setup.py and `make test` build with it.

    python csrc/compile_cuda.py --archs "8.0;9.0+PTX" --out build/cuda

prints what was compiled, with the registers and spills that the compiler reports, and fails on any
warning or spill.

    python csrc/compile_cuda.py --on-host --out build/cuda-on-host

compiles the same files for the CPU (csrc/testing/cuda_on_host.h), for the tests.
Objects are rebuilt only when what they include has changed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CUDA = ROOT / "csrc/cuda"
FORMULAS = ROOT / "csrc/ops/formulas.def"
DEFAULT_ARCHS = "7.5;8.0;9.0+PTX"
OLDEST = (12, 0)  # that compiles C++20
# The same C interface that the C++ code uses.
TARGET_VERSION = "-DTORCH_TARGET_VERSION=0x020a000000000000ULL"


class CompileError(Exception):
    pass


def find_nvcc() -> Path | None:
    """From CUDA_HOME, the PATH, the usual place, or NVIDIA's packages beside this Python."""
    homes = [Path(os.environ[v]) for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    on_path = shutil.which("nvcc")
    candidates = [home / "bin/nvcc" for home in homes]
    candidates += [Path(on_path)] if on_path else []
    candidates.append(Path("/usr/local/cuda/bin/nvcc"))
    site = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    candidates += sorted(site.glob("cu*/bin/nvcc"), reverse=True)
    return next((c for c in candidates if os.access(c, os.X_OK)), None)


def nvcc_version(nvcc: Path) -> tuple[int, int]:
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", text)
    if not found:
        raise CompileError(f"{nvcc} does not say its version: {text!r}")
    return int(found[1]), int(found[2])


def parse_archs(text: str) -> list[tuple[str, bool]]:
    """[("80", False), ("90", True)] from "8.0;9.0+PTX", as TORCH_CUDA_ARCH_LIST is written."""
    archs = []
    for part in re.split(r"[;, ]+", text.strip()):
        found = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", part)
        if not found:
            raise CompileError(f"the architecture was {part!r}, expected one like 9.0 or 9.0+PTX")
        archs.append((found[1] + found[2], found[3] is not None))
    return archs


class Source(NamedTuple):
    path: Path
    object: str
    flags: tuple[str, ...] = ()


def sources() -> list[Source]:
    """The files of csrc/cuda; formula_ops.cu once for each formula, so that they compile beside
    each other."""
    found = [Source(p, p.stem) for p in sorted(CUDA.glob("*.cu")) if p.stem != "formula_ops"]
    names = re.findall(r"^VAE_EXT_\w+\((\w+),", FORMULAS.read_text(), re.MULTILINE)
    return found + [
        Source(CUDA / "formula_ops.cu", name, (f"-DVAE_EXT_PART={i}",))
        for i, name in enumerate(names)
    ]


def common_flags() -> list[str]:
    from torch.utils.cpp_extension import include_paths

    return ["-std=c++20", TARGET_VERSION, *[f"-isystem={path}" for path in include_paths()]]


def device_flags(archs: list[tuple[str, bool]]) -> list[str]:
    targets = []
    for arch, ptx in archs:
        code = f"[sm_{arch},compute_{arch}]" if ptx else f"sm_{arch}"
        targets += ["-gencode", f"arch=compute_{arch},code={code}"]
    return [
        *common_flags(),
        "-O3",
        *targets,
        "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-unused-parameter",
        "-Werror=all-warnings",
        "--resource-usage",
        "-DUSE_CUDA",  # for torch's declaration of the current stream
    ]


def compile_sources(
    compiler: str, flags: list[str], out: Path, sources: list[Source]
) -> list[Path]:
    """Their objects, with the compiler's report of each beside it."""
    from ninja import BIN_DIR, ninja_syntax

    out.mkdir(parents=True, exist_ok=True)
    quoted = " ".join(f"'{flag}'" for flag in flags)
    objects = [out.resolve() / f"{source.object}.o" for source in sources]
    with open(out / "build.ninja", "w") as file:
        writer = ninja_syntax.Writer(file)  # type: ignore[arg-type]
        writer.rule(
            "compile",
            f"'{compiler}' {quoted} $more -MMD -MF $out.d -c $in -o $out > $out.log 2>&1 "
            "|| { cat $out.log; exit 1; }",
            description=f"{Path(compiler).name} $in",
            depfile="$out.d",
            deps="gcc",
        )
        # The longest first.
        for source, target in sorted(
            zip(sources, objects, strict=True), key=lambda pair: -pair[0].path.stat().st_size
        ):
            writer.build(
                [str(target)],
                "compile",
                [str(source.path)],
                variables={"more": " ".join(source.flags)},
            )
    jobs = os.environ.get("MAX_JOBS")
    command = [str(Path(BIN_DIR) / "ninja"), "-C", str(out), *(["-j", jobs] if jobs else [])]
    if subprocess.run(command, check=False).returncode:
        raise CompileError("the CUDA kernels did not compile")
    return objects


def compile_objects(nvcc: Path, archs: list[tuple[str, bool]], out: Path) -> list[Path]:
    return compile_sources(str(nvcc), device_flags(archs), out, sources())


def host_sources() -> list[Source]:
    return [*sources(), Source(ROOT / "csrc/testing/cuda_on_host.cpp", "cuda_on_host")]


def host_flags() -> list[str]:
    flags = [*common_flags(), "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
    # Pragmas and tricks that are meant for nvcc; torch's headers have unused parameters.
    flags += ["-Werror", "-Wno-unknown-pragmas", "-Wno-unused-parameter"]
    flags = [flag.replace("-isystem=", "-isystem") for flag in flags]
    return [*flags, "-DVAE_EXT_CUDA_ON_HOST", "-xc++"]


def compile_on_host(out: Path) -> Path:
    """A library whose kernels run on the CPU, under torch's CPU key."""
    from torch.utils.cpp_extension import library_paths

    *kernels, parts = compile_sources("c++", host_flags(), out, host_sources())
    target = out.resolve() / "cuda_on_host.so"
    # And one that can be loaded beside the CPU's kernels, since it registers none.
    for library, objects in {target: [*kernels, parts], parts_of(target): [parts]}.items():
        command = ["c++", "-shared", "-o", str(library), *map(str, objects)]
        command += [f"-L{path}" for path in library_paths()] + ["-lc10", "-ltorch", "-ltorch_cpu"]
        if subprocess.run(command, check=False).returncode:
            raise CompileError(f"{library.name} did not link")
    return target


def parts_of(on_host: Path) -> Path:
    """The library of what the tests ask of csrc/cuda besides kernels."""
    return on_host.with_name("cuda_parts_on_host.so")


def link(nvcc: Path, objects: list[Path], target: Path) -> None:
    """Against the CUDA runtime that torch has loaded, whichever build of the same major version.

    libtorch leads to libtorch_cuda where there is one; the library can be linked where there is
    none.
    """
    from torch.utils.cpp_extension import library_paths

    major, _ = nvcc_version(nvcc)
    home = nvcc.resolve().parent.parent
    folders = [home / "lib64", home / "lib", home / "targets/x86_64-linux/lib"]
    folders.append(Path("/usr/local/cuda/lib64"))
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["c++", "-shared", "-o", str(target), *map(str, objects)]
    command += [f"-L{folder}" for folder in folders if folder.is_dir()]
    command += [f"-L{folder}" for folder in library_paths()]
    command += [
        "-lstdc++",
        f"-l:libcudart.so.{major}",
        "-Wl,--no-as-needed",
        "-lc10",
        "-ltorch",
        "-ltorch_cpu",
    ]
    if subprocess.run(command, check=False).returncode:
        raise CompileError(f"{target.name} did not link")


def report(objects: list[Path]) -> dict[str, int]:
    """What the compiler says of all kernels together."""
    text = "".join(Path(f"{o}.log").read_text() for o in objects)
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", text)]
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", text)
    return {
        "kernels": len(registers),
        "most registers": max(registers),
        "kernels that spill": sum(a != "0" or b != "0" for a, b in spills),
        "kernels with a stack frame": len(re.findall(r"\b[1-9]\d* bytes stack frame", text)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compile the CUDA kernels.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--archs", default=os.environ.get("VAE_EXT_CUDA_ARCHS", "8.0;9.0+PTX"))
    parser.add_argument("--out", type=Path, default=ROOT / "build/cuda")
    parser.add_argument("--find", action="store_true", help="only say which nvcc there is")
    parser.add_argument("--on-host", action="store_true", help="compile for the CPU, without nvcc")
    args = parser.parse_args()
    if args.on_host:
        print(compile_on_host(args.out))
        return
    nvcc = find_nvcc()
    if nvcc is None or nvcc_version(nvcc) < OLDEST:
        sys.exit(
            f"no nvcc of CUDA {OLDEST[0]} or newer: install a CUDA toolkit, or nvidia-cuda-nvcc, "
            "-runtime, -crt, -cccl and nvidia-nvvm from PyPI"
        )
    if args.find:
        print(nvcc)
        return
    try:
        objects = compile_objects(nvcc, parse_archs(args.archs), args.out)
        link(nvcc, objects, args.out / "_cuda.so")
    except CompileError as error:
        sys.exit(str(error))
    found = report(objects)
    print(
        f"CUDA kernels compiled by nvcc {'.'.join(map(str, nvcc_version(nvcc)))} for {args.archs}: "
        f"{len(objects)} files, no warnings; "
        + ", ".join(f"{n} {what}" for what, n in found.items())
    )
    if found["kernels that spill"]:
        sys.exit("a kernel spills registers: see the .log files in " + str(args.out))


if __name__ == "__main__":
    main()
