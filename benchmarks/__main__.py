"""Time the ops, forward and backward, beside the ways in which people write them, in one process.

    python -m benchmarks --ops sample_kl --sizes 128x20 256x4096 --threads 2
    python -m benchmarks --full --dtypes float32 bfloat16 --out results/here
    python -m benchmarks --simd avx2 --ops kl --baselines eager compile compile-max

All contenders take turns within each round. "limit" is the time of a copy of as many bytes as the
op must move, in the same rounds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler announces itself at every step

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

import vae_ext

from . import machine, training
from .harness import Timing, interleave, summarize
from .memory import peak_bytes, saved_bytes
from .ops import BASELINES, DEFAULT_BASELINES, OPS, Contest

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
QUICK = {
    "cpu": [(128, 20), (256, 4096), (256, 16384)],
    "cuda": [(128, 20), (256, 4096), (4096, 16384)],
}
FULL = {
    "cpu": [
        *[(1, 1), (16, 16), (128, 20), (256, 256)],
        *[(256, 4096), (256, 16384), (1024, 16384)],
    ],
    "cuda": [
        *[(128, 20), (256, 256), (256, 4096), (256, 16384), (1024, 16384), (4096, 16384)],
        *[(16384, 16384), (100_000, 10), (1, 10_000_000)],
    ],
}
MOST = 2**26  # elements of several samples together


def size(text: str) -> tuple[int, int]:
    try:
        rows, columns = (int(part) for part in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 256x4096") from None
    if rows < 1 or columns < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is empty")
    return rows, columns


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--ops", nargs="*", choices=tuple(OPS), default=list(OPS))
    parser.add_argument("--sizes", nargs="+", type=size, help="like 256x4096: events x elements")
    parser.add_argument("--dtypes", nargs="+", choices=tuple(DTYPES), default=["float32"])
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), default=["cpu"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--simd", choices=vae_ext.simd_levels(), help="an instruction set, for all")
    parser.add_argument("--baselines", nargs="*", choices=BASELINES, default=DEFAULT_BASELINES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--training", action="store_true", help="whole training steps, too")
    quick = parser.add_mutually_exclusive_group()
    quick.add_argument("--quick", action="store_true", help="three sizes (the default)")
    quick.add_argument("--full", action="store_true", help="sizes from 1 to 2^24, or 2^28 on a GPU")
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.csv")
    return parser.parse_args()


def restrict(level: str) -> None:
    """This program again, in which torch and its compiler have no more than this instruction set.
    They look once, as they start."""
    settings = {
        "VAE_EXT_SIMD": level,
        "ATEN_CPU_CAPABILITY": "default" if level == "baseline" else level,
    }
    if any(os.environ.get(name) != value for name, value in settings.items()):
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **settings})


def gigabytes_per_second(size_in_bytes: int, milliseconds: float) -> float:
    return size_in_bytes / milliseconds / 1e6


def measure(
    op: str,
    shape: tuple[int, int],
    dtype: str,
    device: torch.device,
    args: argparse.Namespace,
    console: Console,
) -> dict[str, object]:
    contest = Contest(op, shape, DTYPES[dtype], device, tuple(args.baselines))
    rounds = interleave(contest.steps, args.rounds, device)
    label = f"{op} {shape[0]} × {shape[1]} {dtype} {device}"
    samples = list(track(rounds, label, total=args.rounds, console=console, transient=True))
    elements = shape[0] * shape[1]
    saved = {
        name: saved_bytes(lambda n=name: contest.forward(n), contest.inputs)  # type: ignore[misc]
        for name in contest.functions
    }
    peak = {name: peak_bytes(contest.steps[name], device) for name in contest.functions}
    word = contest.inputs[0].element_size()
    return {
        "op": op,
        "rows": shape[0],
        "columns": shape[1],
        "dtype": dtype,
        "device": device.type,
        "simd": vae_ext.simd_level(),
        "bytes": contest.bytes,
        "times": summarize(samples),
        "saved_words": {name: n / word / elements for name, n in saved.items()},
        "peak_words": {name: n / word / elements for name, n in peak.items()},
    }


def add_row(table: Table, found: dict[str, object], baselines: list[str]) -> None:
    times: dict[str, Timing] = found["times"]  # type: ignore[assignment]
    ours, copy = times["vae_ext"], times["copy"]
    row = [f"{found['rows']} × {found['columns']}"]
    row += [f"{t.p50:.3f} ({t.p20:.3f}–{t.p80:.3f})" for t in (times[b] for b in baselines)]
    row.append(f"{ours.p50:.3f} ({ours.p20:.3f}–{ours.p80:.3f})")
    row.append(f"{copy.p50:.3f}")
    row.append(f"{gigabytes_per_second(found['bytes'], ours.p50):.1f}")  # type: ignore[arg-type]
    row.append(f"{100 * copy.p50 / ours.p50:.0f}")
    row += [f"{times[b].p50 / ours.p50:.2f}" for b in baselines]
    for key in ("saved_words", "peak_words"):
        words: dict[str, float] = found[key]  # type: ignore[assignment]
        row.append(" / ".join(f"{words[n]:.1f}" for n in ("eager", "vae_ext") if n in words))
    table.add_row(*row)


def flat(found: dict[str, object]) -> dict[str, object]:
    """A row of the CSV file: nested names joined by dots."""
    row: dict[str, object] = {}
    for key, value in found.items():
        if not isinstance(value, dict):
            row[key] = value
            continue
        for name, inner in value.items():
            if isinstance(inner, dict):
                row |= {f"{name}.{quantile}": number for quantile, number in inner.items()}
            else:
                row[f"{key}.{name}"] = inner
    return row


def write(
    out: Path,
    results: list[dict[str, object]],
    steps: list[dict[str, object]],
    device: torch.device,
) -> None:
    plain = [
        {**r, "times": {n: vars(t) for n, t in r["times"].items()}}  # type: ignore[attr-defined]
        for r in results
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine.describe(device), "results": plain, "training": steps}
    out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    rows = [flat(r) for r in plain]
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with open(out.with_suffix(".csv"), "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)


def main() -> None:
    args = parse()
    if args.simd:
        restrict(args.simd)
    torch.set_num_threads(args.threads)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    for kind in args.devices:
        device = torch.device(kind)
        about = machine.describe(device)
        console.print(
            f"vae_ext {about['vae_ext']} ({about['simd']}), torch {about['torch']}, "
            f"{about.get('gpu') or about['processor']}, {args.threads} threads; ms per forward and "
            f"backward, median (p20–p80) of {args.rounds} interleaved rounds"
        )
        results: list[dict[str, object]] = []
        several = len(args.devices) > 1
        out = args.out and args.out.with_name(args.out.name + (f"-{kind}" if several else ""))
        sizes = args.sizes or (FULL if args.full else QUICK)[kind]
        for op in args.ops:
            for dtype in args.dtypes:
                table = Table(title=f"{op}, {dtype}", box=SIMPLE, title_justify="left")
                columns = ["size", *args.baselines, "vae_ext", "limit", "GB/s", "% of copy"]
                columns += [f"{b} / ours" for b in args.baselines]
                for column in (*columns, "saved words", "peak words"):
                    table.add_column(column, justify="right")
                for shape in sizes:
                    if OPS[op].samples > 1 and shape[0] * shape[1] * OPS[op].samples > MOST:
                        continue
                    found = measure(op, shape, dtype, device, args, console)
                    results.append(found)
                    add_row(table, found, args.baselines)
                console.print(table)
                if out:  # so that a run which is cut short leaves what it has
                    write(out, results, [], device)
        if args.training:
            steps = training.measure(device, args.rounds, console)
            if out:
                write(out, results, steps, device)


if __name__ == "__main__":
    main()
