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


def times_of(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, float]]:
    return {name: vars(t) for name, t in summarize(list(interleave(steps, rounds, CPU))).items()}


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


def write(out: Path | None, results: list[Result], **more: object) -> None:
    """Where a file was asked for."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine.describe(CPU), **more, "results": results}
    out.write_text(json.dumps(document, indent=1) + "\n")


def run(
    description: str | None,
    cases: Mapping[str, Callable[[], dict[str, Step]]],
    row: Callable[[Result], str],
) -> None:
    """A program that measures each case and prints it as a row."""
    args = options(description, rounds=21).parse_args()
    torch.set_num_threads(args.threads)
    results: list[Result] = []
    for what, case in cases.items():
        results.append({"what": what, "times": times_of(case(), args.rounds)})
        print(row(results[-1]), flush=True)
    write(args.out, results)
