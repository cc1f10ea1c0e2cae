"""What the hardware counts of every kernel, by Nsight Compute: time, instructions by pipe, bytes.

    python -m benchmarks.counters --sizes 4096x16384 --dtypes float32 bfloat16 --out counters.json

The clocks are left as they are. Times are of one launch each, under the profiler: for speed, see
`python -m benchmarks`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from . import images, machine, priors
from .__main__ import DTYPES, size
from .harness import Step
from .ops import OPS, Contest

PIPES = ("alu", "fma", "fmaheavy", "fp64", "xu", "lsu", "uniform")
METRICS = {
    "nanoseconds": "gpu__time_duration.sum",
    "instructions": "smsp__inst_executed.sum",
    "read": "dram__bytes_read.sum",
    "written": "dram__bytes_write.sum",
    "registers": "launch__registers_per_thread",
    "warps %": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "issue %": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "dram %": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    **{pipe: f"smsp__inst_executed_pipe_{pipe}.sum" for pipe in PIPES},
}


def image(kind: str, batch: int) -> tuple[tuple[int, int], Callable[[], dict[str, Step]]]:
    size = batch * 32 * 32, images.PARAMETERS[kind]
    return size, lambda: images.loss_alone(kind, batch)


def mixture(rows: int, components: int, dims: int) -> tuple[Any, Callable[[], dict[str, Step]]]:
    terms = priors.usual_mixture, priors.our_mixture
    return (rows, components * dims), lambda: priors.alone(terms, rows, components, dims)


# Ops whose elements have several parameters, with the size of all of these.
PARAMETERS = {
    "logistic_mixture": image("logistic mixture", 512),
    "classes": image("256 classes", 256),
    "mixture_of_500": mixture(1024, 500, 16),
    "mixture_of_64": mixture(4096, 64, 8),
    "mixture_of_10": mixture(65536, 10, 64),
    "mixture_of_4096": mixture(4096, 4096, 32),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.counters",
        description=(__doc__ or "").split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--ops", nargs="*", choices=tuple(OPS), default=list(OPS))
    more = "and those whose elements have several parameters, in float32, of sizes of their own"
    parser.add_argument("--parameters", action="store_true", help=more)
    parser.add_argument("--sizes", nargs="+", type=size, default=[(4096, 16384)])
    parser.add_argument("--dtypes", nargs="+", choices=tuple(DTYPES), default=["float32"])
    parser.add_argument("--out", type=Path, default=Path("counters.json"))
    parser.add_argument("--steps", action="store_true", help="only run them, under the profiler")
    return parser.parse_args()


def run_step(name: str, step: Step) -> None:
    step()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    # Of the process: the backward pass has a thread of its own.
    mark = torch.cuda.nvtx.range_start(name)
    step()
    torch.cuda.synchronize()
    torch.cuda.nvtx.range_end(mark)
    torch.cuda.profiler.stop()


def run_steps(args: argparse.Namespace) -> None:
    """Each op's forward and backward pass once, in a range that bears its name."""
    device = torch.device("cuda")
    for op, ((rows, columns), case) in PARAMETERS.items() if args.parameters else ():
        with device:
            steps = case()
        run_step(f"{op}/float32/{rows}x{columns}", steps["vae_ext"])
    for op in args.ops:
        for dtype in args.dtypes:
            for shape in args.sizes:
                contest = Contest(op, shape, DTYPES[dtype], device, ())
                run_step(f"{op}/{dtype}/{shape[0]}x{shape[1]}", contest.steps["vae_ext"])
                del contest
                torch.cuda.empty_cache()


def metrics_of_this_card(profiler: str) -> list[str]:
    """An unknown name would end the profiler."""
    query = [profiler, "--query-metrics"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    names = {line.split()[0] for line in listed.splitlines() if "__" in line.split(" ")[0]}
    return [
        m
        for m in METRICS.values()
        if m.startswith("launch__") or not names or m.split(".")[0] in names
    ]


def command(args: argparse.Namespace, log: Path) -> list[str]:
    profiler = shutil.which("ncu") or "/usr/local/cuda/bin/ncu"
    metrics = ",".join(metrics_of_this_card(profiler))
    sizes = [f"{rows}x{columns}" for rows, columns in args.sizes]
    return [
        *(profiler, "--clock-control", "none", "--profile-from-start", "off", "--nvtx"),
        *("--kernel-name", "regex:kernel", "--metrics", metrics),
        *("--csv", "--page", "raw", "--print-units", "base", "--log-file", str(log)),
        *(sys.executable, "-m", "benchmarks.counters", "--steps", "--ops", *args.ops),
        *("--sizes", *sizes, "--dtypes", *args.dtypes, *["--parameters"] * args.parameters),
    ]


def short(kernel: str) -> str:
    name = re.sub(r"vae_ext::|\(anonymous namespace\)::|<unnamed>::|^void ", "", kernel)
    return re.sub(r"\(.*", "", name)


def read(log: Path) -> list[dict[str, object]]:
    lines = [line for line in log.read_text().splitlines() if line.startswith('"')]
    found: list[dict[str, object]] = []
    for row in csv.DictReader(lines):
        if not row.get("ID"):  # the units
            continue
        ranges = [re.search(r"(\w+)/(\w+)/(\d+)x(\d+)", v or "") for v in row.values()]
        where = next((r for r in ranges if r), None)
        if where is None or "vae_ext" not in row["Kernel Name"]:
            continue
        op, dtype, rows, columns = where.groups()
        numbers = {
            key: float(row[metric].replace(",", ""))
            for key, metric in METRICS.items()
            if re.match(r"[\d.,]+$", row.get(metric) or "")
        }
        found.append(
            {
                "op": op,
                "dtype": dtype,
                "rows": int(rows),
                "columns": int(columns),
                "kernel": short(row["Kernel Name"]),
                **numbers,
            }
        )
    return found


def show(found: list[dict[str, object]]) -> None:
    table = Table(box=SIMPLE)
    shown = ["instructions", *PIPES]
    for column in ("op", "kernel", "µs", "GB/s", *shown, "registers", "warps %", "issue %"):
        table.add_column(column, justify="left" if column in ("op", "kernel") else "right")
    for row in found:
        elements = row["rows"] * row["columns"]  # type: ignore[operator]
        per_thread = {k: 32 * row.get(k, 0) / elements for k in shown}  # type: ignore[operator]
        moved = row["read"] + row["written"]  # type: ignore[operator]
        table.add_row(
            f"{row['op']} {row['dtype']} {row['rows']} × {row['columns']}",
            str(row["kernel"])[:40],
            f"{row['nanoseconds'] / 1e3:.1f}",  # type: ignore[operator]
            f"{moved / row['nanoseconds']:.0f}",
            *(f"{per_thread[k]:.1f}" for k in shown),
            f"{row['registers']:.0f}",
            f"{row['warps %']:.0f}",
            f"{row['issue %']:.0f}",
        )
    Console(width=220).print(table)


def main() -> int:
    args = parse()
    if args.steps:
        run_steps(args)
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    log = args.out.with_suffix(".ncu.csv")
    status = subprocess.run(command(args, log), env=dict(os.environ), check=False).returncode
    found = read(log) if log.exists() else []
    about = machine.describe(torch.device("cuda"))
    args.out.write_text(json.dumps({"machine": about, "kernels": found}, indent=1) + "\n")
    show(found)
    return status or (0 if found else 1)


if __name__ == "__main__":
    sys.exit(main())
