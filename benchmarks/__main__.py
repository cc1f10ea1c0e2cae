"""Time the ops, forward and backward, beside eager PyTorch and torch.compile, in one process.

python -m benchmarks --ops sample_kl --sizes 128x20 256x4096 --threads 2
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

import vae_ext

from .harness import Timing, interleave, summarize
from .ops import OPS, steps

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


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
    parser.add_argument("--ops", nargs="+", choices=tuple(OPS), default=list(OPS))
    sizes = [(128, 20), (256, 4096), (256, 16384)]
    parser.add_argument("--sizes", nargs="+", type=size, default=sizes, help="like 256x4096")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    return parser.parse_args()


def cell(timing: Timing) -> str:
    return f"{timing.p50:.3f} ({timing.p20:.3f}–{timing.p80:.3f})"


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    console = Console()
    console.print(
        f"vae_ext {vae_ext.__version__} ({vae_ext.simd_level()}), torch {torch.__version__}, "
        f"{args.threads} threads, {platform.processor() or platform.machine()}; ms per forward and "
        f"backward, median (p20–p80) of {args.rounds} interleaved rounds"
    )
    results = []
    for op in args.ops:
        table = Table(title=f"{op}, {args.dtype}", box=SIMPLE, title_justify="left")
        for column in ("size", "eager", "compile", "vae_ext", "eager / ours", "compile / ours"):
            table.add_column(column, justify="right")
        for shape in args.sizes:
            contenders = steps(op, shape, DTYPES[args.dtype], not args.no_compile)
            rounds = interleave(contenders, args.rounds)
            label = f"{op} {shape[0]} × {shape[1]}"
            samples = list(track(rounds, label, total=args.rounds, console=console, transient=True))
            timings = summarize(samples)
            row = [f"{shape[0]} × {shape[1]}"]
            for name in ("eager", "compile", "vae_ext"):
                row.append(cell(timings[name]) if name in timings else "")
            for name in ("eager", "compile"):
                ratio = timings[name].p50 / timings["vae_ext"].p50 if name in timings else None
                row.append("" if ratio is None else f"{ratio:.2f}")
            table.add_row(*row)
            results.append(
                {"op": op, "shape": shape, "dtype": args.dtype}
                | {name: vars(timing) for name, timing in timings.items()}
            )
        console.print(table)
    if args.out:
        machine = {
            "torch": torch.__version__,
            "vae_ext": vae_ext.__version__,
            "simd": vae_ext.simd_level(),
            "threads": args.threads,
            "platform": platform.platform(),
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
