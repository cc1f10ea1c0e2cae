"""Give the raw words to dieharder's statistical tests, in the orders in which they are used.

    python tools/rng_battery.py [--full] [--out out/rng-battery]

dieharder is taken from the PATH, or fetched from Debian's packages into build/ (no root needed).
Writes battery.md; exits with 1 if a test fails. The short form takes some minutes; the full one,
all of dieharder's tests over each order, hours.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import vae_ext

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("dieharder", "libdieharder3", "libgsl27", "libgslcblas0")

# dieharder's numbers: birthdays, rank 32 x 32, count the 1s, runs, monobit, STS runs, serial (1 to
# 16 bits), lagged sums, distances of bytes, DCT.
SHORT = [
    ["-d", "0"],
    ["-d", "2"],
    ["-d", "8"],
    ["-d", "15"],
    ["-d", "100"],
    ["-d", "101"],
    ["-d", "102"],
    ["-d", "203", "-n", "3"],
    ["-d", "206"],
    ["-d", "207"],
]

SEED = 20_000_000
SEEDS, COLUMN = 4096, 1024


def words(n: int, seed: int, stream: int) -> np.ndarray:
    return vae_ext.testing.philox_words(n, seed, stream).numpy().astype(np.uint32)


def one_stream() -> Iterator[np.ndarray]:
    """The first 2^26 words of a stream, in order; then those of the next seed."""
    seed = SEED
    while True:
        yield from np.split(words(1 << 26, seed, 0), 64)
        seed += 1


def across(by_stream: bool) -> Iterator[np.ndarray]:
    """Word i of 4096 consecutive seeds (or streams), then word i + 1 of them."""
    first = 0
    while True:
        rows = [
            words(COLUMN, *((SEED, first + k) if by_stream else (SEED + first + k, 0)))
            for k in range(SEEDS)
        ]
        yield np.ascontiguousarray(np.stack(rows).T)
        first += SEEDS


def calls() -> Iterator[np.ndarray]:
    """What a training loop draws: the words of a 128 x 20 latent at each step's seed."""
    torch.manual_seed(SEED)
    while True:
        seeds = torch.empty(1024, dtype=torch.int64).random_().tolist()
        yield np.concatenate([words(2560, seed, 0) for seed in seeds])


ORDERS = {
    "one stream": one_stream,
    "across seeds": lambda: across(by_stream=False),
    "across streams": lambda: across(by_stream=True),
    "training steps": calls,
}


@dataclass
class Result:
    order: str
    lines: list[str] = field(default_factory=list)
    gigabytes: float = 0
    seconds: float = 0

    def count(self, word: str) -> int:
        return sum(word in line for line in self.lines)


def find_dieharder() -> tuple[str, dict[str, str]]:
    """The program, and the environment that it needs."""
    found = shutil.which("dieharder")
    if found:
        return found, dict(os.environ)
    folder = ROOT / "build/dieharder"
    program = folder / "root/usr/bin/dieharder"
    if not program.exists():
        if not shutil.which("apt-get"):
            sys.exit(
                "dieharder is not on the PATH, and there is no apt-get to fetch it: install it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        print("fetching dieharder from Debian's packages ...", flush=True)
        fetch = ["apt-get", "download", *PACKAGES]
        if subprocess.run(fetch, cwd=folder, capture_output=True, check=False).returncode:
            # A machine whose lists are old or empty.
            subprocess.run(["apt-get", "update"], capture_output=True, check=False)
            if subprocess.run(fetch, cwd=folder, check=False).returncode:
                sys.exit("dieharder could not be fetched: install it (apt-get install dieharder)")
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], check=True)
    usr_lib = folder / "root/usr/lib"
    libraries = ":".join(map(str, [usr_lib, *usr_lib.glob("*-linux-gnu")]))
    return str(program), {**os.environ, "LD_LIBRARY_PATH": libraries}


def feed(command: list[str], env: dict[str, str], source: Iterator[np.ndarray]) -> tuple[str, int]:
    """The output of one run of dieharder, and how many bytes it was given."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False, env=env
    )
    assert process.stdin is not None
    given = 0
    with ThreadPoolExecutor(1) as reader:
        assert process.stdout is not None
        output = reader.submit(process.stdout.read)
        try:
            while process.poll() is None:
                block = next(source)
                process.stdin.write(block.tobytes())
                given += block.nbytes
        except BrokenPipeError:  # it has read enough
            pass
        text = output.result().decode()
    if process.wait() != 0:
        sys.exit(f"dieharder failed: {' '.join(command)}\n{text}")
    return text, given


def run(order: str, full: bool) -> Result:
    program, env = find_dieharder()
    source = ORDERS[order]()
    result = Result(order)
    begin = time.monotonic()
    for arguments in [["-a"]] if full else SHORT:
        text, given = feed([program, "-g", "200", *arguments], env, source)
        result.gigabytes += given / 1e9
        result.lines += [
            line for line in text.splitlines() if re.search(r"PASSED|WEAK|FAILED", line)
        ]
        print(f"{order}: {len(result.lines)} results", flush=True)
    result.seconds = time.monotonic() - begin
    return result


def report(results: list[Result], full: bool) -> str:
    lines = [
        "# Statistical tests of the raw words",
        "",
        f"Written by `make rng-battery{' ARGS=--full' if full else ''}`: dieharder 3.31.1 on the "
        "words of `philox_words`, through its standard input, in the orders in which they are "
        "used. Among so many p-values one in a hundred is WEAK by chance (beyond 0.5 % of either "
        "side); FAILED is beyond 0.00005 %.",
        "",
        "| order | given | results | passed | weak | failed | time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.order} | {r.gigabytes:.1f} GB | {len(r.lines)} | {r.count('PASSED')} | "
        f"{r.count('WEAK')} | {r.count('FAILED')} | {r.seconds / 60:.0f} min |"
        for r in results
    ]
    for r in results:
        about = (ORDERS[r.order].__doc__ or "").strip()
        lines += ["", f"## {r.order}", "", *([about, ""] if about else []), "```"]
        lines += ["test_name            |ntup| tsamples |psamples|  p-value |Assessment", *r.lines]
        lines += ["```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="all of dieharder's tests")
    parser.add_argument("--out", type=Path, default=Path("out/rng-battery"))
    parser.add_argument("--orders", nargs="+", choices=list(ORDERS), default=list(ORDERS))
    args = parser.parse_args()
    find_dieharder()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda order: run(order, args.full), args.orders))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "battery.md").write_text(report(results, args.full))
    failed = sum(r.count("FAILED") for r in results)
    total = sum(len(r.lines) for r in results)
    print(
        f"{total} results, {sum(r.count('WEAK') for r in results)} weak, {failed} failed; "
        f"see {args.out / 'battery.md'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
