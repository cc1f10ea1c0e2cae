"""Does the emulator notice? Plants faults that run by luck, or not at all, on a card, compiles the
one file that has them (csrc/cuda/bounded_kl.cu), and runs tests of it on the machine code: each
must fail.

    python -m tools.emulator.mutants [--folder build/cuda]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from .__main__ import ROOT, cuda_tools, pytest_command

COPY = ROOT / "build/emulated-mutants"
PART = "bounded_kl"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    complaint: str  # of the emulator or of the test


SUMS = ["tests/test_parity.py", "-k", "bounded_kl_hard and event"]
LARGE = "tests/test_machine_code.py::test_a_divergence_of_more_than_two_to_the_31_elements"
MUTANTS = [
    Mutant(
        "a misaligned view is read in groups",
        "operand.cuh",
        "reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0);",
        "bytes > 0);",
        ["tests/test_layouts.py", "-k", "bounded_kl"],
        "misaligned: LDG",
    ),
    Mutant(
        "a barrier is missing",
        "reduce.cuh",
        "  __syncthreads();\n  // A sum of an event",
        "  // A sum of an event",
        SUMS,
        "warps meet in shared memory without a barrier",
    ),
    Mutant(
        # (A wrong mask is none in machine code: nvcc leaves it out where the lanes are together.)
        "a shuffle that some lanes do not reach",
        "reduce.cuh",
        "      sum += __shfl_xor_sync(0xffffffffu, sum, mask);",
        "      if (i < count) sum += __shfl_xor_sync(0xffffffffu, sum, mask);",
        SUMS,
        "a shuffle of lanes that have parted",
    ),
    Mutant(
        "an index wraps at two to the 31",
        "map.cuh",
        "(static_cast<int64_t>(blockIdx.x) * kThreads + static_cast<int64_t>(threadIdx.x)) *",
        "static_cast<int32_t>((blockIdx.x * kThreads + threadIdx.x) * V::kWidth) / V::kWidth *",
        [LARGE],
        "segmentation fault",
    ),
]


def run(folder: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        pytest_command(folder, 90, ["-x", "-s", *tests]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def planted(mutant: Mutant) -> Path:
    """A copy of csrc with the fault."""
    source = COPY / "csrc"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "csrc", source)
    path = source / "cuda" / mutant.file
    text = path.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: it no longer fits {mutant.file}"
    path.write_text(text.replace(mutant.old, mutant.new))
    return source


def compile_part(source: Path, folder: Path) -> Path:
    """The library with that file compiled anew, and the other objects as they are."""
    tools = cuda_tools()
    nvcc = tools.find_nvcc()
    out = COPY / "cuda"
    out.mkdir(parents=True, exist_ok=True)
    for stale in [*out.glob("*.o"), *out.glob("*.log"), *out.glob(f"{PART}.*program*")]:
        stale.unlink()
    part = tools.Source(source / f"cuda/{PART}.cu", PART)
    objects = tools.compile_sources(str(nvcc), tools.device_flags([("90", False)]), out, [part])
    for other in folder.glob("*.o"):
        if other.stem != PART:
            objects.append(other)
    tools.link(nvcc, objects, out / "_cuda.so")
    # The emulator asks for the programs of all of them.
    for other in folder.iterdir():
        if other.stem.split(".")[0] != PART and other.suffix in (
            ".o",
            ".log",
            ".program",
            ".index",
        ):
            (out / other.name).unlink(missing_ok=True)
            shutil.copy2(other, out / other.name)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "build/cuda")
    parser.add_argument("--only", default="", help="faults whose names have this word")
    args = parser.parse_args()
    folder, chosen = args.folder, [m for m in MUTANTS if args.only in m.name]
    survivors = []
    for mutant in chosen:
        healthy = run(folder, mutant.tests)
        if healthy.returncode:
            print(healthy.stdout[-3000:] + healthy.stderr[-2000:])
            print(f"{mutant.name}: the tests fail without it")
            return 1
        done = run(compile_part(planted(mutant), folder), mutant.tests)
        output = done.stdout + done.stderr
        caught = done.returncode != 0 and mutant.complaint in output
        if not caught:
            survivors.append(mutant.name)
            print(output[-2000:])
        print(f"{mutant.name}: {mutant.complaint if caught else 'SURVIVED'}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} planted faults caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
