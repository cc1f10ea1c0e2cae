"""Builds the emulator for this machine, and loads the CUDA library on it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from .extract import extract_all

SOURCES = Path(__file__).resolve().parent / "src"
FLAGS = ["-std=c++20", "-O3", "-march=native", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
# What a card fuses is an instruction of its own.
FLAGS += ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
RUNTIME = "libcudart.so.13"  # the name that the library asks for


def build(out: Path) -> Path:
    """The stand-in for the CUDA runtime."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / RUNTIME
    inputs = sorted(SOURCES.iterdir())
    newest = max(p.stat().st_mtime for p in inputs)
    if target.exists() and target.stat().st_mtime > newest:
        return target
    from ninja import BIN_DIR, ninja_syntax

    with open(out / "build.ninja", "w") as file:
        writer = ninja_syntax.Writer(file)  # type: ignore[arg-type]
        writer.rule(
            "compile",
            f"c++ {' '.join(FLAGS)} -MMD -MF $out.d -c $in -o $out",
            depfile="$out.d",
            deps="gcc",
        )
        exports = SOURCES / "exports.map"
        writer.rule(
            "link",
            f"c++ -shared -Wl,-soname,{RUNTIME} -Wl,--version-script={exports} -o $out $in -ldl",
        )
        objects = []
        for source in inputs:
            if source.suffix == ".cpp":
                objects.append(f"{source.stem}.o")
                writer.build([objects[-1]], "compile", [str(source)])
        writer.build([RUNTIME], "link", objects)
    done = subprocess.run(
        [str(Path(BIN_DIR) / "ninja"), "-C", str(out)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return target


class Emulator:
    """The CUDA library on the emulator: its kernels serve the CPU's tensors of this process."""

    def __init__(self, folder: Path, architecture: int) -> None:
        import torch

        programs = extract_all(objects_of(folder), architecture)
        os.environ["VAE_EXT_EMULATED_PROGRAMS"] = ":".join(str(p.resolve()) for p in programs)
        # Global, so that the library finds here what it would ask of CUDA and of torch.
        self.runtime = ctypes.CDLL(
            str(build(folder / "emulator").resolve()), mode=ctypes.RTLD_GLOBAL
        )
        self.runtime.launches.restype = ctypes.c_int64
        self.runtime.emulator_problems.restype = ctypes.c_int64
        self.runtime.emulator_run_blocks.argtypes = [ctypes.c_int64, ctypes.c_int]
        torch.ops.load_library(str((folder / "_cuda.so").resolve()))

    def launches(self) -> int:
        return int(self.runtime.launches())

    def problems(self) -> int:
        """How often a kernel did what a card does not, or not reliably; printed by kind."""
        return int(self.runtime.emulator_problems())

    def run_blocks(self, most: int = 2**62, *, last: bool = False) -> None:
        """Of the launches that follow, the first or the last blocks alone."""
        self.runtime.emulator_run_blocks(most, int(last))

    def forget_counts(self) -> None:
        self.runtime.emulator_forget_counts()

    def write_counts(self, path: Path) -> None:
        self.runtime.emulator_write_counts(str(path).encode())

    def disturb(self, on: bool) -> None:
        """Results of the special-function unit one unit in the last place off, up or down."""
        self.runtime.emulator_disturb(int(on))


def objects_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.o") if p.with_name(p.name + ".log").exists())
