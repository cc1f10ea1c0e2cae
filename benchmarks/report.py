"""What the smaller benchmarks share: their options, cases in turn, and a file of results."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from . import machine
from .harness import Step, interleave, summarize

CPU = torch.device("cpu")
Result = dict[str, Any]


def options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    return parser


def times_of(
    steps: dict[str, Step], rounds: int, device: torch.device = CPU
) -> dict[str, dict[str, float]]:
    samples = list(interleave(steps, rounds, device))
    return {name: vars(t) for name, t in summarize(samples).items()}


BESIDE = "usual | compiled | vae_ext | gain | over compiled"


def beside(result: Result) -> str:
    """A case beside what is usually written, and that compiled: medians and spread, and ratios."""
    times = result["times"]
    cells = [result["what"]]
    for name in ("eager", "compile", "vae_ext"):
        cells.append("{p50:.2f} ({p20:.2f}–{p80:.2f})".format(**times[name]))
    for name in ("eager", "compile"):
        cells.append(f"{times[name]['p50'] / times['vae_ext']['p50']:.1f} ×")
    return " | ".join(cells)


def write(
    out: Path | None, results: list[Result], device: torch.device = CPU, **more: object
) -> None:
    """Where a file was asked for."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine.describe(device), **more, "results": results}
    out.write_text(json.dumps(document, indent=1) + "\n")


def parse(description: str | None) -> argparse.Namespace:
    parser = options(description, rounds=21)
    parser.add_argument("--device", type=torch.device, default=CPU)
    return parser.parse_args()


def run(
    args: argparse.Namespace,
    cases: Mapping[str, Callable[[], dict[str, Step]]],
    row: Callable[[Result], str],
) -> None:
    """Measures each case and prints it as a row. What a case makes is on the device."""
    torch.set_num_threads(args.threads)
    results: list[Result] = []
    for what, case in cases.items():
        with args.device:
            steps = case()
        results.append({"what": what, "times": times_of(steps, args.rounds, args.device)})
        print(row(results[-1]), flush=True)
        write(args.out, results, args.device)
