"""Benchmarks two commits beside each other and says what moved.

    python tools/bench_compare.py HEAD~3                        that commit and the working tree
    python tools/bench_compare.py v0.1.0 HEAD --ops kl sample   two commits

Each is built in build/compare, and has a process of its own, which waits while the other's turn is:
two versions of one op cannot be loaded into one process. Round by round each times every op, so
that what else the machine does falls on both. An op has moved if of the rounds' ratios four in five
are on one side of 1 and their median is further from it than --least.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZES = ("128x20", "256x4096", "4096x4096")
OPS = ("sample_kl", "sample", "kl", "bernoulli", "gaussian", "negative_binomial")

# What a side's process runs, with that side's own benchmarks: a line in, a line out.
WORKER = """
import sys
import torch
from benchmarks.harness import block_length, time_block
from benchmarks.ops import Contest
torch.set_num_threads(int(sys.argv[1]))
device, steps = torch.device("cpu"), {}
for line in sys.stdin:
    op, size = line.split()
    if (op, size) not in steps:
        torch.manual_seed(0)
        rows, columns = map(int, size.split("x"))
        step = Contest(op, (rows, columns), torch.float32, device, ()).steps["vae_ext"]
        steps[op, size] = step, block_length(step, 0.02, device)
    print(time_block(*steps[op, size], device), flush=True)
"""


@dataclass(frozen=True)
class Case:
    op: str
    size: str


class Side:
    """A built checkout, and the process that times it."""

    def __init__(self, folder: Path, threads: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(threads)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def milliseconds(self, case: Case) -> float:
        assert self.process.stdin
        assert self.process.stdout
        print(case.op, case.size, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{case.op} {case.size} did not run in {self.process.args!r}")
        return float(line)

    def close(self) -> None:
        self.process.communicate()


@dataclass(frozen=True)
class Comparison:
    """Milliseconds of a case, round by round, before and after."""

    case: Case
    before: Sequence[float]
    after: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [b / a for a, b in zip(self.before, self.after, strict=True)]

    def moved(self, least: float) -> bool:
        ratios = self.ratios
        ratio = statistics.median(ratios)
        same_side = sum((r > 1) == (ratio > 1) for r in ratios)
        return abs(ratio - 1) > least and same_side >= 0.8 * len(ratios)

    def row(self, least: float) -> str:
        ratios = sorted(self.ratios)
        low, high = ratios[len(ratios) // 5], ratios[-1 - len(ratios) // 5]
        median = statistics.median(ratios)
        verdict = ("slower" if median > 1 else "faster") if self.moved(least) else ""
        times = f"{statistics.median(self.before):9.4f} {statistics.median(self.after):9.4f}"
        where = f"{self.case.op:24} {self.case.size:>12}"
        return f"{where} {times}  {median:.3f} ({low:.3f} to {high:.3f}) {verdict}".rstrip()


def compare(sides: tuple[Side, Side], cases: Sequence[Case], rounds: int) -> list[Comparison]:
    times: dict[tuple[int, Case], list[float]] = {}
    for i in range(-1, rounds):  # the first is thrown away
        for case in cases:
            # Each comes first as often as the other.
            for side in (0, 1) if i % 2 else (1, 0):
                found = sides[side].milliseconds(case)
                if i >= 0:
                    times.setdefault((side, case), []).append(found)
    return [Comparison(case, times[0, case], times[1, case]) for case in cases]


def git(*command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def checkout(ref: str) -> Path:
    """A commit, built, in a folder of its own; "." is the working tree."""
    if ref == ".":
        folder = ROOT
    else:
        commit = git("rev-parse", "--verify", f"{ref}^{{commit}}")
        folder = ROOT / "build/compare" / commit[:12]
        if not folder.exists():
            git("worktree", "prune")
            git("worktree", "add", "--detach", str(folder), commit)
    print(f"building {ref} in {folder} ...", flush=True)
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(build, cwd=folder, env={**os.environ, "VAE_EXT_CUDA": "0"}, check=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", default=".", help="a commit; . is the working tree")
    parser.add_argument("--ops", nargs="+", default=list(OPS))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.03, help="that counts as moved")
    args = parser.parse_args()
    before, after = (Side(checkout(ref), args.threads) for ref in (args.before, args.after))
    cases = [Case(op, size) for op in args.ops for size in args.sizes]
    found = compare((before, after), cases, args.rounds)
    print(f"{'op':24} {'size':>12} {'before':>9} {'after':>9}  after / before, and its spread")
    for comparison in found:
        print(comparison.row(args.least))
    moved = sum(c.moved(args.least) for c in found)
    print(f"{moved} of {len(found)} moved by more than {100 * args.least:.0f} %")
    for side in (before, after):
        side.close()


if __name__ == "__main__":
    main()
