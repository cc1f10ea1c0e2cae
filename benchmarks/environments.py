"""What threads, other processes and the allocator do to a step: for docs/cpu.md.

    python -m benchmarks.environments --out out/environments.json

Each row is a program of its own under another environment: sample and KL, forward and backward, of
256 x 4096 and 256 x 16384 elements, and a Bernoulli likelihood of 128 x 20, beside eager code.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from . import report
from .ops import Contest
from .table import environment_row

STEPS = [("sample_kl", (256, 4096)), ("sample_kl", (256, 16384)), ("bernoulli", (128, 20))]
# Memory that was freed is kept and used again, instead of returned to the kernel, which clears it.
KEEP = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
HUGE = "glibc.malloc.hugetlb=1"
TWO = {"OMP_NUM_THREADS": "2"}
# Where it is measured, and what is set.
ENVIRONMENTS: dict[str, tuple[str, dict[str, str]]] = {
    "two threads": ("here", TWO),
    "one thread": ("here", {"OMP_NUM_THREADS": "1"}),
    "four threads on two cores": ("here", {"OMP_NUM_THREADS": "4"}),
    "in a worker of a DataLoader": ("worker", TWO),
    "beside a busy process": ("neighbour", TWO),
    "beside a busy process, OMP_WAIT_POLICY=passive": (
        "neighbour",
        {**TWO, "OMP_WAIT_POLICY": "passive"},
    ),
    "memory kept": ("here", {**TWO, "GLIBC_TUNABLES": KEEP}),
    "huge pages": ("here", {**TWO, "GLIBC_TUNABLES": HUGE}),
    "memory kept, huge pages": ("here", {**TWO, "GLIBC_TUNABLES": f"{HUGE}:{KEEP}"}),
}
Times = dict[str, dict[str, dict[str, float]]]


def measured(rounds: int) -> Times:
    found: Times = {}
    for op, shape in STEPS:
        contest = Contest(op, shape, torch.float32, report.CPU, ("eager",))
        steps = {name: contest.steps[name] for name in ("eager", "vae_ext")}
        found[f"{op} {shape[0]} × {shape[1]}"] = report.times_of(steps, rounds)
    return found


class InWorker(torch.utils.data.Dataset[Times]):
    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> Times:
        return measured(self.rounds)


def spin() -> None:
    while True:
        pass


def as_worker(rounds: int) -> Times:
    loader = DataLoader(InWorker(rounds), num_workers=1, batch_size=None)
    (found,) = loader
    return dict(found)


def beside_neighbour(rounds: int) -> Times:
    neighbour = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    neighbour.start()
    try:
        return measured(rounds)
    finally:
        neighbour.kill()


WAYS: dict[str, Callable[[int], Times]] = {
    "here": measured,
    "worker": as_worker,
    "neighbour": beside_neighbour,
}


def under(way: str, environment: dict[str, str], rounds: int) -> Times:
    command = [sys.executable, "-m", "benchmarks.environments"]
    command += ["--rounds", str(rounds), "--way", way]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Times = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=WAYS, help="only measure, with the environment as it is")
    args = parser.parse_args()
    if args.way:
        print(json.dumps(WAYS[args.way](args.rounds)))
        return
    results: list[report.Result] = []
    for what, (way, environment) in ENVIRONMENTS.items():
        results.append({"what": what, "times": under(way, environment, args.rounds)})
        print(environment_row(results[-1]), flush=True)
    report.write(args.out, results)


if __name__ == "__main__":
    main()
