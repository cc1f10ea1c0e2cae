"""Counts what the CPU's kernels execute: instructions for an element, at the AVX2 level.

    python -m tools.count                held to the committed budget
    python -m tools.count --all          and all of them printed
    python -m tools.count --write        as the new budget

Each kernel of the built library runs once on a tile under valgrind's callgrind. Seconds differ from
machine to machine and from run to run; these counts depend on the sources and the compiler alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .budget import exceeded

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "csrc/testing/count_instructions.cpp"
BUDGET = ROOT / "tools/instructions.json"
TILE = 256  # kTile in csrc/cpu/kernels.h
# A compiler may spend an instruction more on each vector of eight for reasons of its own.
ONE_OF_A_VECTOR = 0.13


def needed(command: str) -> str:
    found = shutil.which(command)
    if found is None:
        sys.exit(f"{command} is missing (on Debian: apt-get install {command})")
    return found


def kernels_object() -> Path:
    """Of the library as it was built last."""
    found = list(ROOT.glob("build/temp.*/csrc/cpu/kernels_avx2.o"))
    if not found:
        sys.exit("no kernels_avx2.o under build/: build the library first, as make count does")
    return max(found, key=lambda path: path.stat().st_mtime)


def compiler() -> str:
    """That made the library."""
    comment = subprocess.run(
        [needed("readelf"), "-p", ".comment", str(kernels_object())],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    name = re.search(r"(GCC: .*|clang version .*)", comment)
    return name[1].strip() if name else "unknown"


def count() -> dict[str, float]:
    """Instructions for an element, by kernel."""
    with tempfile.TemporaryDirectory() as folder:
        program, out = Path(folder, "count"), Path(folder, "callgrind")
        built = [os.environ.get("CXX", "g++"), "-std=c++20", "-O2", str(SOURCE)]
        subprocess.run([*built, str(kernels_object()), "-o", str(program)], check=True)
        run = [needed("valgrind"), "--quiet", "--tool=callgrind"]
        subprocess.run([*run, f"--callgrind-out-file={out}", str(program)], check=True)
        return parse([path.read_text() for path in Path(folder).glob("callgrind.*")])


def parse(dumps: list[str]) -> dict[str, float]:
    """What callgrind wrote where the program asked it to, in the order of the program."""
    found = []
    for text in dumps:
        part, name, total = (
            re.search(pattern, text, re.MULTILINE)
            for pattern in (r"^part: (\d+)", r"Client Request: (.*)$", r"^summary: (\d+)")
        )
        if part and name and total:
            found.append((int(part[1]), name[1], round(int(total[1]) / TILE, 2)))
    return {name: n for _, name, n in sorted(found)}


def compare(found: dict[str, float], budget: dict[str, float]) -> list[str]:
    """What costs more than it did, or is on one side only."""
    gone = [f"{name}: in the budget, and no kernel" for name in budget if name not in found]
    return gone + exceeded(found, budget, digits=2, slack=ONE_OF_A_VECTOR)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.count", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--all", action="store_true", help="print every kernel")
    parser.add_argument("--write", action="store_true", help="make the counts the new budget")
    args = parser.parse_args()
    found, made_by = count(), compiler()
    if args.write:
        document = {"compiler": made_by, "instructions": found}
        BUDGET.write_text(json.dumps(document, indent=1) + "\n")
    document = json.loads(BUDGET.read_text())
    budget = document["instructions"]
    for name, now in found.items() if args.all else ():
        print(f"{name:60} {budget.get(name, 0):7.2f} {now:7.2f}")
    if document["compiler"] != made_by:
        print(f"the budget is of {document['compiler']}, and this is {made_by}: not compared")
        return 0 if found else 1
    complaints = compare(found, budget)
    for complaint in complaints:
        print(complaint)
    print(f"{len(found)} kernels, {len(complaints)} complaints")
    return 0 if found and not complaints else 1


if __name__ == "__main__":
    sys.exit(main())
