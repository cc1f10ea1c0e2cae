"""What threads, other processes and the allocator do to a step: for docs/cpu.md.

    python -m benchmarks.environments --out out/environments.json

Each row is a program of its own under another environment: sample and KL, forward and backward, of
256 x 4096 and 256 x 16384 elements, and a Bernoulli likelihood of 128 x 20, beside eager code.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from . import report
from .ops import Contest
from .table import environment_row

STEPS = [("sample_kl", (256, 4096)), ("sample_kl", (256, 16384)), ("bernoulli", (128, 20))]
# Memory that was freed is kept and used again, instead of returned to the kernel, which clears it.
KEEP = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "four threads on two cores": {"OMP_NUM_THREADS": "4"},
    "in a worker of a DataLoader": {"OMP_NUM_THREADS": "2", "AS": "worker"},
    "beside a busy process": {"OMP_NUM_THREADS": "2", "AS": "neighbour"},
    "beside a busy process, OMP_WAIT_POLICY=passive": {
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive",
        "AS": "neighbour",
    },
    "memory kept": {"OMP_NUM_THREADS": "2", "GLIBC_TUNABLES": KEEP},
    "huge pages": {"OMP_NUM_THREADS": "2", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    "memory kept, huge pages": {
        "OMP_NUM_THREADS": "2",
        "GLIBC_TUNABLES": f"glibc.malloc.hugetlb=1:{KEEP}",
    },
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


WAYS: dict[str, Callable[[int], Times]] = {"worker": as_worker, "neighbour": beside_neighbour}


def under(environment: dict[str, str], rounds: int) -> Times:
    command = [sys.executable, "-m", "benchmarks.environments", "--rounds", str(rounds), "--inner"]
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
    parser = report.options(__doc__, rounds=15)
    parser.add_argument("--inner", action="store_true", help="only measure, here")
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(WAYS.get(os.environ.get("AS", ""), measured)(args.rounds)))
        return
    results: list[dict[str, Any]] = []
    for what, environment in ENVIRONMENTS.items():
        results.append({"what": what, "times": under(environment, args.rounds)})
        print(environment_row(results[-1]), flush=True)
    report.write(args.out, results)


if __name__ == "__main__":
    main()
