"""Runs the machine code of the CUDA kernels on the CPU, and counts what it executes.

    python -m tools.emulator                   the counts, held to the committed budget
    python -m tools.emulator --full            and before them the whole suite, on the machine code
    python -m tools.emulator --write           the counts as the new budget, and the page's table

The kernels must have been compiled: `make cuda-emulate` does that first. What the table shows is a
ceiling: see docs/emulator.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from tests.devices import KERNELS

from ..budget import exceeded
from . import model
from .build import Emulator
from .rows import Row, rows

ROOT = Path(__file__).resolve().parents[2]
BUDGET = ROOT / "tools/emulator/budget.json"
PAGE = ROOT / "docs/emulator.md"
MARKS = ("<!-- table -->", "<!-- end of table -->")

# The extreme words are the formulas' matter, which the host tests anyway.
LEFT_OUT = ["tests/test_noise.py::test_extreme_words"]


def pytest_command(folder: Path, architecture: int, tests: list[str]) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", f"--cuda-emulated={folder}"]
    command += [f"--architecture={architecture}", *tests]
    return [*command, *(part for test in LEFT_OUT for part in ("--deselect", test))]


def run_suite(folder: Path, architecture: int) -> bool:
    passed = True
    tests = ["tests/accuracy", *(f"tests/test_{name}.py" for name in [*KERNELS, "machine_code"])]
    for test in tests:
        done = subprocess.run(
            pytest_command(folder, architecture, [test]),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        print(f"{test}: {lines[-1] if lines else done.stderr[-400:]}", flush=True)
        if done.returncode:
            passed = False
            print(done.stdout[-6000:] + done.stderr[-2000:])
    return passed


# ---- Counts --------------------------------------------------------------------------------------


class Counted(NamedTuple):
    row: Row
    counts: model.Counts

    @property
    def bytes(self) -> float:
        return self.row.words * self.row.dtype.itemsize


def count(emulator: Emulator, only: list[str]) -> Iterator[Counted]:
    """The kernel of each row that does its work."""
    emulator.run_blocks(3)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "counts"
        for row in rows():
            if only and not any(text in row.key for text in only):
                continue
            emulator.forget_counts()
            row.run()
            emulator.write_counts(report)
            kernels = [
                c
                for c in model.read(report, math.prod(row.shape))
                if not c.kernel.startswith(("add_chunks", "scale"))
            ]
            assert kernels, f"{row.key}: no kernel was launched"
            yield Counted(row, max(kernels, key=lambda c: c.instructions))
    emulator.run_blocks()


def short(kernel: str) -> str:
    return re.sub(r"_kernel.*", "", kernel)


def table(found: list[Counted]) -> str:
    pipes = ("alu", "fma", "fmaheavy", "fp64", "xu", "lsu")
    cards = list(model.BANDWIDTHS)
    head = ["op", "dtype", "shape", "kernel", "registers", "blocks", "instructions", *pipes]
    head += [
        "bytes",
        "loads",
        "stores",
        "conflicts",
        *(f"{card} ceiling" for card in cards),
        "set by",
    ]
    lines = [head, ["---"] * 6 + ["---:"] * (len(head) - 6)]
    for row, counts in found:
        size = row.words * row.dtype.itemsize
        ceilings = [counts.ceiling(size, card) for card in cards]
        lines.append(
            [
                row.name,
                str(row.dtype).removeprefix("torch."),
                " × ".join(map(str, row.shape)),
                short(counts.kernel),
                str(counts.registers),
                str(counts.blocks),
                f"{counts.instructions:.1f}",
                *(f"{counts.pipes[pipe]:.1f}" for pipe in pipes),
                f"{counts.moved:.1f}",
                counts.widths("LDG") or "none",
                counts.widths("STG") or "none",
                f"{counts.extra_rounds:.1f}",
                *(f"{100 * share:.0f} %" for share, _ in ceilings),
                ceilings[-1][1],
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def by_opcode(counts: model.Counts) -> str:
    """The usual ones first; those of a quarter of an instruction and less together."""
    usual = {name: n for name, n in counts.opcodes.items() if n > 0.25}
    shown = [f"{n:.1f} {name}" for name, n in sorted(usual.items(), key=lambda item: -item[1])]
    return ", ".join([*shown, f"{counts.instructions - sum(usual.values()):.1f} others"])


def compare(found: list[Counted], budget: dict[str, float]) -> list[str]:
    """What costs more than it did."""
    return exceeded({row.key: c.instructions for row, c in found}, budget, digits=1)


def write(found: list[Counted], nvcc: str) -> None:
    counts = {row.key: round(c.instructions, 2) for row, c in found}
    BUDGET.write_text(json.dumps({"nvcc": nvcc, "instructions": counts}, indent=1) + "\n")
    before, after = (PAGE.read_text().split(mark) for mark in MARKS)
    PAGE.write_text(before[0] + f"{MARKS[0]}\n\n{table(found)}\n\n{MARKS[1]}" + after[1])


def cuda_tools() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_cuda", ROOT / "csrc/compile_cuda.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nvcc_release() -> str:
    tools = cuda_tools()
    nvcc = tools.find_nvcc()
    return ".".join(map(str, tools.nvcc_version(nvcc))) if nvcc else "none"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.emulator",
        description=(__doc__ or "").split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build/cuda")
    parser.add_argument("--architecture", type=int, default=90)
    parser.add_argument("--full", action="store_true", help="run the whole suite first")
    parser.add_argument(
        "--only", nargs="+", default=[], help="rows with one of these in their name"
    )
    parser.add_argument("--write", action="store_true", help="the budget and the page's table")
    parser.add_argument("--quiet", action="store_true", help="no table")
    parser.add_argument("--opcodes", action="store_true", help="each row by instruction")
    args = parser.parse_args()
    passed = not args.full or run_suite(args.folder, args.architecture)
    if args.full and args.architecture == 90:
        planted = [sys.executable, "-m", "tools.emulator.mutants", "--folder", str(args.folder)]
        passed = subprocess.run(planted, cwd=ROOT, check=False).returncode == 0 and passed
    if args.architecture != 90:
        return 0 if passed else 1  # the counts are of one architecture
    warnings.filterwarnings("ignore")
    emulator = Emulator(args.folder, args.architecture)
    found = list(count(emulator, args.only))
    if args.opcodes:
        for row, counts in found:
            print(f"{row.key}: {by_opcode(counts)}")
    elif not args.quiet:
        print(table(found))
    release = nvcc_release()
    if args.write:
        write(found, release)
        print(f"{len(found)} rows written")
    budget = json.loads(BUDGET.read_text())
    if budget["nvcc"] != release:
        print(f"the budget is of nvcc {budget['nvcc']}, and this is {release}: not compared")
        return 1
    complaints = compare(found, budget["instructions"])
    print(*complaints, sep="\n")
    print(f"{len(found)} rows, {len(complaints)} of them beyond the budget")
    return 0 if passed and not complaints and not emulator.problems() else 1


if __name__ == "__main__":
    sys.exit(main())
